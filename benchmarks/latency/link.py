"""A link between two network namespaces that delays, drops and paces real packets.

Each namespace has a TUN device; a process carries packets from one to the other: TCP, its losses
and its congestion control are the kernel's. Needs root; nothing outside the two namespaces changes,
and nothing inside them reaches further than the other one.
"""

import contextlib
import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000
DEVICE = "lwd0"
NEAR, FAR = "10.99.0.1", "10.99.0.2"
"""Addresses of the fleet's end and of the robots' end."""
BUFFER_S = 0.1
"""What the router holds of a burst; the rest is dropped."""
_MOST_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a link does to packets, each way."""

    mbit_s: float = 100.0
    delay_s: float = 0.020
    """One way: the round trip takes twice that."""
    loss: float = 0.01
    """Share of packets dropped, besides those that find the buffer full."""


class Way:
    """Packets under way in one direction."""

    def __init__(self, shape: Shape, rng: random.Random):
        self._shape, self._rng = shape, rng
        self._free_at = 0.0
        self._under_way: deque[tuple[float, bytes]] = deque()

    def enter(self, packet: bytes, now: float) -> None:
        """A packet reaches the link; it is lost, or arrives later."""
        start = max(now, self._free_at)
        if self._rng.random() < self._shape.loss or start - now > BUFFER_S:
            return
        self._free_at = start + len(packet) * 8 / (self._shape.mbit_s * 1e6)
        self._under_way.append((self._free_at + self._shape.delay_s, packet))

    def leave(self, now: float) -> Iterator[bytes]:
        """Packets that have arrived."""
        while self._under_way and self._under_way[0][0] <= now:
            yield self._under_way.popleft()[1]

    @property
    def next_s(self) -> float:
        """When the next packet arrives."""
        return self._under_way[0][0] if self._under_way else float("inf")


@contextmanager
def shaped(shape: Shape, *, control: str) -> Iterator[tuple[str, str]]:
    """Names of the fleet's and the robots' namespace; TCP in both uses this congestion control."""
    names = f"lwd-fleet-{os.getpid()}", f"lwd-robots-{os.getpid()}"
    try:
        for name, address in zip(names, (NEAR, FAR), strict=True):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "tuntap", "add", "dev", DEVICE, "mode", "tun")
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", DEVICE)
            _ip("-n", name, "link", "set", DEVICE, "up")
            path = "/proc/sys/net/ipv4/tcp_congestion_control"
            subprocess.run([*inside(name), "sh", "-c", f"echo {control} > {path}"], check=True)
        numbers = map(str, (shape.mbit_s, shape.delay_s, shape.loss))
        with subprocess.Popen([sys.executable, "-m", __name__, *names, *numbers]) as carrier:
            try:
                yield names
            finally:
                carrier.kill()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def inside(namespace: str) -> list[str]:
    """What to put before a command so that it runs in a namespace; nothing for none."""
    return ["ip", "netns", "exec", namespace] if namespace else []


def carry(names: Sequence[str], shape: Shape) -> None:
    """Carry packets between the namespaces until killed."""
    os.setpriority(os.PRIO_PROCESS, 0, -15)  # a late carrier would be a longer link
    ends = [_open(name) for name in names]
    ways = {end: Way(shape, random.Random(seed)) for seed, end in enumerate(ends)}
    while True:
        due = min(way.next_s for way in ways.values())
        ready, _, _ = select.select(ends, [], [], max(0.0, min(due - time.monotonic(), 1.0)))
        now = time.monotonic()
        for end in ready:
            for packet in _packets(end):
                ways[end].enter(packet, now)
        for end, other in zip(ends, reversed(ends), strict=True):
            for packet in ways[end].leave(time.monotonic()):
                with contextlib.suppress(BlockingIOError):
                    os.write(other, packet)


def _packets(end: int) -> Iterator[bytes]:
    """What waits at an end; only IPv4 crosses the link."""
    for _ in range(_MOST_AT_ONCE):
        try:
            packet = os.read(end, 2048)
        except BlockingIOError:
            return
        if packet[0] >> 4 == 4:
            yield packet


def _open(namespace: str) -> int:
    """The TUN device of a namespace."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return end


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


if __name__ == "__main__":
    mbit_s, delay_s, loss = map(float, sys.argv[3:])
    carry(sys.argv[1:3], Shape(mbit_s=mbit_s, delay_s=delay_s, loss=loss))
