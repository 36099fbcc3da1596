"""Statistics of more samples than fit in memory, in one pass.

Count, mean, deviation, smallest and largest value are exact, and so are the quantiles as long as
`limit` samples hold all. Beyond that the quantiles are those of every second sample, then of every
fourth, and so on, evenly spread over all: a quantile of level p has its rank to within about
2 sqrt(p (1 - p) / limit), which is 0.0003 for 1 % and half a million samples.
"""

from typing import NamedTuple

import numpy as np

from lwd.errors import ConfigError
from lwd.models.inputs.norm_stats import NormStats, widened

LIMIT_BYTES = 128 << 20
"""Samples that are kept for the quantiles, in all dimensions of a quantity."""
LEVELS = (0.01, 0.99)


class Spread(NamedTuple):
    """What norm stats leave out, [dimensions] each."""

    low: np.ndarray
    """Smallest value."""
    high: np.ndarray
    """Largest value."""
    at_limits: np.ndarray
    """Share of the samples that are the smallest or the largest value."""


class Running:
    """Takes batches of vectors and says at any time what their statistics are."""

    def __init__(self, limit: int | None = None) -> None:
        """`limit` is the number of samples that quantiles are taken of, by default as many as fit
        in `LIMIT_BYTES`."""
        self.count, self.stride = 0, 1
        self._limit = limit
        self._kept: list[np.ndarray] = []
        self._next = 0

    def add(self, x: np.ndarray) -> None:
        """Take [samples, dimensions]; ConfigError if the dimensions are not those before."""
        if not len(x):
            return
        x = np.asarray(x, np.float64)
        if self.count == 0:
            self._start(x.shape[1])
        if x.shape[1] != len(self._mean):
            raise ConfigError(
                f"samples have {x.shape[1]} dimensions, those before had {len(self._mean)}; take "
                "statistics of one kind of robot at a time."
            )
        self._moments(x)
        self._extremes(x)
        self._keep(x)

    def stats(self) -> NormStats:
        """Of all samples so far; ConfigError if there are fewer than 2."""
        if self.count < 2:
            raise ConfigError(f"{self.count} samples to take statistics of; at least 2 are needed.")
        q01, q99 = np.quantile(np.concatenate(self._kept).astype(np.float64), LEVELS, axis=0)
        std = np.sqrt(self._squares / self.count)
        return widened(NormStats(self._mean, std, q01, q99))

    def spread(self) -> Spread:
        """How far the samples reach."""
        share = np.where(self._high > self._low, (self._at_low + self._at_high) / self.count, 1.0)
        return Spread(self._low, self._high, share)

    def _start(self, dimensions: int) -> None:
        self._mean, self._squares = np.zeros(dimensions), np.zeros(dimensions)
        self._low, self._high = np.full(dimensions, np.inf), np.full(dimensions, -np.inf)
        self._at_low, self._at_high = np.zeros(dimensions), np.zeros(dimensions)
        self._limit = self._limit or max(LIMIT_BYTES // (4 * dimensions), 2)

    def _moments(self, x: np.ndarray) -> None:
        """Mean and sum of squared differences from it, put together as Chan et al. do."""
        total, mean = self.count + len(x), x.mean(0)
        apart = mean - self._mean
        self._squares += ((x - mean) ** 2).sum(0) + apart**2 * self.count * len(x) / total
        self._mean = self._mean + apart * len(x) / total
        self.count = total

    def _extremes(self, x: np.ndarray) -> None:
        self._low, self._at_low = _lowest(x, self._low, self._at_low)
        negative, self._at_high = _lowest(-x, -self._high, self._at_high)
        self._high = -negative

    def _keep(self, x: np.ndarray) -> None:
        """Every `stride`-th sample, counted over all batches."""
        first = self.count - len(x)
        self._kept.append(x[-first % self.stride :: self.stride].astype(np.float32))
        assert self._limit is not None
        while sum(map(len, self._kept)) > self._limit:
            self._kept = [np.concatenate(self._kept)[::2]]
            self.stride *= 2


def _lowest(x: np.ndarray, before: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest value of each dimension so far, and how many samples have it."""
    now = np.minimum(before, x.min(0))
    return now, count * (before == now) + (x == now).sum(0)
