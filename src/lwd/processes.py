"""The `lwd` processes of a run on one machine: start, notice deaths, restart, end."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwd.errors import ServiceError

log = logging.getLogger(__name__)

GRACE_S = 20.0
"""Time a process has to end after SIGTERM."""
RESTARTS = 3
"""Deaths of one process after which the run gives up."""


@dataclass
class Child:
    """A process of the run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes]
    survives: frozenset[int] = frozenset()
    restarts: int = 0


class Processes:
    """All child processes; leaving the context ends them, newest first.

    Each runs `python -m lwd ...`. If the parent is killed they end by themselves.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._children: dict[str, Child] = {}
        self.restarted = 0
        """Restarts of all of them so far."""

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop(*self.names)

    def start(
        self,
        name: str,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        niceness: int = 0,
        survives: frozenset[int] = frozenset(),
    ) -> None:
        """Start `lwd ARGUMENTS`; its output goes to NAME.log. After an exit status of `survives` it
        is started again however often that happens."""
        polite = ["nice", "-n", str(niceness)] if niceness else []
        command = [*polite, sys.executable, "-m", "lwd", *map(str, arguments)]
        settings, path = environment or {}, self._logs / f"{name}.log"
        started = spawn(command, path, settings)
        self._children[name] = Child(name, command, settings, path, started, survives)

    @property
    def names(self) -> list[str]:
        """All that were started and not stopped, newest first."""
        return list(reversed(self._children))

    def running(self, name: str) -> bool:
        """Whether a process started under this name has not ended yet."""
        return name in self._children and self._children[name].process.poll() is None

    def check(self) -> None:
        """Restart what died; forget what ended well. ServiceError when one keeps dying."""
        for child in list(self._children.values()):
            status = child.process.poll()
            if status is None:
                continue
            if status == 0:
                del self._children[child.name]
                continue
            if child.restarts == RESTARTS and status not in child.survives:
                raise ServiceError(
                    f"{child.name} ended with status {status} for the {RESTARTS + 1}th time. Its "
                    f"last words ({child.log}):\n{last_lines(child.log)}"
                )
            child.restarts += status not in child.survives
            self.restarted += 1
            log.warning("restarted process=%s status=%d log=%s", child.name, status, child.log)
            child.process = spawn(child.command, child.log, child.environment)

    def stop(self, *names: str) -> None:
        """SIGTERM in the given order, then wait; SIGKILL for whoever ignores it."""
        children = [self._children.pop(name) for name in names if name in self._children]
        for child in children:
            child.process.terminate()
        deadline = time.monotonic() + GRACE_S
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(deadline - time.monotonic(), 0.1))
                continue
            log.warning("killed process=%s: it ignored SIGTERM for %.0f s", child.name, GRACE_S)
            child.process.kill()
            child.process.wait()


def last_lines(path: Path, count: int = 5) -> str:
    """The end of a log file, indented."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-count:])


def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one and appends what it says to `log`.

    It has a process group of its own, so that Ctrl-C reaches only its parent, which ends its
    children in order; but no session of its own: Linux divides its time among sessions first, and
    niceness counts only inside one (sched_autogroup_enabled).
    """
    settings = {**os.environ, **(environment or {}), "LWD_PARENT": str(os.getpid())}
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
