"""Windows: numbers worked by hand, every way an episode can end, and a slow reference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwd.episode.types import Episode, Outcome
from lwd.episode.windows import chunks, episode_windows, is_open, rewards_to_go, windows
from sample_episodes import make_episode, make_header


def ended(ticks: int, outcome: Outcome) -> Episode:
    """Episode of `ticks` ticks that ended so."""
    return replace(make_episode(ticks=ticks), header=make_header(outcome=outcome))


def targets(episode: Episode, value: np.ndarray, n_step: int, **options) -> np.ndarray:
    """Eq. 19 for every start tick, H = 2 and gamma = 0.5 throughout this file."""
    found = episode_windows(episode, horizon=2, n_step=n_step, discount=0.5, **options)
    return found.returns + found.discount * value[found.end]


def test_rewards_to_go_by_hand() -> None:
    given = rewards_to_go(np.array([1.0, 0.0, 2.0]), 0.5)
    np.testing.assert_array_equal(given, [1.5, 1.0, 2.0, 0.0])


def test_success_on_a_chunk_border_by_hand() -> None:
    """T = 4: one-step windows 0-1, 1-2, 2-3 and the cut 3. The reward is on tick 3."""
    value = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    given = targets(ended(4, Outcome.SUCCESS), value, n_step=1)
    np.testing.assert_allclose(given, [0.25 * 30, 0.25 * 40, 0.5, 1.0])


def test_success_inside_a_chunk_by_hand() -> None:
    """T = 3: from tick 2 the chunk has one tick; from tick 1 it ends exactly at the end."""
    found = episode_windows(ended(3, Outcome.SUCCESS), horizon=2, n_step=1, discount=0.5)
    np.testing.assert_array_equal(found.returns, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(found.discount, [0.25, 0.0, 0.0])
    np.testing.assert_array_equal(found.end, [2, 3, 3])


def test_n_steps_get_shorter_at_the_end_by_hand() -> None:
    """T = 5, n = 2, so 4 ticks: from tick 0 a bootstrap at 4, from 1 on the terminal return."""
    found = episode_windows(ended(5, Outcome.SUCCESS), horizon=2, n_step=2, discount=0.5)
    np.testing.assert_array_equal(found.returns, [0.0, 0.125, 0.25, 0.5, 1.0])
    np.testing.assert_array_equal(found.discount, [0.0625, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(found.end, [4, 5, 5, 5, 5])


def test_failure_ends_the_return() -> None:
    found = episode_windows(ended(3, Outcome.FAILURE), horizon=2, n_step=1, discount=0.5)
    np.testing.assert_array_equal(found.returns, 0.0)
    np.testing.assert_array_equal(found.discount, [0.25, 0.0, 0.0])


def test_interruption_bootstraps_at_the_last_state() -> None:
    """Also from a cut chunk, with the discount of the ticks that were executed."""
    found = episode_windows(ended(3, Outcome.INTERRUPTED), horizon=2, n_step=1, discount=0.5)
    np.testing.assert_array_equal(found.returns, 0.0)
    np.testing.assert_array_equal(found.discount, [0.25, 0.25, 0.5])
    np.testing.assert_array_equal(found.end, [2, 3, 3])


def test_timeout_is_a_failure_unless_told_otherwise() -> None:
    episode = ended(3, Outcome.TIMEOUT)
    as_paper = episode_windows(episode, horizon=2, n_step=1, discount=0.5)
    as_cut = episode_windows(episode, horizon=2, n_step=1, discount=0.5, bootstrap_timeouts=True)
    np.testing.assert_array_equal(as_paper.discount, [0.25, 0.0, 0.0])
    np.testing.assert_array_equal(as_cut.discount, [0.25, 0.25, 0.5])


@pytest.mark.parametrize(
    ("outcome", "by_default", "with_option"),
    [
        (Outcome.SUCCESS, False, False),
        (Outcome.FAILURE, False, False),
        (Outcome.TIMEOUT, False, True),
        (Outcome.INTERRUPTED, True, True),
    ],
)
def test_which_ends_are_open(outcome: Outcome, by_default: bool, with_option: bool) -> None:
    header = make_header(outcome=outcome)
    assert is_open(header) is by_default
    assert is_open(header, bootstrap_timeouts=True) is with_option


def test_window_that_ends_exactly_at_the_last_state() -> None:
    """T = 4, n = 2: from tick 0 the window needs state 4, which exists but is terminal."""
    success = episode_windows(ended(4, Outcome.SUCCESS), horizon=2, n_step=2, discount=0.5)
    cut = episode_windows(ended(4, Outcome.INTERRUPTED), horizon=2, n_step=2, discount=0.5)
    assert (success.returns[0], success.discount[0], success.end[0]) == (0.125, 0.0, 4)
    assert (cut.returns[0], cut.discount[0], cut.end[0]) == (0.0, 0.0625, 4)


def test_episode_shorter_than_a_chunk() -> None:
    found = episode_windows(ended(1, Outcome.SUCCESS), horizon=30, n_step=10, discount=0.5)
    assert (found.returns[0], found.discount[0], found.end[0]) == (1.0, 0.0, 1)
    action = np.array([[7.0], [0.0]])
    chunk, mask = chunks(action, np.array([0]), np.array([1]), 3)
    np.testing.assert_array_equal(chunk, [[[7.0], [7.0], [7.0]]])
    np.testing.assert_array_equal(mask, [[True, False, False]])


def test_chunks_repeat_the_last_action_of_their_own_episode() -> None:
    """Two episodes end to end: rows 0-2 (T = 2) and 3-6 (T = 3); 99 marks rows without action."""
    action = np.array([[1.0], [2.0], [99.0], [3.0], [4.0], [5.0], [99.0]])
    chunk, mask = chunks(action, np.array([0, 1, 3, 5]), np.array([2, 2, 6, 6]), 3)
    np.testing.assert_array_equal(chunk[..., 0], [[1, 2, 2], [2, 2, 2], [3, 4, 5], [5, 5, 5]])
    np.testing.assert_array_equal(
        mask, [[True, True, False], [True, False, False], [True] * 3, [True, False, False]]
    )


def test_windows_of_different_lengths_in_one_call() -> None:
    """Two episodes end to end with n = 1 and n = 2 chunks of two ticks."""
    to_go = np.concatenate([rewards_to_go(np.eye(1, 3, 2)[0], 0.5), rewards_to_go(np.ones(4), 0.5)])
    found = windows(
        np.array([0, 4, 4]),
        np.array([3, 8, 8]),
        to_go,
        np.array([False, False, False]),
        ticks=np.array([2, 2, 4]),
        discount=0.5,
    )
    np.testing.assert_array_equal(found.returns, [0.0, 1.5, 1.875])
    np.testing.assert_array_equal(found.discount, [0.25, 0.25, 0.0])
    np.testing.assert_array_equal(found.end, [2, 6, 8])


def slow_target(
    reward: np.ndarray, t: int, n: int, horizon: int, discount: float, is_open_end: bool
) -> tuple[float, float, int]:
    """Eq. 19 as printed: chunk rewards first, then chunks, then the bootstrap if any."""
    length, returns = len(reward), 0.0
    for i in range(n):
        chunk_reward = 0.0
        for j in range(horizon):
            tick = t + i * horizon + j
            if tick < length:
                chunk_reward += discount**j * reward[tick]
        returns += discount ** (i * horizon) * chunk_reward
    end = min(t + n * horizon, length)
    bootstraps = end < length or is_open_end
    return returns, discount ** (end - t) if bootstraps else 0.0, end


@given(
    ticks=st.integers(1, 30),
    horizon=st.integers(1, 7),
    n_step=st.integers(1, 6),
    discount=st.sampled_from([0.5, 0.9, 0.9999]),
    outcome=st.sampled_from(list(Outcome)),
    bootstrap=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_slow_reference(
    ticks: int, horizon: int, n_step: int, discount: float, outcome: Outcome, bootstrap: bool
) -> None:
    episode = ended(ticks, outcome)
    found = episode_windows(
        episode,
        horizon=horizon,
        n_step=n_step,
        discount=discount,
        bootstrap_timeouts=bootstrap,
    )
    open_end = is_open(episode.header, bootstrap_timeouts=bootstrap)
    for t in range(ticks):
        returns, factor, end = slow_target(episode.reward, t, n_step, horizon, discount, open_end)
        assert found.returns[t] == pytest.approx(returns, abs=1e-6)
        assert found.discount[t] == pytest.approx(factor, abs=1e-6)
        assert found.end[t] == end


@given(ticks=st.integers(1, 40), n_step=st.integers(1, 5), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_dense_rewards_agree_too(ticks: int, n_step: int, seed: int) -> None:
    reward = np.random.default_rng(seed).normal(size=ticks)
    start = np.arange(ticks)
    found = windows(
        start,
        np.full(ticks, ticks),
        rewards_to_go(reward, 0.97),
        np.zeros(ticks, bool),
        ticks=3 * n_step,
        discount=0.97,
    )
    slow = [slow_target(reward, t, n_step, 3, 0.97, False)[0] for t in range(ticks)]
    np.testing.assert_allclose(found.returns, slow, atol=1e-5)


def test_five_minutes_at_30_hz_keep_the_papers_number() -> None:
    """A success 9,000 ticks away is worth 0.9999^8999 = 0.4066 with one long window."""
    found = episode_windows(ended(9000, Outcome.SUCCESS), horizon=30, n_step=300, discount=0.9999)
    assert found.returns[0] == pytest.approx(0.40659, abs=1e-4)
    assert found.discount[0] == 0.0
