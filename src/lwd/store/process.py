"""What every process of the data plane does alike: stop on signals, listen on a port."""

import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import threading
from urllib.parse import urlparse

from lwd.errors import ConfigError, ServiceError

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def stop_on_signals() -> threading.Event:
    """Event that SIGTERM and SIGINT set. Call it in the main thread of a process."""
    stop = threading.Event()

    def _stop(number: int, frame: object) -> None:
        log.info("stopping signal=%s", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    return stop


def follow_parent() -> None:
    """A child gets SIGTERM when the process that LWD_PARENT names is gone, however it went (Linux).

    ServiceError if it is gone already.
    """
    parent = os.environ.pop("LWD_PARENT", "")
    if parent and sys.platform.startswith("linux"):
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)
        if os.getppid() != int(parent):
            raise ServiceError("The process that started this one is gone.")


def allow_connections(wanted: int = 65_536) -> None:
    """Raise this process's limit of open files: the usual 1,024 is fewer than a fleet's polls."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def split_url(url: str, schemes: tuple[str, ...], port: int | None = None) -> tuple[str, int]:
    """Host and port of a service's URL (`port` where it names none), or a clear ConfigError."""
    try:
        parts = urlparse(url)
        host, found = parts.hostname, parts.port or port
    except ValueError:
        parts, host, found = None, None, None
    if parts is None or parts.scheme not in schemes or not host or found is None:
        raise ConfigError(f"URL {url!r} is not usable; give {schemes[0]}://HOST:PORT.")
    return host, found


def listen(host: str, port: int, *, what: str) -> socket.socket:
    """Bound socket, or a ServiceError that says why `what` cannot have it. Port 0 takes any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    # A restart right after a kill must not wait for old connections to time out.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else "ports go from 0 to 65535"
        raise ServiceError(
            f"The {what} cannot listen on {host}:{port}: {reason}. "
            "Stop the process that has the port, or choose another one."
        ) from error
    return bound
