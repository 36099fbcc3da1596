"""Clocks that can be set wrong from outside, while their process runs."""

import time
from pathlib import Path

from lwd.store.disk import written_aside


class SkewedClock:
    """UTC seconds, off by what a file says; right while there is no file."""

    def __init__(self, file: Path):
        self._file = file

    def __call__(self) -> float:
        """Now."""
        try:
            return time.time() + float(self._file.read_text())
        except FileNotFoundError:
            return time.time()


def set_skew(file: Path, seconds: float) -> None:
    """Let the clocks that look at `file` be wrong by this much."""
    with written_aside(file) as out:
        out.write(str(seconds).encode())
