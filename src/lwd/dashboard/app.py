"""The page's HTTP interface: static files, what it reads, what people may change."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import BaseHTTPMiddleware

from lwd.dashboard import actions, stream
from lwd.dashboard.actions import Amend, Release
from lwd.dashboard.board import Board
from lwd.dashboard.critic import Critic
from lwd.dashboard.drive import add_drive
from lwd.dashboard.gate import COOKIE, Gate
from lwd.dashboard.viewer import Viewer, series
from lwd.episode.labels import NONE
from lwd.errors import (
    ConfigError,
    ConflictError,
    EpisodeError,
    LwdError,
    MissingError,
    ServiceError,
)
from lwd.store import lineage
from lwd.store.access import OPERATE, READ, RefusedError
from lwd.store.catalog import Catalog
from lwd.store.client import ServiceClient
from lwd.store.rows import EpisodeRow

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
MOST_EPISODES = 500
STATUS_OF = {
    MissingError: 404,
    ConfigError: 422,
    ConflictError: 409,
    EpisodeError: 422,
    ServiceError: 503,
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the requests share."""

    catalog: Catalog
    board: Board
    gate: Gate
    viewer: Viewer
    critic: Critic
    bell: stream.Bell
    service: ServiceClient
    clock: Callable[[], float] = time.time
    every_s: float = 1.0
    """Seconds between two looks at the catalog."""


def create_app(parts: Parts) -> FastAPI:
    """The page of a fleet; it looks at the catalog while it runs."""
    app = FastAPI(title="lwd dashboard", openapi_url=None, lifespan=lambda _: _looking(parts))
    app.add_middleware(GZipMiddleware, minimum_size=2048)
    app.add_middleware(BaseHTTPMiddleware, dispatch=parts.gate.guard)
    app.exception_handler(LwdError)(_answer_error)
    app.exception_handler(RequestValidationError)(_answer_invalid)
    _add_page(app, parts)
    _add_fleet(app, parts)
    _add_episodes(app, parts)
    _add_actions(app, parts)
    add_drive(app, parts.gate, parts.service)
    return app


@contextlib.asynccontextmanager
async def _looking(parts: Parts) -> AsyncIterator[None]:
    over = asyncio.Event()
    task = asyncio.create_task(_look(parts, over))
    yield
    parts.bell.close()
    over.set()
    await task  # a look under way keeps a connection until it ends


async def _look(parts: Parts, over: asyncio.Event) -> None:
    """Look now and then; a catalog that is away is looked for again."""
    failing = False
    while not over.is_set():
        started = time.monotonic()
        try:
            if await run_in_threadpool(parts.board.look):
                parts.bell.ring()
            failing = False
        except ServiceError as error:
            log.log(logging.DEBUG if failing else logging.WARNING, "look failed error=%s", error)
            failing = True
        pause_s = max(parts.every_s - (time.monotonic() - started), 0.02)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), pause_s)


def _add_page(app: FastAPI, parts: Parts) -> None:
    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=STATIC))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/session")
    async def session(request: Request) -> dict[str, Any]:
        return {"open": parts.gate.access.open, "scopes": parts.gate.scopes(request)}

    @app.post("/api/session")
    async def sign_in(given: dict[str, str], response: Response) -> dict[str, str]:
        parts.gate.sign_in(response, given.get("token", ""))
        return {"status": "signed in"}

    @app.delete("/api/session")
    async def sign_out(response: Response) -> dict[str, str]:
        response.delete_cookie(COOKIE)
        return {"status": "signed out"}


def _add_fleet(app: FastAPI, parts: Parts) -> None:
    board, gate = parts.board, parts.gate

    @app.get("/events")
    async def events(request: Request) -> StreamingResponse:
        gate.check(request, READ)
        found = stream.events(board, parts.bell, parts.clock)
        return StreamingResponse(found, media_type="text/event-stream")

    @app.get("/api/success")
    def success(request: Request, unaided: bool = False) -> dict[str, Any]:
        gate.check(request, READ)
        return board.success(unaided=unaided)

    @app.get("/api/learner")
    def learner(request: Request) -> dict[str, Any]:
        gate.check(request, READ)
        return board.learner()

    @app.get("/api/policies")
    def policies(request: Request) -> list[dict[str, Any]]:
        gate.check(request, READ)
        acting = board.acting()
        robots: dict[int, list[str]] = {}
        for robot, version in sorted(acting.items()):
            robots.setdefault(version, []).append(robot)
        return [asdict(row) | {"acting": robots.get(row.version, [])} for row in board.weights]

    @app.get("/api/audit")
    def audit(request: Request) -> list[dict[str, Any]]:
        gate.check(request, READ)
        trail = [entry._asdict() for entry in board.amendments]
        released = [
            {"note": row.note, "at": row.published_at, "version": row.version}
            for row in board.weights
            if row.note
        ]
        told = [entry._asdict() for entry in board.handovers]
        return sorted([*trail, *released, *told], key=lambda entry: -entry["at"])[:MOST_EPISODES]


def _add_episodes(app: FastAPI, parts: Parts) -> None:
    catalog, gate = parts.catalog, parts.gate

    @app.get("/api/episodes")
    def episodes(
        request: Request,
        robot: str = "",
        task: str = "",
        kind: str = "",
        outcome: str = "",
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        gate.check(request, READ)
        wanted = {"robot": robot, "task": task, "kind": kind, "outcome": outcome}
        filters: dict[str, Any] = {name: value for name, value in wanted.items() if value}
        rows = catalog.newest_episodes(max(1, min(limit, MOST_EPISODES)), **filters)
        return [asdict(row) for row in rows]

    @app.get("/api/episodes/{episode_id}")
    def episode(request: Request, episode_id: str) -> dict[str, Any]:
        gate.check(request, READ)
        life = lineage.episode(catalog, episode_id)
        return {
            "row": asdict(life.row),
            "acted": asdict(life.acted) if life.acted else None,
            "joined": life.joined,
            "amendments": [entry._asdict() for entry in life.amendments],
            "trained": life.trained,
        }

    @app.get("/api/episodes/{episode_id}/ticks")
    def ticks(request: Request, episode_id: str) -> dict[str, Any]:
        gate.check(request, READ)
        entries = catalog.episode_log(episode_id)
        labels = entries[-1].labels if entries else NONE
        return series(parts.viewer.episode(_row(catalog, episode_id)), labels)

    @app.get("/api/episodes/{episode_id}/values")
    def values(request: Request, episode_id: str) -> dict[str, Any]:
        gate.check(request, READ)
        return parts.critic.values(parts.viewer.path(_row(catalog, episode_id)))

    @app.get("/api/episodes/{episode_id}/frames/{camera}/{tick}")
    def frame(request: Request, episode_id: str, camera: str, tick: int) -> Response:
        gate.check(request, READ)
        image = parts.viewer.frame(_row(catalog, episode_id), camera, tick)
        kept = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(image, media_type="image/jpeg", headers=kept)


def _add_actions(app: FastAPI, parts: Parts) -> None:
    @app.post("/api/episodes/{episode_id}/amend")
    def amend(request: Request, episode_id: str, wanted: Amend) -> dict[str, Any]:
        who = actions.author(parts.gate.check(request, OPERATE), wanted.author)
        done = actions.amend(parts.catalog, episode_id, wanted, who)
        log.info("amend episode=%s change=%s author=%s", episode_id, wanted.change, who)
        return done

    @app.post("/api/policies/{version}/{kind}")
    def release(request: Request, version: int, kind: str, wanted: Release) -> dict[str, Any]:
        who = actions.author(parts.gate.check(request, OPERATE), wanted.author)
        done = actions.release(parts.catalog, kind, version, wanted, who)
        log.info("release kind=%s of=%d author=%s", kind, version, who)
        return done


def _row(catalog: Catalog, episode_id: str) -> EpisodeRow:
    row = catalog.episode(episode_id)
    if row is None:
        raise MissingError(f"Episode {episode_id[:80]} is not in the catalog.")
    return row


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RefusedError):
        status = error.status
    else:
        status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
    log.info("refused path=%s status=%d reason=%s", request.url.path, status, error)
    return JSONResponse({"detail": str(error)}, status)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(wrong)}, 422)
