"""Real packets between network namespaces: delayed, dropped and paced, by a process of our own.

A namespace has a TUN device; a carrier takes packets from one to the other: TCP, its losses and its
congestion control are the kernel's, which needs no module for queueing. Needs root.
"""

import contextlib
import ctypes
import fcntl
import logging
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

log = logging.getLogger(__name__)

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000
HERE = "-"
"""Stands for the namespace in which the carrier is started."""
READY = b"ready\n"
"""What the carrier says when it carries."""
BUFFER_S = 0.1
"""What the router holds of a burst; the rest is dropped."""
_MOST_AT_ONCE = 64
_RANGE, _NETS = IPv4Address("198.18.0.0"), 2**15
"""Addresses for measurements of networks (RFC 2544), in nets of four."""


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
        self.shape, self._rng = shape, rng
        self._free_at = 0.0
        self._under_way: deque[tuple[float, bytes]] = deque()

    def enter(self, packet: bytes, now: float) -> None:
        """A packet reaches the link; it is lost, or arrives later."""
        start = max(now, self._free_at)
        if self._rng.random() < self.shape.loss or start - now > BUFFER_S:
            return
        self._free_at = start + len(packet) * 8 / (self.shape.mbit_s * 1e6)
        self._under_way.append((self._free_at + self.shape.delay_s, packet))

    def leave(self, now: float) -> Iterator[bytes]:
        """Packets that have arrived."""
        while self._under_way and self._under_way[0][0] <= now:
            yield self._under_way.popleft()[1]

    @property
    def next_s(self) -> float:
        """When the next packet arrives."""
        return self._under_way[0][0] if self._under_way else float("inf")


GOOD = Shape(mbit_s=1000.0, delay_s=0.0005, loss=0.0)
"""A link that nobody notices."""


class Radio:
    """The robots' own network, whose only way out is a link to this machine's."""

    def __init__(self, namespace: str, near: str, carrier: subprocess.Popen):
        self.namespace, self.near = namespace, near
        self._carrier = carrier

    def set(self, shape: Shape) -> None:
        """Change what the link does to packets."""
        assert self._carrier.stdin is not None
        self._carrier.stdin.write(f"{shape.mbit_s} {shape.delay_s} {shape.loss}\n".encode())
        self._carrier.stdin.flush()


@contextmanager
def radio(*, wanted: bool = True) -> Iterator[Radio | None]:
    """A network for robots while the context lasts; None where this process may make none."""
    able = not os.geteuid() and os.access("/dev/net/tun", os.W_OK) and shutil.which("ip")
    if not (wanted and able):
        yield None
        return
    number = os.getpid()
    namespace, device = f"lwd-{number}", f"lwd{number}"
    near, far = (str(_RANGE + number % _NETS * 4 + end) for end in (1, 2))
    try:
        if _made(namespace, device, near, far):
            words = [device, HERE, namespace, *map(str, (GOOD.mbit_s, GOOD.delay_s, GOOD.loss))]
            with _carried(words) as carrier:
                yield carrier and Radio(namespace, near, carrier)
        else:
            yield None
    finally:
        for words in (("netns", "del", namespace), ("link", "del", device)):
            subprocess.run(["ip", *words], check=False, capture_output=True)


def _made(namespace: str, device: str, near: str, far: str) -> bool:
    """Whether there are a namespace and both ends of its link: a container's root may make none."""
    try:
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
        tun(device, near)
        tun(device, far, "-n", namespace)
    except subprocess.CalledProcessError as error:
        log.warning("robots get no network of their own reason=%s", error.stderr.decode().strip())
        return False
    return True


@contextmanager
def _carried(words: Sequence[str]) -> Iterator[subprocess.Popen | None]:
    """The carrier, once it carries; None if it cannot."""
    command, pipe = [sys.executable, "-m", __name__, *words], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as carrier:
        assert carrier.stdout is not None
        try:
            yield carrier if carrier.stdout.readline() == READY else None
        finally:
            carrier.kill()


def tun(device: str, address: str, *inside_of: str) -> None:
    """A TUN device with an address."""
    ip(*inside_of, "tuntap", "add", "dev", device, "mode", "tun")
    ip(*inside_of, "addr", "add", f"{address}/30", "dev", device)
    ip(*inside_of, "link", "set", device, "up")


def inside(namespace: str) -> list[str]:
    """What to put before a command so that it runs in a namespace; nothing for none."""
    # No proxy that the environment names can be reached from there.
    return ["ip", "netns", "exec", namespace, "env", "NO_PROXY=*"] if namespace else []


def ip(*words: str) -> None:
    """A command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def carry(device: str, names: Sequence[str], shape: Shape, control: int) -> None:
    """Carry packets between two namespaces until `control` ends; its lines change the shape."""
    os.setpriority(os.PRIO_PROCESS, 0, -15)  # a late carrier would be a longer link
    ends = [_open(name, device) for name in names]
    ways = {end: Way(shape, random.Random(seed)) for seed, end in enumerate(ends)}
    os.write(1, READY)
    while True:
        due = min(way.next_s for way in ways.values())
        ready, _, _ = select.select(
            [*ends, control], [], [], max(0.0, min(due - time.monotonic(), 1.0))
        )
        now = time.monotonic()
        if control in ready:
            if (changed := _shape(os.read(control, 4096))) is None:
                return
            for way in ways.values():
                way.shape = changed
        for end in (end for end in ready if end in ways):
            for packet in _packets(end):
                ways[end].enter(packet, now)
        for end, other in zip(ends, reversed(ends), strict=True):
            for packet in ways[end].leave(time.monotonic()):
                with contextlib.suppress(BlockingIOError):
                    os.write(other, packet)


def _shape(said: bytes) -> Shape | None:
    """The last line of what was said; None if the speaker is gone."""
    if not said:
        return None
    mbit_s, delay_s, loss = map(float, said.splitlines()[-1].split())
    return Shape(mbit_s=mbit_s, delay_s=delay_s, loss=loss)


def _packets(end: int) -> Iterator[bytes]:
    """What waits at an end; only IPv4 crosses the link."""
    for _ in range(_MOST_AT_ONCE):
        try:
            packet = os.read(end, 2048)
        except BlockingIOError:
            return
        if packet[0] >> 4 == 4:
            yield packet


def _open(namespace: str, device: str) -> int:
    """The TUN device of a namespace."""
    if namespace != HERE:
        with Path("/run/netns", namespace).open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = _IFF_TUN | _IFF_NO_PI
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", device.encode(), flags))
    return end


if __name__ == "__main__":
    numbers = " ".join(sys.argv[4:]).encode()
    if (given := _shape(numbers)) is not None:
        carry(sys.argv[1], sys.argv[2:4], given, sys.stdin.fileno())
