"""Do V and Q mean what they say? Predictions against the discounted returns that came.

Returns are those of the policy that collected the episodes. V's quantile and a Q that bootstraps
from it are optimistic on purpose (tau > 1/2): their bias shows by how much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lwd.episode.types import Episode, Outcome
from lwd.learner.diagnose.bootstrap import (
    Estimate,
    band,
    correlation,
    estimate,
    mean,
    totals,
)
from lwd.learner.diagnose.grid import Grid
from lwd.learner.diagnose.trained import Trained

BINS = 10
"""Bins of a reliability curve, each with as many states as the others."""
CURVE_S = 15.0
"""Robot seconds before the end that a value curve shows."""
FEWEST = 3
"""Episodes that a point of a value curve is the mean of, at least."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A predictor against returns; the lists have an entry for each bin of predictions."""

    predictor: str
    task: str
    states: int
    predicted: tuple[float, ...]
    """Mean prediction."""
    observed: tuple[float, ...]
    """Mean return, with its interval."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: tuple[int, ...]
    bias: Estimate
    """Mean of prediction minus return."""
    error: Estimate
    """Expected calibration error: mean over states of the bins' |predicted - observed|. Noise
    alone makes it positive, the more so the fewer the episodes."""
    correlation: Estimate
    """Of prediction and return over states."""


@dataclass(frozen=True, kw_only=True)
class ValueCurve:
    """Mean of V over successes or failures, aligned to the episode's end."""

    task: str
    success: bool
    episodes: int
    before_end_s: tuple[float, ...]
    """Robot seconds before the end."""
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    truth: tuple[float, ...]
    """Mean of the return that came."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """TD targets of Eq. 19 before any clip; rewards are 0 or 1, so returns are in [0, 1]."""

    mean: Estimate
    below: Estimate
    """Part below 0."""
    above: Estimate
    """Part above 1."""
    highest: float


def reliability(grid: Grid, predictions: Mapping[str, np.ndarray]) -> list[Reliability]:
    """Every predictor [states] against the returns, for all tasks and each."""
    return [
        _reliability(name, task, grid.episode[rows], predicted[rows], grid.to_go[rows])
        for name, predicted in predictions.items()
        for task, rows in grid.groups()
    ]


def targets(grid: Grid, bootstrap: np.ndarray) -> Targets:
    """Of `bootstrap` [states], V's quantile at the window's end."""
    y = grid.returns + grid.discount * bootstrap
    return Targets(
        mean=mean(grid.episode, y),
        below=mean(grid.episode, (y < 0).astype(float)),
        above=mean(grid.episode, (y > 1).astype(float)),
        highest=float(y.max()),
    )


def value_curves(
    trained: Trained, episodes: Sequence[Episode], *, discount: float
) -> list[ValueCurve]:
    """Mean V of successes and of failures, over all tasks and in each, tick by tick.

    The state after the last action is left out: nothing follows it, and nothing is learnt of it.
    """
    rate = trained.control.rate_hz
    ticks = int(CURVE_S * rate)
    table = np.stack([_last_values(trained, episode, ticks) for episode in episodes])
    tasks = sorted({e.header.task for e in episodes})
    success = np.array([e.header.outcome is Outcome.SUCCESS for e in episodes])
    found = []
    for task in ["all", *(tasks if len(tasks) > 1 else [])]:
        of_task = np.array([task in ("all", e.header.task) for e in episodes])
        for outcome in (True, False):
            rows = of_task & (success == outcome)
            truth = discount ** np.arange(ticks) if outcome else np.zeros(ticks)
            if (curve := _curve(table[rows], truth, rate)) is not None:
                found.append(ValueCurve(task=task, success=outcome, **curve))
    return found


def _reliability(
    name: str, task: str, episode: np.ndarray, predicted: np.ndarray, observed: np.ndarray
) -> Reliability:
    bins = min(BINS, len(predicted))
    order = np.argsort(predicted, kind="stable")
    member = np.zeros((bins, len(predicted)))
    for number, rows in enumerate(np.array_split(order, bins)):
        member[number, rows] = 1.0
    sums = totals(episode, *member, *(member * predicted), *(member * observed))

    def split(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return m[..., :bins], m[..., bins : 2 * bins], m[..., 2 * bins :]

    def seen(m: np.ndarray) -> np.ndarray:
        count, _, returns = split(m)
        return returns / count

    def error(m: np.ndarray) -> np.ndarray:
        count, expected, returns = split(m)
        return np.abs(expected - returns).sum(-1) / count.sum(-1)

    curve = band(sums, seen)
    return Reliability(
        predictor=name,
        task=task,
        states=len(predicted),
        predicted=tuple((member @ predicted / member.sum(1)).tolist()),
        observed=tuple(curve.value.tolist()),
        low=tuple(curve.low.tolist()),
        high=tuple(curve.high.tolist()),
        count=tuple(member.sum(1).astype(int).tolist()),
        bias=mean(episode, predicted - observed),
        error=estimate(sums, error),
        correlation=correlation(episode, predicted, observed),
    )


def _last_values(trained: Trained, episode: Episode, ticks: int) -> np.ndarray:
    """[ticks] mean of V before each of the last ticks, the last first; NaN before the start."""
    value = trained.along(episode).mean[::-1][:ticks]
    return np.pad(value, (0, ticks - len(value)), constant_values=np.nan)


def _curve(table: np.ndarray, truth: np.ndarray, rate_hz: float) -> dict | None:
    """Means and intervals of [episodes, ticks], as far back as enough episodes go."""
    known = np.isfinite(table)
    length = int((known.sum(0) >= FEWEST).sum())
    if not length:
        return None
    known, values = known[:, :length], np.nan_to_num(table[:, :length])
    sums = np.concatenate([known, values], axis=1).astype(float)
    found = band(sums, lambda m: m[..., length:] / m[..., :length])
    return {
        "episodes": len(table),
        "before_end_s": tuple((np.arange(1, length + 1) / rate_hz).tolist()),
        "value": tuple(found.value.tolist()),
        "low": tuple(found.low.tolist()),
        "high": tuple(found.high.tolist()),
        "truth": tuple(truth[:length].tolist()),
    }
