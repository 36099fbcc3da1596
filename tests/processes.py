"""Real processes for tests: start, kill -9, stop, and wait for a condition with a deadline."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from lwd.processes import free_ports


def free_port() -> int:
    """A port that was free a moment ago."""
    return free_ports(1)[0]


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
    """Return once the condition holds; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"waited {deadline_s} s for {what}"
        time.sleep(0.02)


class Processes:
    """Real processes that run a line of Python each; all are dead when the test ends."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen] = []

    def start(self, code: str, *arguments: object, **environment: str) -> subprocess.Popen:
        """Start a process, with these variables in its environment besides this one's."""
        command = [sys.executable, "-c", "import logging; logging.basicConfig(level=20)\n" + code]
        process = subprocess.Popen(
            [*command, *map(str, arguments)], env={**os.environ, **environment}
        )
        self.started.append(process)
        return process

    def kill(self, process: subprocess.Popen) -> None:
        """SIGKILL, and wait until it is gone."""
        process.kill()
        process.wait(60)

    def stop(self, process: subprocess.Popen) -> int:
        """SIGTERM; the exit status."""
        process.terminate()
        return process.wait(60)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                self.kill(process)


def answers(url: str) -> bool:
    """Whether something listens at the port of a URL."""
    host, port = url.split("//")[1].split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False


QUEUE = """
import sys
from pathlib import Path
from lwd.store.queue import serve_queue
serve_queue(Path(sys.argv[1]), int(sys.argv[2]))
"""

SERVICE = """
import sys
from pathlib import Path
from lwd.config import PlaneConfig
from lwd.store.service import serve
serve(PlaneConfig(root=Path(sys.argv[1]), queue_url=sys.argv[2], service_url=sys.argv[3]))
"""

COORDINATOR = """
import sys
from pathlib import Path
from lwd.config import PlaneConfig
from lwd.coordinator.service import run
run(PlaneConfig(root=Path(sys.argv[1]), queue_url=sys.argv[2], lease_s=2.0, reconcile_s=1.0))
"""
