"""The learner's metrics as TensorBoard event files, from `learner.jsonl`, as far as it has come."""

import threading
from pathlib import Path
from typing import Any

from lwd.dashboard.curves import ABOUT, Reports
from lwd.errors import ConfigError

LOOK_S = 2.0
"""Seconds between two looks for new reports."""


def export(reports: Path, folder: Path, *, follow: threading.Event | None = None) -> int:
    """Write every report under `folder`; with `follow`, go on with new ones until it is set.

    Steps are updates counted on over the stages, times are the learner's. Number of reports.
    ConfigError if there is nothing to read, or the folder has event files already.
    """
    from tensorboardX import SummaryWriter

    if not reports.exists() and follow is None:
        raise ConfigError(f"{reports} is not there; give --root of a run whose learner has begun.")
    if folder.is_dir() and any(folder.glob("events.out.tfevents.*")):
        raise ConfigError(f"{folder} has event files already; give another folder.")
    read, steps, written = Reports(reports), Steps(), 0
    with SummaryWriter(str(folder)) as writer:
        while True:
            read.look()
            for report in read.every[written:]:
                _write(writer, report, steps(report))
            written = len(read.every)
            writer.flush()
            if follow is None or follow.wait(LOOK_S):
                return written


class Steps:
    """Updates counted on over the stages of a run."""

    def __init__(self) -> None:
        self._stage, self._before, self._last = "", 0, 0

    def __call__(self, report: dict[str, Any]) -> int:
        """The report's place on the axis; reports come in the order in which they were written."""
        if report["stage"] != self._stage:
            self._stage, self._before = report["stage"], self._before + self._last
        self._last = report["update"]
        return self._before + self._last


def _write(writer: Any, report: dict[str, Any], step: int) -> None:
    for name, value in report.items():
        if name not in ABOUT:
            writer.add_scalar(name, value, step, walltime=report["time"])
