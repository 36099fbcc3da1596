"""The shaped link's arithmetic: pace, delay, loss and a buffer that overflows; and real packets."""

import random
import socket
import subprocess
import sys
import threading

import pytest

from lwd.chaos.packets import BUFFER_S, GOOD, Shape, Way, inside, radio

PACKET = bytes(1250)
"""10,000 bits: 1 ms at 10 Mbit/s."""


def arrivals(shape: Shape, sent: list[float]) -> list[float]:
    """When packets that are sent at these times arrive."""
    way, found = Way(shape, random.Random(0)), []
    for now in sent:
        way.enter(PACKET, now)
    while way.next_s < float("inf"):
        now = way.next_s
        found += [now for _ in way.leave(now)]
    return found


def test_packets_are_paced_and_delayed():
    found = arrivals(Shape(mbit_s=10.0, delay_s=0.02, loss=0.0), [0.0, 0.0, 0.0, 1.0])
    assert [round(at, 6) for at in found] == [0.021, 0.022, 0.023, 1.021]


def test_some_are_lost():
    found = arrivals(Shape(mbit_s=1000.0, delay_s=0.0, loss=0.1), [0.01 * k for k in range(2000)])
    assert 0.85 < len(found) / 2000 < 0.95


def test_a_burst_beyond_the_buffer_is_dropped():
    found = arrivals(Shape(mbit_s=10.0, delay_s=0.0, loss=0.0), [0.0] * 500)
    assert abs(len(found) - BUFFER_S / 0.001) <= 1


ASK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as talk:
    began = time.monotonic()
    talk.sendall(b"?")
    print(talk.recv(1), time.monotonic() - began)
"""


def test_robots_in_a_network_of_their_own_reach_us_over_the_link_only():
    def answer(server: socket.socket) -> None:
        while True:
            try:
                talk, _ = server.accept()
            except OSError:
                return
            with talk:
                talk.sendall(talk.recv(1))

    def asked(namespace: str, address: str, port: int) -> subprocess.CompletedProcess:
        command = [*inside(namespace), sys.executable, "-c", ASK, address, str(port)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    with radio() as air:
        if air is None:
            pytest.skip("needs root, TUN devices and namespaces")
        with socket.create_server((air.near, 0)) as server:
            port = server.getsockname()[1]
            threading.Thread(target=answer, args=(server,), daemon=True).start()
            assert asked(air.namespace, air.near, port).stdout.startswith("b'?'")
            air.set(Shape(mbit_s=10.0, delay_s=0.15, loss=0.0))
            slow = asked(air.namespace, air.near, port).stdout.split()
            assert float(slow[1]) >= 0.3
            air.set(GOOD)
            assert "refused" in asked(air.namespace, "127.0.0.1", port).stderr
            server.shutdown(socket.SHUT_RDWR)
    namespaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)
    assert air.namespace not in namespaces.stdout
