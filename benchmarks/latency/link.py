"""A link between two network namespaces that delays, drops and paces real packets.

Nothing outside the two namespaces changes, and nothing inside them reaches further than the other
one. Needs root.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lwd.chaos.packets import Shape, inside, ip, tun

__all__ = ["FAR", "NEAR", "Shape", "inside", "shaped"]

DEVICE = "lwd0"
NEAR, FAR = "10.99.0.1", "10.99.0.2"
"""Addresses of the fleet's end and of the robots' end."""


@contextmanager
def shaped(shape: Shape, *, control: str) -> Iterator[tuple[str, str]]:
    """Names of the fleet's and the robots' namespace; TCP in both uses this congestion control."""
    names = f"lwd-fleet-{os.getpid()}", f"lwd-robots-{os.getpid()}"
    try:
        for name, address in zip(names, (NEAR, FAR), strict=True):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            tun(DEVICE, address, "-n", name)
            path = "/proc/sys/net/ipv4/tcp_congestion_control"
            subprocess.run([*inside(name), "sh", "-c", f"echo {control} > {path}"], check=True)
        numbers = map(str, (shape.mbit_s, shape.delay_s, shape.loss))
        command = [sys.executable, "-m", "lwd.chaos.packets", DEVICE, *names, *numbers]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as carrier:
            try:
                yield names
            finally:
                carrier.kill()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
