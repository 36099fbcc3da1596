"""The process of `lwd serve`: follow the weights, warm up, then listen."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socket as Socket

import uvicorn

from lwd.actor.heartbeat import BEAT_S
from lwd.actor.policy import Build, PolicyStore
from lwd.config import ControlConfig, PlaneConfig
from lwd.config.serving import ServeConfig
from lwd.edge import uploader
from lwd.errors import ConfigError, ServiceError
from lwd.models.inputs.format import InputFormat
from lwd.serve.app import create_app
from lwd.serve.archive import Archive
from lwd.serve.batch import Batcher, Limits
from lwd.serve.beats import Beats
from lwd.serve.layout import fitted
from lwd.serve.policies import Alike, Following, Policies
from lwd.serve.serving import Serving
from lwd.serve.session import Sessions
from lwd.store import weights
from lwd.store.access import Access, load_access
from lwd.store.client import ServiceClient
from lwd.store.heartbeats import Beat
from lwd.store.objects import Objects
from lwd.store.process import LOOPBACK, allow_connections, listen, stop_on_signals
from lwd.store.rows import WeightsRow

log = logging.getLogger(__name__)


def serve(
    config: ServeConfig,
    plane: PlaneConfig,
    build: Callable[[ControlConfig], Build],
    *,
    token: str | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the fleet's newest policy until SIGTERM, SIGINT or `stop`.

    `build` makes warm batch policies (`lwd.serve.policies.served`) for the control rate that their
    weights name. Robots can connect once the first one is ready; before, their connections are
    refused: openpi's newer clients wait then. ServiceError if the port is taken; ConfigError if the
    server would be open to other machines, or robots of its layout lack a camera of the policy.
    """
    stop = stop or stop_on_signals()
    allow_connections()
    access, alike = load_access(plane.tokens), Alike(build)
    with (
        listen(config.host, config.port, what="policy server") as socket,
        ServiceClient(plane.service_url, token=token, robot=config.name) as client,
        ServiceClient(plane.service_url, token=token, timeout_s=BEAT_S) as beats,
        Following(_store(config, plane, client, alike), client.report_load) as policies,
    ):
        log.info("start service=%s; waiting for weights", plane.service_url)
        if policies.ready(stop):
            assert alike.control is not None
            prepared = prepare(
                config, alike.control, policies,
                access=access, inputs=alike.inputs, tell=beats.send_beat,
            )  # fmt: skip
            run(prepared, plane, socket=socket, stop=stop)
        elif not stop.is_set():
            policies.current()  # says why there is none
    log.info("stop")


def prepare(
    config: ServeConfig,
    control: ControlConfig,
    policies: Policies,
    *,
    access: Access,
    inputs: InputFormat | None = None,
    tell: Callable[[Beat], None] | None = None,
) -> Serving:
    """The parts of a server; `inputs` is what a policy that sees is given, `tell` takes heartbeats
    of robots that send none themselves."""
    sessions = Sessions()
    limits = Limits(
        batch=config.batch,
        window_s=config.window_s,
        waiting=config.waiting,
        deadline_s=config.deadline_s,
    )
    task = config.task if config.record else ""
    return Serving(
        config=config,
        control=control,
        layout=fitted(config.layout, inputs),
        policies=policies,
        batcher=Batcher(limits, active=lambda: sessions.connected),
        sessions=sessions,
        access=access,
        beats=tell and Beats(sessions, tell, task=task),
    )


def run(serving: Serving, plane: PlaneConfig, *, socket: Socket, stop: threading.Event) -> None:
    """Answer robots until `stop`, recording and uploading as configured."""
    config = serving.config
    check_exposure(config, plane, serving.access)
    with ExitStack() as stack:
        if config.record:
            serving.archive = stack.enter_context(Archive(plane.root / "spool"))
        server = uvicorn.Server(_settings(config, plane, serving))
        ended = threading.Event()
        with ThreadPoolExecutor(2, "serve") as pool:
            threads: list[Future] = [pool.submit(server.run, [socket])]
            if config.record and config.upload:
                threads.append(pool.submit(_upload, plane, ended))
            log.info("policy server ready url=ws://%s:%d", *socket.getsockname()[:2])
            while not stop.wait(0.05) and not any(thread.done() for thread in threads):
                pass
            server.should_exit = True
            ended.set()
            wait(threads, return_when=FIRST_COMPLETED)
        for thread in threads:
            thread.result()
    if not stop.is_set():
        raise ServiceError("The policy server ended by itself; its log says why.")


def check_exposure(config: ServeConfig, plane: PlaneConfig, access: Access) -> None:
    """ConfigError where the settings would leave the server open, or not do what they say."""
    if access.open and config.host not in LOOPBACK:
        raise ConfigError(
            f"The policy server refuses to listen on {config.host} without tokens: everybody could "
            "have a robot's actions. Give --tokens FILE, or use 127.0.0.1."
        )
    if (plane.tls_cert is None) != (plane.tls_key is None):
        raise ConfigError("TLS needs both --tls-cert and --tls-key.")


@contextmanager
def in_thread(
    config: ServeConfig,
    plane: PlaneConfig,
    control: ControlConfig,
    policies: Policies,
    *,
    access: Access | None = None,
    inputs: InputFormat | None = None,
) -> Iterator[str]:
    """A server beside other work, for a benchmark or a test; yields its URL, `ws://HOST:PORT`."""
    stop = threading.Event()
    with (
        listen(config.host, config.port, what="policy server") as socket,
        ThreadPoolExecutor(1, "server") as pool,
    ):
        socket.listen()
        prepared = prepare(config, control, policies, access=access or Access(), inputs=inputs)
        running = pool.submit(run, prepared, plane, socket=socket, stop=stop)
        try:
            yield "ws://{}:{}".format(*socket.getsockname()[:2])
        finally:
            stop.set()
            running.result()


def _settings(config: ServeConfig, plane: PlaneConfig, serving: Serving) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(serving),
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=config.frame_bytes,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=plane.tls_cert,
        ssl_keyfile=plane.tls_key,
    )


def _upload(plane: PlaneConfig, ended: threading.Event) -> None:
    with ServiceClient(plane.service_url) as client:
        carrier = uploader.Uploader(Objects(plane.objects), client)
        uploader.run(plane.root / "spool", carrier, ended)


def _store(
    config: ServeConfig, plane: PlaneConfig, client: ServiceClient, build: Build
) -> PolicyStore:
    folder = plane.root / "servers" / config.name
    objects = Objects(plane.objects)

    def download(row: WeightsRow) -> tuple[weights.Tensors, weights.Metadata]:
        fetched = weights.fetch(objects, row, folder=folder / "weights")
        weights.evict(folder / "weights", keep={row.sha256, *store.in_use})
        return fetched

    (folder / "weights").mkdir(parents=True, exist_ok=True)
    store = PolicyStore(config.name, client, download, build, memory=Path(folder / "weights.json"))
    return store
