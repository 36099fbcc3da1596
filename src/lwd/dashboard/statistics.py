"""Numbers of the page as pure functions of what the catalog says."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lwd.dashboard.records import Brief
from lwd.dashboard.robots import SKEW_S
from lwd.episode.types import Kind, Outcome
from lwd.eval.intervals import wilson
from lwd.store.amendments import Amendment, Change
from lwd.store.rows import LoadRow, WeightsRow

ACTED = (Kind.ROLLOUT, Kind.ONLINE)
"""Kinds in which a policy acted: demonstrations say nothing about it."""
NEWEST = 1000
"""Episodes and loads that a latency is taken over."""


class Correction(NamedTuple):
    """What people have changed about an episode; it may still wait for the next snapshot."""

    outcome: str | None = None
    interventions: int | None = None
    """Ticks in which a person acted."""
    present: bool = True


def corrections(amendments: Iterable[Amendment]) -> dict[str, Correction]:
    """Episode to what its amendments come to, in the order in which they were made."""
    found: dict[str, Correction] = {}
    for change in amendments:
        now = found.get(change.episode_id, Correction())
        if change.change == Change.OUTCOME:
            now = now._replace(outcome=json.loads(change.value))
        elif change.change == Change.HUMAN:
            spans = json.loads(change.value)
            now = now._replace(interventions=sum(end - start for start, end in spans))
        elif change.change in (Change.TOMBSTONE, Change.LOST):
            now = now._replace(present=False)
        elif change.change == Change.RESTORE:
            now = now._replace(present=True)
        found[change.episode_id] = now
    return found


def corrected(episodes: Iterable[Brief], changes: Mapping[str, Correction]) -> list[Brief]:
    """Episodes as people have corrected them, without those that were taken out."""
    found = []
    for brief in episodes:
        change = changes.get(brief.episode_id)
        if change is None:
            found.append(brief)
        elif change.present:
            helped = change.interventions
            found.append(
                brief._replace(
                    outcome=change.outcome or brief.outcome,
                    interventions=brief.interventions if helped is None else helped,
                )
            )
    return found


def success_over_time(
    episodes: Iterable[Brief], *, bins: int = 30, unaided: bool = False
) -> dict[str, Any]:
    """Success of each task in equal spans of time, with Wilson's 95 % intervals.

    Only episodes in which a policy acted and that have a verdict. With `unaided` a success during
    which a person took over counts as none. Spans without an episode are null.
    """
    judged = [b for b in episodes if b.kind in ACTED and Outcome(b.outcome).judged]
    if not judged:
        return {"at": [], "tasks": {}}
    at = np.array([b.inserted_at for b in judged])
    edges = np.linspace(at.min(), max(at.max(), at.min() + 1.0), bins + 1)
    place = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, bins - 1)
    good = np.array(
        [b.outcome == Outcome.SUCCESS and not (unaided and b.interventions) for b in judged]
    )
    names = np.array([b.task for b in judged])
    tasks = {
        task: _spans(place[names == task], good[names == task], bins)
        for task in sorted(set(names.tolist()))
    }
    return {"at": ((edges[1:] + edges[:-1]) / 2).tolist(), "tasks": tasks}


def _spans(place: np.ndarray, good: np.ndarray, bins: int) -> dict[str, Any]:
    counts = np.bincount(place, minlength=bins)
    wins = np.bincount(place, weights=good, minlength=bins).astype(int)
    spans = [
        (won / all_, *wilson(won, all_)) if all_ else (None, None, None)
        for won, all_ in zip(wins.tolist(), counts.tolist(), strict=True)
    ]
    rate, low, high = (list(column) for column in zip(*spans, strict=True))
    whole = wilson(int(wins.sum()), int(counts.sum()))
    return {
        "rate": rate,
        "low": low,
        "high": high,
        "episodes": counts.tolist(),
        "total": {"successes": int(wins.sum()), "episodes": int(counts.sum()), "interval": whole},
    }


def episode_latencies(
    episodes: Sequence[Brief],
    joined: Mapping[str, float],
    available: Mapping[str, float],
    *,
    off: Collection[str] = (),
) -> dict[str, dict[str, float | int | None]]:
    """Seconds of the newest online episodes on their way from the robot to the learner; what the
    robots `off` have timed, whose clocks are wrong, is left out."""
    newest = [b for b in episodes if b.kind == Kind.ONLINE][-NEWEST:]
    ways = defaultdict(list)
    for b in newest:
        timed = b.robot not in off
        if timed:
            ways["robot to catalog"].append(b.inserted_at - b.produced_at)
        if b.episode_id in joined:
            ways["catalog to snapshot"].append(joined[b.episode_id] - b.inserted_at)
        if timed and b.episode_id in available:
            ways["robot to learner"].append(available[b.episode_id] - b.produced_at)
    names = ("robot to catalog", "catalog to snapshot", "robot to learner")
    return {name: percentiles(ways[name]) for name in names}


def model_latency(
    weights: Iterable[WeightsRow], loads: Sequence[LoadRow], *, off: Collection[str] = ()
) -> dict[str, float | int | None]:
    """Seconds from the publication of a policy online to a robot acting with it.

    Earlier stages do not count: robots are often started long after their publication. Nor does a
    robot that starts again and reports the same policy once more, or one whose clock is `off`.
    """
    published = {row.version: row.published_at for row in weights if row.stage == "online"}
    first: dict[tuple[str, int], LoadRow] = {}
    for row in (row for row in loads if row.robot not in off):
        first.setdefault((row.robot, row.version), row)
    newest = [row for row in first.values() if row.version in published][-NEWEST:]
    return percentiles(row.loaded_at - published[row.version] for row in newest)


def percentiles(seconds: Iterable[float]) -> dict[str, float | int | None]:
    """P50, P99 and their number; None where nothing was measured. What seems to have ended before
    it began was timed by a clock that is wrong, and is left out."""
    values = [value for value in seconds if value > -SKEW_S]
    p50, p99 = (float(np.percentile(values, p)) if values else None for p in (50, 99))
    return {"p50": p50, "p99": p99, "count": len(values)}
