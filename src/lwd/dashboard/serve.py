"""The page's process."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import uvicorn

from lwd.config import PlaneConfig
from lwd.dashboard.app import Parts, create_app
from lwd.dashboard.board import Board
from lwd.dashboard.critic import Critic
from lwd.dashboard.gate import Gate
from lwd.dashboard.stream import Bell
from lwd.dashboard.viewer import Viewer
from lwd.errors import ConfigError, ServiceError
from lwd.store.access import load_access
from lwd.store.catalog import Catalog
from lwd.store.client import ServiceClient
from lwd.store.heartbeats import Beat
from lwd.store.migrate import open_engine
from lwd.store.objects import Objects
from lwd.store.process import LOOPBACK, allow_connections, listen, split_url, stop_on_signals

log = logging.getLogger(__name__)

WORD_S = 3.0
"""Longest wait for the service to pass a person's word on."""
RETRY_S = 10.0
"""Pause before a service that did not answer is asked for heartbeats again."""


def serve(
    plane: PlaneConfig,
    url: str,
    *,
    every_s: float = 1.0,
    stop: threading.Event | None = None,
    started: Callable[[str], None] = lambda url: None,
) -> None:
    """Answer browsers until SIGTERM, SIGINT or `stop`; `started` gets the URL with its port.

    ConfigError where the page would be open to other machines, ServiceError where the port is taken
    or the catalog cannot be opened.
    """
    stop = stop or stop_on_signals()
    host, port = split_url(url, ("http", "https"), 0)
    secure = url.startswith("https://")
    access = load_access(plane.tokens)
    if access.open and host not in LOOPBACK:
        raise ConfigError(
            f"The dashboard refuses to listen on {host} without tokens: everybody could change "
            "the data set. Give --tokens FILE, or use 127.0.0.1."
        )
    if secure != (plane.tls_cert is not None and plane.tls_key is not None):
        raise ConfigError(f"URL {url!r}: https:// needs --tls-cert and --tls-key, http:// neither.")
    allow_connections()
    with listen(host, port, what="dashboard") as socket, parts_of(plane) as shared:
        bound = f"{'https' if secure else 'http'}://{host}:{socket.getsockname()[1]}"
        app = create_app(Parts(**shared, gate=Gate(access, secure=secure), every_s=every_s))
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=2,
            ssl_certfile=plane.tls_cert,
            ssl_keyfile=plane.tls_key,
        )

        def ready() -> None:
            log.info("dashboard ready url=%s", bound)
            started(bound)

        _run(uvicorn.Server(settings), socket, shared["bell"], stop, ready)


@contextmanager
def parts_of(plane: PlaneConfig) -> Iterator[dict]:
    """Catalog, board, viewer and critic of a run, closed at the end."""
    engine = open_engine(plane.catalog)
    viewer, critic = (
        Viewer(Objects(plane.objects)),
        Critic(plane.root / "checkpoints"),
    )
    try:
        with (
            Catalog(plane.catalog) as catalog,
            ServiceClient(plane.service_url) as client,
            ServiceClient(plane.service_url, timeout_s=WORD_S) as service,
        ):
            yield {
                "catalog": catalog,
                "board": Board(engine, plane.root, Patient(client), time.time),
                "viewer": viewer,
                "critic": critic,
                "bell": Bell(),
                "service": service,
            }
    finally:
        critic.close()
        viewer.close()
        engine.dispose()


class Patient:
    """Heartbeats from the service; while it does not answer, what it said last."""

    def __init__(self, client: ServiceClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock, self._not_before = client, clock, 0.0
        self._beats: dict[str, Beat] = {}
        self._newest, self._silent = 0.0, False

    def __call__(self) -> Iterable[Beat]:
        if self._clock() >= self._not_before:
            try:
                new = self._client.beats(self._newest)
            except ServiceError as error:
                self._not_before = self._clock() + RETRY_S
                log.log(logging.DEBUG if self._silent else logging.INFO, "no heartbeats: %s", error)
                self._silent = True
            else:
                self._silent = False
                self._beats |= {beat.robot: beat for beat in new}
                self._newest = max([self._newest, *(beat.received_at for beat in new)])
        return self._beats.values()


def _run(
    server: uvicorn.Server,
    socket,
    bell: Bell,
    stop: threading.Event,
    ready: Callable[[], None],
) -> None:
    """Serve in a thread until `stop`; `ready` is told once connections are taken."""
    thread = threading.Thread(target=server.run, args=[[socket]], name="dashboard")
    thread.start()
    while thread.is_alive() and not server.started and not stop.wait(0.01):
        pass
    if server.started:
        ready()
    while thread.is_alive() and not stop.wait(0.1):
        pass
    bell.close()
    server.should_exit = True
    thread.join()
    if not stop.is_set():
        raise ServiceError("The dashboard ended by itself; its log says why.")
