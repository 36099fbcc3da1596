"""A proxy on the loopback that damages or cuts what passes through it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def unchanged(data: bytes) -> bytes:
    """What passes stays as it is."""
    return data


class Cut(Exception):
    """Raised by what looks at the bytes, to cut the connection."""


@contextmanager
def proxy(
    port: int,
    *,
    up: Callable[[bytes], bytes] = unchanged,
    down: Callable[[bytes], bytes] = unchanged,
) -> Iterator[int]:
    """Port of a proxy to 127.0.0.1:`port`; `up` and `down` see and change what is sent there and
    back, in the pieces in which it comes."""
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop = threading.Event()

        def _accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    threads.append(_start(_serve, server.accept()[0], port, up, down))

        accepting = _start(_accept)
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            accepting.join(10)
            for thread in threads:
                thread.join(10)


def _serve(client: socket.socket, port: int, up, down) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        back = _start(_pump, server, client, down)
        _pump(client, server, up)
        back.join(10)


def _pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    """Pass bytes on until either end closes or `change` cuts; then both ends know."""
    with contextlib.suppress(OSError, Cut):
        while data := source.recv(65536):
            sink.sendall(change(data))
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _start(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
