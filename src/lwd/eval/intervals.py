"""What a number of successes says: Wilson intervals, and paired comparison on the same starts."""

from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist

import numpy as np


def wilson(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate (Wilson, 1927); (0, 1) without episodes."""
    if not 0 <= successes <= episodes:
        raise ValueError(f"{successes} successes of {episodes} episodes are not possible.")
    if episodes == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / episodes
    scale = 1 + z**2 / episodes
    centre = (rate + z**2 / (2 * episodes)) / scale
    half = z * sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2)) / scale
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == episodes else centre + half
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar p-value from the starts on which just one of two policies succeeds.

    The probability, were the two equally good, of a split at least as uneven (McNemar, 1947).
    """
    discordant = only_first + only_second
    tail = sum(comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**discordant)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two policies on the same starts; positive differences favour the first."""

    starts: int
    only_first: int
    """Starts on which only the first succeeds."""
    only_second: int
    difference: float
    """Success rate of the first minus that of the second."""
    low: float
    """Bootstrap interval of the difference over starts."""
    high: float
    p_value: float
    """Exact McNemar."""


def compare(
    first: np.ndarray,
    second: np.ndarray,
    *,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Paired comparison of successes [starts] bool, start by start.

    The interval is the percentile bootstrap over starts: where all starts agree it has no width,
    and the p-value, which is then 1, is the honest one of the two.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"successes have shapes {first.shape} and {second.shape}; expected the same starts."
        )
    starts = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    shares = np.array([only_first, only_second, starts - only_first - only_second]) / starts
    counts = np.random.default_rng(seed).multinomial(starts, shares, size=draws)
    differences = (counts[:, 0] - counts[:, 1]) / starts
    low, high = np.quantile(differences, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Comparison(
        starts=starts,
        only_first=only_first,
        only_second=only_second,
        difference=(only_first - only_second) / starts,
        low=float(low),
        high=float(high),
        p_value=mcnemar(only_first, only_second),
    )
