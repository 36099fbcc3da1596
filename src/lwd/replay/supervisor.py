"""How a reader gets its payloads: a supervised prefetcher process, or a download in place."""

import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Sequence

from lwd.replay.order import START, Position
from lwd.replay.prefetch import Downloader, Settings, command, first_line
from lwd.store.objects import Objects
from lwd.store.rows import EpisodeRow

log = logging.getLogger(__name__)

RESTART_S = 1.0
"""Shortest time between two starts of the prefetcher."""
END_S = 5.0
"""Time that the prefetcher has to end by itself."""


class Subprocess:
    """The prefetcher process: started again whenever it is found dead.

    It ends with this process, however that ends, because its stdin closes then.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic):
        self._settings, self._clock = settings, clock
        self._told = self._position = START
        self._damaged: list[str] = []
        self._start()

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._process.pid

    def step(self, rows: Sequence[EpisodeRow], loaded: int) -> None:
        """Start the process again if it has died."""
        code = self._process.poll()
        if code is None or self._clock() - self._started_at < RESTART_S:
            return
        log.warning("prefetcher died code=%d; starting another", code)
        self._close_stdin()
        self._start()
        self.progress(self._position)

    def progress(self, position: Position) -> None:
        """Tell it up to which entry the reader has come."""
        self._position = position
        if position != self._told and self._send({"loaded": position}):
            self._told = position
        while self._damaged and self._send({"damaged": self._damaged[-1]}):
            self._damaged.pop()

    def damaged(self, sha256: str) -> None:
        """A cached file was no good and is gone; it is to be fetched again."""
        self._damaged.append(sha256)

    def close(self) -> None:
        """End the process."""
        self._close_stdin()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(command(), stdin=subprocess.PIPE, bufsize=0)
        self._started_at = self._clock()
        self._told = START
        assert self._process.stdin is not None
        # A prefetcher that is busy or stuck must never hold up the learner at a full pipe.
        os.set_blocking(self._process.stdin.fileno(), False)
        self._write(first_line(self._settings))

    def _send(self, message: dict) -> bool:
        return self._write(json.dumps(message).encode() + b"\n")

    def _write(self, line: bytes) -> bool:
        """Whether the line is in the pipe; lines are short, so the kernel takes all or nothing."""
        assert self._process.stdin is not None
        try:
            return self._process.stdin.write(line) == len(line)
        except (BrokenPipeError, BlockingIOError):
            return False

    def _close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


class Inline:
    """Downloads while `sync` waits: for tests, memory:// objects and small tools."""

    def __init__(self, objects: Objects, settings: Settings):
        self._downloader = Downloader(objects, settings)

    def step(self, rows: Sequence[EpisodeRow], loaded: int) -> None:
        """Fetch until the cache is full or nothing more can be had now."""
        while self._downloader.step(rows, loaded):
            continue

    def progress(self, position: Position) -> None:
        """Nothing to tell: `step` hears it."""

    def damaged(self, sha256: str) -> None:
        """A cached file was no good and is gone; it is to be fetched again."""
        self._downloader.forget(sha256)

    def close(self) -> None:
        """Nothing to end."""
