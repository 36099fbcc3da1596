"""A link passes everything on, until it is cut, stalled or slowed down."""

import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from lwd.chaos.links import FAIR, Links, Weather
from lwd.chaos.run import through
from lwd.config import PlaneConfig

DATA = bytes(range(256)) * 200


@pytest.fixture
def echo():
    """URL of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def _serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=_answer, args=(client,), daemon=True).start()

        def _answer(client: socket.socket) -> None:
            with client:
                while data := _receive(client):
                    client.sendall(data)

        thread = threading.Thread(target=_serve, daemon=True)
        thread.start()
        yield f"echo://user@127.0.0.1:{server.getsockname()[1]}/path"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _receive(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except OSError:
        return b""


@pytest.fixture
def links():
    with Links() as opened:
        yield opened


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=10.0)


def exchange(client: socket.socket, data: bytes = DATA) -> bytes:
    client.sendall(data)
    found = b""
    while len(found) < len(data) and (piece := _receive(client)):
        found += piece
    return found


def test_a_fair_link_changes_nothing_but_the_address(links, echo):
    url = links.add("echo", echo)
    assert (urlsplit(url).username, urlsplit(url).path) == ("user", "/path")
    assert urlsplit(url).port != urlsplit(echo).port
    assert links.names == ["echo"]
    with connect(url) as client:
        assert exchange(client) == DATA


def test_a_cut_link_breaks_connections_and_refuses_new_ones_until_it_is_mended(links, echo):
    url = links.add("echo", echo)
    with connect(url) as client:
        assert exchange(client) == DATA
        links.set("echo", Weather(cut=True))
        assert _receive(client) == b""
    with connect(url) as client:
        assert _receive(client) == b""
    links.set("echo", FAIR)
    with connect(url) as client:
        assert exchange(client) == DATA


def test_a_stalled_link_keeps_connections_and_what_they_carry(links, echo):
    with connect(links.add("echo", echo)) as client:
        assert exchange(client, b"before") == b"before"
        links.set("echo", Weather(stalled=True))
        client.settimeout(0.2)
        client.sendall(b"during")
        with pytest.raises(TimeoutError):
            client.recv(1)
        links.set("echo", FAIR)
        client.settimeout(10.0)
        assert client.recv(6) == b"during"


def test_a_slow_link_takes_its_time_and_loses_nothing(links, echo):
    with connect(links.add("echo", echo)) as client:
        links.set("echo", Weather(delay_s=0.02, bytes_per_s=1e6))
        started = time.monotonic()
        assert exchange(client) == DATA
        assert time.monotonic() - started > 2 * len(DATA) / 1e6


def test_closing_ends_open_connections(echo):
    with Links() as links:
        client = connect(links.add("echo", echo))
        assert exchange(client, b"x") == b"x"
    assert _receive(client) == b""
    client.close()


def test_services_are_reached_through_links_and_files_are_not(links, tmp_path):
    endpoint = "http://127.0.0.1:9000"
    plane = PlaneConfig(
        root=tmp_path,
        catalog_url="postgresql://me:secret@127.0.0.1:5432/fleet",
        objects_url=f"s3://bucket/a%20fleet?endpoint={endpoint}&region=here",
    )
    seen = through(links, plane)
    assert links.names == ["catalog", "objects", "queue", "service"]
    assert seen.catalog_url.startswith("postgresql://me:secret@127.0.0.1:")
    assert seen.objects_url.startswith("s3://bucket/a%20fleet?endpoint=http")
    assert "region=here" in seen.objects_url
    for name in ("catalog_url", "objects_url", "queue_url", "service_url"):
        assert getattr(seen, name) != getattr(plane, name)
    embedded = PlaneConfig(root=tmp_path)
    with Links() as others:
        seen = through(others, embedded)
        assert others.names == ["queue", "service"]
        assert (seen.catalog, seen.objects) == (embedded.catalog, embedded.objects)
