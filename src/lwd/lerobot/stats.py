"""Statistics as LeRobot has them: of each episode and of the whole, numbers and pictures.

`min`, `max`, `mean`, `std`, `count` and the quantiles 0.01, 0.1, 0.5, 0.9, 0.99. Pictures count in
[0, 1] with shape (3, 1, 1). LeRobot averages the episodes' quantiles for the whole; here those of
the whole are of all pictures that were looked at, and of up to `ROWS` rows drawn at random.
"""

from collections.abc import Mapping

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
ROWS = 100_000
"""Rows of each feature that the quantiles of the whole are of."""
LOOKED_AT = 100
"""Pictures of an episode that are looked at, as LeRobot does."""
LONG_SIDE = 300
"""Larger pictures are thinned to about half of it."""

Stats = Mapping[str, np.ndarray]


def of_rows(rows: np.ndarray) -> Stats:
    """Statistics of [rows, size] numbers, each [size]."""
    values = rows.astype(np.float64)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, np.quantile(values, [*QUANTILES.values()], axis=0), strict=True)),
    }


def of_histogram(counts: np.ndarray, pictures: int) -> Stats:
    """Statistics of pictures from [3, 256] counts of their values, each [3, 1, 1] in [0, 1]."""
    levels = np.arange(256) / 255.0
    total = counts.sum(1, keepdims=True)
    mean = (counts * levels).sum(1, keepdims=True) / total
    variance = (counts * (levels - mean) ** 2).sum(1, keepdims=True) / total
    below = counts.cumsum(1) / total
    found = {
        "min": levels[(counts > 0).argmax(1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(1)],
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: levels[(below >= level).argmax(1)] for name, level in QUANTILES.items()},
    }
    shaped = {name: np.asarray(value).reshape(3, 1, 1) for name, value in found.items()}
    return {**shaped, "count": np.array([pictures])}


def looked_at(frames: int) -> set[int]:
    """Which pictures of an episode the statistics are of."""
    number = min(frames, max(LOOKED_AT, int(frames**0.75)))
    return set(np.linspace(0, frames - 1, number).round().astype(int).tolist())


def histogram(picture: np.ndarray) -> np.ndarray:
    """[3, 256] how often each value is in a picture [height, width, 3]; large ones are thinned."""
    longest = max(picture.shape[:2])
    step = max(1, longest // (LONG_SIDE // 2)) if longest >= LONG_SIDE else 1
    thin = picture[::step, ::step]
    return np.stack([np.bincount(thin[..., c].ravel(), minlength=256) for c in range(3)])


class Rows:
    """Statistics of rows that come one episode at a time, in bounded memory."""

    def __init__(self, seed: int = 0, most: int = ROWS) -> None:
        self._random, self._most = np.random.default_rng(seed), most
        self._count = 0
        self._moments: tuple[np.ndarray, np.ndarray] | None = None
        self._ends: tuple[np.ndarray, np.ndarray] | None = None
        self._drawn: np.ndarray | None = None
        self._keys = np.empty(0)

    def add(self, rows: np.ndarray) -> None:
        """Take [rows, size] numbers in."""
        values = rows.astype(np.float64)
        mean, squares = values.mean(0), ((values - values.mean(0)) ** 2).sum(0)
        low, high = values.min(0), values.max(0)
        if self._moments is not None and self._ends is not None:
            mean, squares = self._merged(len(values), mean, squares)
            low, high = np.minimum(low, self._ends[0]), np.maximum(high, self._ends[1])
        self._moments, self._ends = (mean, squares), (low, high)
        self._count += len(values)
        self._draw(values)

    def result(self) -> Stats:
        """Statistics of all that was taken in."""
        assert self._moments is not None
        assert self._ends is not None
        assert self._drawn is not None
        quantiles = np.quantile(self._drawn, [*QUANTILES.values()], axis=0)
        return {
            "min": self._ends[0],
            "max": self._ends[1],
            "mean": self._moments[0],
            "std": np.sqrt(self._moments[1] / self._count),
            "count": np.array([self._count]),
            **dict(zip(QUANTILES, quantiles, strict=True)),
        }

    def _merged(
        self, count: int, mean: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sum of squares about it, of what was and what comes (Chan et al., 1979)."""
        assert self._moments is not None
        total = self._count + count
        off = mean - self._moments[0]
        return (
            self._moments[0] + off * count / total,
            self._moments[1] + squares + off**2 * self._count * count / total,
        )

    def _draw(self, values: np.ndarray) -> None:
        """Keep the rows with the smallest random keys: a fair draw of all that came."""
        keys = np.concatenate([self._keys, self._random.random(len(values))])
        rows = values if self._drawn is None else np.concatenate([self._drawn, values])
        if len(keys) > self._most:
            chosen = np.argpartition(keys, self._most)[: self._most]
            keys, rows = keys[chosen], rows[chosen]
        self._keys, self._drawn = keys, rows


class Pictures:
    """Statistics of pictures that come one at a time."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        self.pictures = 0

    def add(self, counts: np.ndarray, pictures: int = 1) -> None:
        """Take the histogram of one picture or of several in."""
        self.counts += counts
        self.pictures += pictures

    def result(self) -> Stats:
        """Statistics of all that was taken in."""
        return of_histogram(self.counts, self.pictures)
