"""Intervals and paired tests against published numbers and slow enumeration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwd.eval.intervals import compare, mcnemar, wilson


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, Table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_numbers(successes, episodes, low, high):
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_rate_and_mirrors(counts):
    successes, episodes = counts
    low, high = wilson(successes, episodes)
    assert 0 <= low <= successes / episodes <= high <= 1
    mirrored = wilson(episodes - successes, episodes)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_narrows_with_episodes_and_widens_with_confidence():
    widths = [high - low for low, high in (wilson(n // 2, n) for n in (10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)
    low, high = wilson(5, 10, confidence=0.99)
    assert high - low > widths[0]


def test_wilson_covers_the_true_rate_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for rate in (0.1, 0.5, 0.9):
        drawn = rng.binomial(50, rate, size=2000)
        bounds = np.array([wilson(int(k), 50) for k in range(51)])[drawn]
        covered = np.mean((bounds[:, 0] <= rate) & (rate <= bounds[:, 1]))
        assert 0.92 < covered < 0.985


def test_nothing_is_known_without_episodes():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "episodes"), [(3, 2), (-1, 5)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match="not possible"):
        wilson(successes, episodes)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 3), (7, 2), (0, 6), (9, 1)])
def test_mcnemar_is_the_share_of_splits_at_least_as_uneven(first, second):
    splits = [sum(flips) for flips in product((0, 1), repeat=first + second)]
    uneven = [abs(2 * k - first - second) >= abs(first - second) for k in splits]
    assert mcnemar(first, second) == pytest.approx(np.mean(uneven))


def test_comparison_counts_discordant_starts():
    first = np.array([1, 1, 1, 1, 0, 0, 1, 1], bool)
    second = np.array([0, 0, 1, 1, 1, 0, 0, 1], bool)
    found = compare(first, second)
    assert (found.starts, found.only_first, found.only_second) == (8, 3, 1)
    assert found.difference == 0.25
    assert found.p_value == mcnemar(3, 1)
    assert found.low < 0.25 < found.high
    mirrored = compare(second, first)
    assert mirrored.difference == -0.25
    assert mirrored.p_value == found.p_value


def test_bootstrap_agrees_with_the_normal_interval_for_many_starts():
    rng = np.random.default_rng(1)
    first, second = rng.random(2000) < 0.7, rng.random(2000) < 0.6
    found = compare(first, second)
    paired = first.astype(float) - second
    half = 1.96 * paired.std() / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx(
        (paired.mean() - half, paired.mean() + half), abs=0.003
    )


def test_the_same_results_give_no_evidence():
    same = np.array([True, False, True])
    found = compare(same, same)
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_policies_must_share_their_starts():
    with pytest.raises(ValueError, match="expected the same starts"):
        compare(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="expected the same starts"):
        compare(np.ones(0, bool), np.ones(0, bool))
