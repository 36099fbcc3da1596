"""The learner's metrics as curves: `learner.jsonl` read as it grows, thinned for a screen."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from lwd.store.lines import Tail

POINTS = 300
"""Points of a curve; more are averaged together."""
ABOUT = ("time", "stage", "update")
"""What a report says besides metrics."""


class Reports:
    """Reports of the learner, kept up to date; reading costs only what is new."""

    def __init__(self, path: Path) -> None:
        self.every: list[dict[str, Any]] = []
        self._path, self._tail = path, Tail(path)

    def look(self) -> int:
        """Read whole lines that came since; number of reports."""
        if self._path.exists() and self._path.stat().st_size < self._tail.offset:
            self.every, self._tail = [], Tail(self._path)
        self.every += filter(None, map(_parsed, self._tail.look()))
        return len(self.every)


def curves(reports: list[dict[str, Any]], points: int = POINTS) -> dict[str, Any]:
    """Metrics over updates counted across stages; null where a stage has no such metric."""
    stride = max(1, -(-len(reports) // points))
    found, stages, before = [], [], 0.0
    for stage, of_stage in groupby(reports, key=lambda report: report["stage"]):
        part = list(of_stage)
        start = before
        for first in range(0, len(part), stride):
            found.append(_mean(part[first : first + stride], start))
        before = start + max(report["update"] for report in part)
        stages.append({"stage": stage, "from": start, "to": before})
    names = sorted({name for point in found for name in point} - set(ABOUT))
    return {
        "update": [point["update"] for point in found],
        "time": [point["time"] for point in found],
        "stages": stages,
        "metrics": {name: [point.get(name) for point in found] for name in names},
    }


def _mean(reports: list[dict[str, Any]], start: float) -> dict[str, float]:
    names = {name for report in reports for name in report} - set(ABOUT)
    values = {name: [r[name] for r in reports if name in r] for name in names}
    finite = {
        name: float(np.mean(found)) for name, found in values.items() if np.isfinite(found).all()
    }
    last = reports[-1]
    return finite | {"update": start + last["update"], "time": last["time"]}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A report, None for a line that a full disk has cut off."""
    try:
        report = json.loads(line)
        return report if {*ABOUT} <= report.keys() else None
    except (ValueError, AttributeError):
        return None
