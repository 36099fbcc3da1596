"""Intervals over episodes, not over states."""

import numpy as np
import pytest

from lwd.learner.diagnose import bootstrap


def test_totals_add_up_each_episode():
    sums = bootstrap.totals(np.array([7, 3, 7, 7]), np.ones(4), np.array([1.0, 2, 3, 4]))
    assert sums.tolist() == [[1, 2], [3, 8]]


def test_a_mean_weighs_states_and_its_interval_draws_episodes():
    episode = np.repeat([0, 1], [100, 300])
    found = bootstrap.mean(episode, np.where(episode == 0, 0.0, 1.0))
    assert found.value == pytest.approx(0.75)
    # Two episodes: a quarter of the draws has only the first, a quarter only the second.
    assert (found.low, found.high) == (0.0, 1.0)


def test_many_like_episodes_give_the_interval_of_their_mean(rng):
    values = rng.normal(size=400)
    found = bootstrap.mean(np.arange(400), values)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.08 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.08 * half)


def test_more_states_of_the_same_episodes_make_no_interval_narrower(rng):
    values = rng.normal(size=20)
    once = bootstrap.mean(np.arange(20), values)
    often = bootstrap.mean(np.repeat(np.arange(20), 50), np.repeat(values, 50))
    np.testing.assert_allclose(often, once, rtol=1e-9)


def test_one_episode_has_no_interval():
    found = bootstrap.mean(np.zeros(5), np.arange(5.0))
    assert found.value == 2.0
    assert np.isnan([found.low, found.high]).all()


def test_correlation_is_pearsons(rng):
    x = rng.normal(size=300)
    y = 0.5 * x + rng.normal(size=300)
    found = bootstrap.correlation(np.arange(300), x + 1e3, y)
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.low < found.value < found.high
    assert np.isnan(bootstrap.correlation(np.arange(3), np.ones(3), np.arange(3.0)).value)


def test_draws_in_which_a_number_is_not_defined_do_not_count():
    sums = np.array([[1.0, 4.0], [0.0, 0.0]])
    found = bootstrap.band(sums, lambda m: m[:, 1:] / m[:, :1])
    assert [float(part[0]) for part in found] == [4.0, 4.0, 4.0]
