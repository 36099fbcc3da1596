"""Intervals of statistics of many states of few episodes: the bootstrap draws whole episodes.

States of one episode share its outcome. An interval over states would be narrower by several times
than the data allow.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

DRAWS = 2000


class Estimate(NamedTuple):
    """A number and its 95 % bootstrap interval over episodes; NaN where it is not defined."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """Numbers [...] with their intervals; NaN where one is not defined."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


Statistic = Callable[[np.ndarray], np.ndarray]
"""Of moments summed over episodes, [draws, moments], to [draws] or [draws, numbers]."""


def totals(episode: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """[episodes, columns] sums over the states of each episode that occurs in `episode`."""
    _, index = np.unique(episode, return_inverse=True)
    return np.stack([np.bincount(index, column) for column in columns], axis=-1)


def band(sums: np.ndarray, statistic: Statistic, *, seed: int = 0) -> Band:
    """`statistic` of all episodes' moments, and of episodes drawn with replacement.

    `sums` is [episodes, moments]. One episode says nothing about the spread: its interval is NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.asarray(statistic(sums.sum(0)[None]), float)[0]
        count = len(sums)
        if count < 2:
            return Band(value, *np.full((2, *np.shape(value)), np.nan))
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
        values = np.asarray(statistic(drawn @ sums), float)
    return Band(value, *_quantiles(values))


def estimate(sums: np.ndarray, statistic: Statistic, *, seed: int = 0) -> Estimate:
    """`band` of a single number."""
    return Estimate(*(float(part) for part in band(sums, statistic, seed=seed)))


def mean(episode: np.ndarray, values: np.ndarray) -> Estimate:
    """Mean over states."""
    return estimate(totals(episode, np.ones(len(values)), values), lambda m: m[..., 1] / m[..., 0])


def root_mean_square(episode: np.ndarray, squares: np.ndarray) -> Estimate:
    """Root of the mean over states of what is already squared."""
    sums = totals(episode, np.ones(len(squares)), squares)
    return estimate(sums, lambda m: np.sqrt(m[..., 1] / m[..., 0]))


def correlation(episode: np.ndarray, x: np.ndarray, y: np.ndarray) -> Estimate:
    """Pearson's correlation over states; NaN where one of the two is constant."""

    def pearson(m: np.ndarray) -> np.ndarray:
        count, sx, sy, sxx, syy, sxy = (m[..., k] for k in range(6))
        over = (count * sxx - sx**2) * (count * syy - sy**2)
        return (count * sxy - sx * sy) / np.sqrt(np.maximum(over, 0.0))

    x, y = x - x.mean(), y - y.mean()
    return estimate(totals(episode, np.ones(len(x)), x, y, x * x, y * y, x * y), pearson)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """[2, ...] of [draws, ...]; draws in which the statistic is not defined do not count."""
    defined = np.isfinite(values)
    filled = np.where(defined, values, np.inf)
    ordered, count = np.sort(filled, axis=0), defined.sum(0)
    found = []
    for level in (0.025, 0.975):
        at = np.clip(np.round(level * (count - 1)).astype(int), 0, None)
        picked = np.take_along_axis(ordered, at[None], axis=0)[0]
        found.append(np.where(count > 0, picked, np.nan))
    return np.stack(found)
