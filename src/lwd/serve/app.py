"""The server's interface: the robots' websocket, health, metrics, and marks over HTTP."""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from lwd.episode.types import Outcome
from lwd.errors import ConflictError, LwdError, MissingError, ServiceError
from lwd.serve.archive import Kept
from lwd.serve.serving import Connection, Serving
from lwd.serve.session import Session, checked_name
from lwd.serve.wire import RequestError, pack
from lwd.store.access import READ, UPLOAD, RefusedError
from lwd.store.limits import body_fault

log = logging.getLogger(__name__)

Token = Annotated[str | None, Header(alias="Authorization")]
MAX_BODY_BYTES = 4096
MOST_MISTAKES = 10
"""Messages in a row that are not understood; then the connection is closed."""
STATUS_OF = {ConflictError: 409, MissingError: 404, RequestError: 422, ServiceError: 503}
POLICY_VIOLATION = 1008
GOING_AWAY = 1001
HEALTHY = PlainTextResponse("OK\n")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a robot's episode ended."""

    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Takeover:
    """Whether a person has the robot."""

    human: bool


def create_app(serving: Serving) -> FastAPI:
    """The ASGI application of a server."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        work = [serving.batcher.run(), serving.sweep()]
        work += [serving.beats.run()] if serving.beats else []
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            serving.close()

    app = FastAPI(title="lwd policy server", openapi_url=None, lifespan=life)
    app.add_middleware(_Door)
    app.exception_handler(LwdError)(_answer_error)
    app.exception_handler(RequestValidationError)(_answer_invalid)
    _add_watching(app, serving)
    _add_marks(app, serving)

    @app.websocket("/")
    async def robot(websocket: WebSocket) -> None:
        connection = await _admitted(serving, websocket)
        if connection is not None:
            await _talk(serving, websocket, connection)

    return app


def _add_watching(app: FastAPI, serving: Serving) -> None:
    @app.get("/metrics")
    async def metrics() -> Response:
        now = serving.metrics
        now.robots.set(len(serving.connections))
        now.waiting.set(serving.batcher.waiting)
        now.held.set(serving.archive.held if serving.archive else 0)
        try:
            now.version.set(serving.policies.current().version)
        except ServiceError:
            now.version.set(0)
        return Response(now.text(), media_type="text/plain; version=0.0.4")

    @app.get("/robots")
    async def robots(authorization: Token = None) -> list[dict[str, Any]]:
        serving.access.check(_bearer(authorization), READ)
        return [_described(session) for session in serving.sessions.all()]


def _add_marks(app: FastAPI, serving: Serving) -> None:
    @app.post("/robots/{robot}/outcome")
    async def outcome(robot: str, verdict: Verdict, authorization: Token = None) -> dict[str, Any]:
        session = _session(serving, robot, authorization)
        running = session.running
        if running is None:
            raise ConflictError(f"robot {robot!r} has no running episode; it asks first.")
        session.ended = running.key
        kept = serving.end(session, verdict.outcome)
        return {"robot": robot, "outcome": verdict.outcome, **await _saved(kept)}

    @app.post("/robots/{robot}/intervention")
    async def intervention(
        robot: str, takeover: Takeover, authorization: Token = None
    ) -> dict[str, Any]:
        session = _session(serving, robot, authorization)
        serving.mark(session, human=takeover.human)
        log.info("mark robot=%s human=%s", robot, takeover.human)
        return {"robot": robot, "human": takeover.human}


def _session(serving: Serving, robot: str, authorization: str | None) -> Session:
    serving.access.check(_bearer(authorization), UPLOAD, robot)
    session = serving.sessions.find(robot)
    if session is None:
        known = ", ".join(s.robot for s in serving.sessions.all()) or "none"
        raise MissingError(f"robot {robot!r:.80} is not here. Known: {known:.400}.")
    return session


async def _saved(kept: Future[Kept] | None) -> dict[str, Any]:
    if kept is None:
        return {"saved": False, "reason": "this episode is not recorded"}
    done = await asyncio.wrap_future(kept)
    return {"episode": done.episode_id, "ticks": done.ticks, "saved": done.saved} | (
        {"reason": done.reason} if done.reason else {}
    )


def _described(session: Session) -> dict[str, Any]:
    running = session.running
    return {
        "robot": session.robot,
        "connected": session.holder is not None,
        "episode": running.key if running else "",
        "recorded_as": running.track.episode_id if running and running.track else "",
        "policy_version": running.policy.version if running else 0,
        "requests": running.requests if running else 0,
        "started_at": running.started_at if running else None,
        "human": running.human if running else False,
    }


async def _admitted(serving: Serving, websocket: WebSocket) -> Connection | None:
    """The robot's connection, or None after an HTTP answer that says why not."""
    authorization = _bearer(websocket.headers.get("authorization"))
    try:
        serving.access.check(authorization, READ)
        robot = websocket.query_params.get("robot") or serving.access.whose(authorization)
        if robot:
            serving.access.check(authorization, READ, checked_name(robot))
        if len(serving.connections) >= serving.config.robots:
            raise ServiceError(
                f"{serving.config.robots} robots are connected, which is all that may; "
                "raise --robots or add a server."
            )
        greeting = pack(serving.metadata)
    except LwdError as error:
        serving.metrics.refused.labels(reason=type(error).__name__).inc()
        address = websocket.client.host if websocket.client else "?"
        log.warning("robot refused address=%s reason=%s", address, error)
        await websocket.send_denial_response(await _answer_error(websocket, error))
        return None
    connection = Connection(
        authorization=authorization, robot=robot or serving.sessions.guest(), greeting=greeting
    )
    serving.connections.add(connection)
    return connection


async def _talk(serving: Serving, websocket: WebSocket, connection: Connection) -> None:
    """Greet and answer one robot until it goes, falls silent or is not understood."""
    mistakes = 0
    try:
        await websocket.accept()
        await websocket.send_bytes(connection.greeting)
        while mistakes < MOST_MISTAKES:
            async with asyncio.timeout(serving.config.silence_s):
                message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                given = message.get("bytes")
                reply = await serving.answer(
                    connection, message.get("text", "") if given is None else given
                )
                await websocket.send_bytes(pack(reply))
                mistakes = 0
            except LwdError as error:
                mistakes += isinstance(error, RequestError)
                log.warning("request refused robot=%s reason=%s", _name(connection), error)
                await websocket.send_text(str(error))
                if isinstance(error, (ConflictError, RefusedError)):
                    break
        await websocket.close(POLICY_VIOLATION, "see the message before")
    except TimeoutError:
        await websocket.close(GOING_AWAY, f"silent for {serving.config.silence_s:g} s")
    except WebSocketDisconnect:
        pass
    finally:
        serving.left(connection)


def _name(connection: Connection) -> str:
    return connection.session.robot if connection.session else connection.robot


def _bearer(authorization: str | None) -> str | None:
    """openpi's client says `Api-Key KEY` where HTTP says `Bearer KEY`."""
    kind, _, key = (authorization or "").partition(" ")
    return f"Bearer {key}" if kind.lower() == "api-key" else authorization


class _Door:
    """What is answered before the application is asked: whether the server lives, in a single turn
    of the event loop, each of which robots' messages may lengthen; and bodies that are too large.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http":
            answer = HEALTHY if scope["path"] == "/healthz" else _too_large(scope) or answer
        await answer(scope, receive, send)


def _too_large(scope: Scope) -> Response | None:
    """The refusal of a body that is large, or does not say how large it is."""
    length = Headers(scope=scope).get("content-length", "")
    fault = body_fault(scope["method"], length, MAX_BODY_BYTES)
    return JSONResponse({"detail": fault[1]}, fault[0]) if fault else None


async def _answer_error(request: Request | WebSocket, error: Exception) -> Response:
    if isinstance(error, RefusedError):
        status = error.status
    else:
        status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
    return JSONResponse({"detail": str(error)}, status)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(wrong)}, 422)
