"""The processes under fire: started, killed, paused, started again; by one thread."""

import contextlib
import logging
import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwd.processes import spawn

log = logging.getLogger(__name__)

CHILD = "/child"
"""Ends the name of the process that a process of the fleet keeps: the queue's server, a learner's
prefetcher."""
GRACE_S = 20.0
RESTART_S = 0.3
"""Pause before a process is started again that ended by itself, badly."""
LEAST_FILE_BYTES = 4096
"""What a process whose disk is full may still write to a file."""


@dataclass
class _Process:
    command: Sequence[str]
    log: Path
    running: subprocess.Popen | None = None
    due: float = 0.0
    finished: bool = False
    paused: bool = False


class Fleet:
    """Processes by name. Leaving the context ends them, newest first."""

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        logs: Path,
        clock: Callable[[], float] = time.monotonic,
    ):
        logs.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._processes = {
            name: _Process(command, logs / f"{name}.log") for name, command in commands.items()
        }
        self.kills: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        """Ends that nobody ordered, by process."""

    def __enter__(self) -> "Fleet":
        self.tend()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def tend(self) -> None:
        """Start what is down and due; notice what ended by itself."""
        for name, process in self._processes.items():
            if process.finished:
                continue
            if process.running is not None and process.running.poll() is not None:
                self._ended(name, process, process.running.returncode)
            if process.running is None and not process.finished and self._clock() >= process.due:
                process.running = spawn(process.command, process.log)

    @property
    def names(self) -> list[str]:
        """All processes, in the order in which they were started."""
        return list(self._processes)

    def finished(self, name: str) -> bool:
        """Whether the process has done all it had to do."""
        return self._processes[name].finished

    def pid(self, target: str) -> int | None:
        """Of a process or of its child; None while it is down."""
        process = self._processes[target.removesuffix(CHILD)].running
        if process is None or process.poll() is not None:
            return None
        if not target.endswith(CHILD):
            return process.pid
        return next(iter(_children(process.pid)), None)

    def kill(self, target: str, down_s: float) -> bool:
        """SIGKILL; it is started again after `down_s`. False while it is down anyway."""
        pid = self.pid(target)
        if pid is None:
            return False
        process = self._processes[target.removesuffix(CHILD)]
        os.kill(pid, signal.SIGKILL)
        self.kills[target] += 1
        if not target.endswith(CHILD):
            assert process.running is not None
            process.running.wait()
            process.running, process.paused = None, False
            process.due = self._clock() + down_s
        return True

    def pause(self, target: str) -> bool:
        """SIGSTOP. False while it is down."""
        return self._signal(target, signal.SIGSTOP)

    def resume(self, target: str) -> bool:
        """SIGCONT. False while it is down."""
        return self._signal(target, signal.SIGCONT)

    def limit_files(self, target: str, size_bytes: int | None) -> bool:
        """Let the process write no file beyond a size (None: as large as it likes)."""
        pid = self.pid(target)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            soft = hard if size_bytes is None else size_bytes
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
            return True
        return False

    def stop(self) -> dict[str, int]:
        """End all, newest first; exit status by name, of those that had not ended before."""
        running = [(n, p.running) for n, p in self._processes.items() if p.running is not None]
        for name, _ in running:
            self.resume(name + CHILD)
            self.resume(name)
        status = {}
        for name, process in reversed(running):
            process.terminate()
            try:
                status[name] = process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                log.warning("killed process=%s reason=it ignored SIGTERM", name)
                process.kill()
                status[name] = process.wait()
            self._processes[name].running = None
            self._processes[name].finished = True
        return status

    def _signal(self, target: str, number: signal.Signals) -> bool:
        pid = self.pid(target)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def _ended(self, name: str, process: _Process, status: int) -> None:
        process.running = None
        if status == 0:
            process.finished = True
            return
        self.crashes[name] += 1
        process.due = self._clock() + RESTART_S
        log.warning("ended by itself process=%s status=%d log=%s", name, status, process.log)


def _children(pid: int) -> list[int]:
    """Direct children of a process, as Linux lists them."""
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [int(child) for text in lists for child in text.split()]
