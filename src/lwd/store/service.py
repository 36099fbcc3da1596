"""The metadata service: the one address that a robot needs besides the object store."""

import logging
import math
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import Annotated
from urllib.parse import urlparse

import uvicorn
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from lwd.config import PlaneConfig
from lwd.episode.trace import span
from lwd.episode.types import Kind, Outcome
from lwd.errors import ConfigError, ConflictError, EpisodeError, LwdError, ServiceError
from lwd.store import metrics
from lwd.store.access import READ, UPLOAD, Access, RefusedError, load_access
from lwd.store.catalog import Catalog
from lwd.store.heartbeats import Heartbeats, add_heartbeats
from lwd.store.limits import Rates, body_fault
from lwd.store.process import LOOPBACK, allow_connections, listen, split_url, stop_on_signals
from lwd.store.queue import Queue
from lwd.store.relay import Bell, relay, watch_weights
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow
from lwd.store.seat_routes import add_seats
from lwd.store.seats import Seats

log = logging.getLogger(__name__)

MAX_WAIT_S = 60.0
MOST = 2**31 - 1
"""Largest number that a column of the catalog holds."""
MOST_CONNECTIONS = 20_000
MAX_NAME = 128
MAX_INSTRUCTION = 4096
MAX_PAYLOAD_BYTES = 4 * 1024**3
STATUS_OF = {ConflictError: 409, EpisodeError: 422, ServiceError: 503}

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What a database refuses in a text."""

Token = Annotated[str | None, Header(alias="Authorization")]
Version = Annotated[int, Path(ge=0, le=MOST)]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the requests share."""

    catalog: Catalog
    access: Access = field(default_factory=Access)
    bell: Bell = field(default_factory=Bell)
    wake: threading.Event = field(default_factory=threading.Event)
    """Set after an insert, so that the relay does not wait for its next look."""
    beats: Heartbeats = field(default_factory=lambda: Heartbeats(time.time))
    seats: Seats = field(default_factory=Seats)
    rates: Rates = field(default_factory=lambda: Rates(0.0))


def _is_name(text: str) -> bool:
    """Commas separate the names of a canary's robots."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and "," not in text


def check_row(row: EpisodeRow) -> EpisodeRow:
    """The row, if every field is plausible; else EpisodeError that names the field."""
    problems = {
        "episode_id": not re.fullmatch("[0-9a-f]{32}", row.episode_id),
        "sha256": not re.fullmatch("[0-9a-f]{64}", row.sha256),
        "size_bytes": not 0 < row.size_bytes <= MAX_PAYLOAD_BYTES,
        "robot": not _is_name(row.robot),
        "task": not _is_name(row.task),
        "instruction": len(row.instruction) > MAX_INSTRUCTION
        or _UNSTORABLE.search(row.instruction),
        "kind": row.kind not in list(Kind),
        "outcome": row.outcome not in list(Outcome),
        "policy_version": not 0 <= row.policy_version < 2**31,
        "ticks": not 0 < row.ticks < 2**31,
        "horizon": not 0 < row.horizon < 2**31,
        "rate_hz": not (math.isfinite(row.rate_hz) and row.rate_hz > 0),
        "produced_at": not math.isfinite(row.produced_at),
        "interventions": not 0 <= row.interventions <= row.ticks,
    }
    wrong = [f"{name}={getattr(row, name)!r:.80}" for name, bad in problems.items() if bad]
    if wrong:
        raise EpisodeError(
            f"Episode row is not valid: {', '.join(wrong)}. Ids are 32 and hashes 64 lower-case "
            f"hex digits, kinds {', '.join(Kind)}, outcomes {', '.join(Outcome)}, sizes positive."
        )
    return row


def create_app(catalog: Catalog, parts: Parts | None = None) -> FastAPI:
    """The HTTP interface of a catalog."""
    shared = parts or Parts(catalog=catalog)
    app = FastAPI(title="lwd metadata service", openapi_url=None)
    app.middleware("http")(_limits(shared))
    app.exception_handler(LwdError)(_answer_error)
    app.exception_handler(RequestValidationError)(_answer_invalid)
    _add_uploads(app, shared)
    _add_weights(app, shared)
    _add_status(app, shared)
    add_heartbeats(app, shared.beats, shared.access)
    add_seats(app, shared.seats, shared.access, shared.catalog)
    return app


def _add_uploads(app: FastAPI, parts: Parts) -> None:
    @app.post("/episodes")
    def insert_episode(row: EpisodeRow, authorization: Token = None) -> dict[str, str]:
        parts.access.check(authorization, UPLOAD, row.robot)
        with span("catalogue", check_row(row).episode_id, robot=row.robot):
            new = parts.catalog.insert_episode(row)
        metrics.INSERTS.add(result="inserted" if new else "duplicate")
        parts.wake.set()
        log.info("episode=%s robot=%s task=%s new=%s", row.episode_id, row.robot, row.task, new)
        return {"status": "inserted" if new else "duplicate"}

    @app.post("/loads")
    def report_load(row: LoadRow, authorization: Token = None) -> dict[str, str]:
        parts.access.check(authorization, UPLOAD, row.robot)
        fine = _is_name(row.robot) and math.isfinite(row.loaded_at) and 0 < row.version <= MOST
        if not fine:
            raise EpisodeError(f"Load report is not valid: {row}.")
        parts.catalog.report_load(row)
        log.info("load robot=%s version=%d", row.robot, row.version)
        return {"status": "reported"}


def _add_weights(app: FastAPI, parts: Parts) -> None:
    @app.get("/weights/latest", response_model=WeightsRow)
    async def latest_weights(
        after: Annotated[int, Query(ge=0, le=MOST)] = 0,
        robot: Annotated[str, Query(max_length=MAX_NAME)] = "",
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0,
        authorization: Token = None,
    ) -> Response | WeightsRow:
        parts.access.check(authorization, READ, robot or None)
        seen = await run_in_threadpool(parts.catalog.latest_weights)
        row = await run_in_threadpool(parts.catalog.weights_for, robot)
        if row is None or row.version <= after:
            rung = await parts.bell.wait(seen.version if seen else 0, wait_s)
            row = rung and await run_in_threadpool(parts.catalog.weights_for, robot)
        return row if row and row.version > after else Response(status_code=204)

    @app.get("/weights/{version}", response_model=WeightsRow)
    def weights(version: Version, authorization: Token = None) -> Response | WeightsRow:
        parts.access.check(authorization, READ)
        row = parts.catalog.weights(version)
        missing = {"detail": f"Weights version {version} was never published."}
        return JSONResponse(missing, 404) if row is None else row


def _add_status(app: FastAPI, parts: Parts) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/status")
    def status(authorization: Token = None) -> dict[str, object]:
        parts.access.check(authorization, READ)
        catalog, newest = parts.catalog, parts.catalog.latest_weights()
        return {
            "episodes": catalog.count_episodes(),
            "snapshot": catalog.snapshot_version(),
            "weights": asdict(newest) if newest else None,
            "robots": catalog.acting(),
            "backlog": catalog.backlog(),
            "dead_letters": len(catalog.dead_letters()),
        }


def _limits(parts: Parts) -> Callable[..., Awaitable[Response]]:
    """Refuses what is too large or comes too often, before anybody looks at it."""

    async def _limit(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        fault = body_fault(request.method, request.headers.get("content-length", ""))
        if fault is not None:
            return JSONResponse({"detail": fault[1]}, fault[0])
        address = request.client.host if request.client else ""
        client = parts.access.client(request.headers.get("authorization"), address)
        if client and (wait_s := parts.rates.wait_s(client)):
            log.warning("too many requests client=%.80s path=%s", client, request.url.path)
            retry = {"Retry-After": str(math.ceil(wait_s))}
            return JSONResponse({"detail": "Too many requests; wait."}, 429, retry)
        return await call_next(request)

    return _limit


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RefusedError):
        status = error.status
    else:
        status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
    log.warning("refused path=%s status=%d reason=%s", request.url.path, status, error)
    return JSONResponse({"detail": str(error)}, status)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(wrong)}, 422)


def serve(
    config: PlaneConfig,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Process main: answer robots and relay notices until SIGTERM, SIGINT or `stop`.

    `clock` gives the UTC seconds that the catalog notes down; it may be wrong.
    ServiceError if the port is taken, the catalog cannot be opened, or the service would be open
    to other machines.
    """
    stop = stop or stop_on_signals()
    allow_connections()
    host, port = split_url(config.service_url, ("http", "https"))
    access = load_access(config.tokens)
    _check_exposure(config, host, access)
    with (
        listen(host, port, what="metadata service") as socket,
        Catalog(config.catalog, clock) as catalog,
        Queue(config.queue_url) as queue,
    ):
        rates = Rates(config.requests_per_s)
        parts = Parts(catalog=catalog, access=access, rates=rates)
        settings = uvicorn.Config(
            create_app(catalog, parts),
            log_config=None,
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=5,
            limit_concurrency=MOST_CONNECTIONS,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
        )
        log.info("service ready url=%s", config.service_url)
        _run(uvicorn.Server(settings), socket, queue, parts, stop)


def _run(server: uvicorn.Server, socket, queue: Queue, parts: Parts, stop: threading.Event) -> None:
    """Three threads; when one ends, or `stop` is set, all end, and an error of one is raised."""
    ended = threading.Event()
    with ThreadPoolExecutor(3, "service") as pool:
        threads: list[Future] = [
            pool.submit(server.run, [socket]),
            pool.submit(relay, parts.catalog, queue, parts.wake, ended),
            pool.submit(watch_weights, parts.catalog, parts.bell, ended),
        ]
        while not stop.wait(0.1) and not any(thread.done() for thread in threads):
            pass
        ended.set()
        parts.wake.set()
        parts.bell.close()
        parts.seats.close()
        server.should_exit = True
        wait(threads, return_when=FIRST_COMPLETED)
    for thread in threads:
        thread.result()
    if not stop.is_set():
        raise ServiceError("The service ended by itself; its log says why.")


def _check_exposure(config: PlaneConfig, host: str, access: Access) -> None:
    """ConfigError where the settings would leave the service open, or not do what they say."""
    if access.open and host not in LOOPBACK:
        raise ConfigError(
            f"The service refuses to listen on {host} without tokens: everybody could write. "
            "Give --tokens FILE, or use 127.0.0.1."
        )
    secure = urlparse(config.service_url).scheme == "https"
    if secure != (config.tls_cert is not None) or secure != (config.tls_key is not None):
        raise ConfigError(
            f"Service URL {config.service_url!r} does not fit the certificate: https:// needs "
            "--tls-cert and --tls-key, http:// takes neither."
        )
    for path in (config.tls_cert, config.tls_key):
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(f"TLS file {path} is not readable.")
