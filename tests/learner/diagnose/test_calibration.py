"""Reliability, TD targets, value curves and the grid that they are measured on."""

from dataclasses import replace

import numpy as np
import pytest

from learner.diagnose.known import HORIZON, STATE, episodes, trained
from lwd.errors import ConfigError
from lwd.learner.diagnose.calibration import reliability, targets, value_curves
from lwd.learner.diagnose.grid import finished, grid
from lwd.learner.diagnose.report import _grid
from lwd.models.presets import ACTION
from sample_episodes import make_episode

DISCOUNT = 0.9


def laid_out(found, n_step=1):
    return grid(found, trained().normaliser, horizon=HORIZON, discount=DISCOUNT, n_step=n_step)


def test_the_grid_has_every_chunk_start_and_the_return_from_there():
    states = laid_out([make_episode(25, state=STATE, action=ACTION)])
    assert len(states) == 3
    np.testing.assert_allclose(states.to_go, [DISCOUNT**24, DISCOUNT**14, DISCOUNT**4])
    assert states.whole.tolist() == [True, True, False]
    np.testing.assert_allclose(states.discount, [DISCOUNT**10, DISCOUNT**10, 0.0], rtol=1e-6)
    np.testing.assert_allclose(states.returns, [0, 0, DISCOUNT**4], rtol=1e-6)
    episode = make_episode(25, state=STATE, action=ACTION)
    np.testing.assert_array_equal(states.inputs.state[1], episode.state[10])
    np.testing.assert_array_equal(states.next_inputs.state[:2], states.inputs.state[1:])


def test_a_window_of_several_chunks_may_differ_by_task():
    found = [make_episode(25, state=STATE, action=ACTION, task=t) for t in ("freezer", "tea")]
    states = laid_out(found, n_step={"freezer": 2})
    np.testing.assert_allclose(states.discount[[0, 3]], [DISCOUNT**20, DISCOUNT**10], rtol=1e-6)


def test_a_grid_for_networks_that_see_has_the_starts_with_images_before_and_after_their_window():
    ticks, seen = 45, (0, 10, 15, 20, 40)
    images = {"head": tuple(b"." if tick in seen else None for tick in range(ticks + 1))}
    episode = replace(make_episode(ticks, state=STATE, action=ACTION), images=images)
    sizes = {"horizon": HORIZON, "discount": DISCOUNT, "n_step": 1}
    states = grid([episode], trained().normaliser, cameras=("head",), **sizes)
    wanted = [0, 10, 40]
    np.testing.assert_array_equal(states.inputs.state, episode.state[wanted])
    np.testing.assert_array_equal(states.next_inputs.state, episode.state[[10, 20, 0]])
    assert (states.discount > 0).tolist() == [True, True, False], "nobody asks V after the end"
    np.testing.assert_allclose(states.to_go, [DISCOUNT**44, DISCOUNT**34, DISCOUNT**4])


def test_a_time_out_is_laid_out_as_it_was_learnt_from():
    critic, cut = trained(), [make_episode(25, state=STATE, action=ACTION, outcome="timeout")]
    assert _grid(critic, cut).discount[-1] == 0
    config = replace(critic.config, bootstrap_timeouts=True)
    discount = _grid(replace(critic, config=config), cut).discount[-1]
    assert discount == pytest.approx(config.control.discount() ** 5)


def test_interrupted_episodes_have_no_return_and_one_is_not_enough():
    cut = make_episode(25, state=STATE, action=ACTION, outcome="interrupted")
    whole = make_episode(25, state=STATE, action=ACTION)
    assert finished([cut, whole, whole]) == [whole, whole]
    with pytest.raises(ConfigError, match="1 finished episodes of 2"):
        finished([cut, whole])


def test_a_perfect_predictor_is_calibrated_and_a_shifted_one_is_off_by_the_shift():
    states = laid_out(episodes(12))
    found = reliability(states, {"right": states.to_go, "high": states.to_go + 0.1})
    right, high = (one for one in found if one.task == "all")
    assert right.bias.value == pytest.approx(0.0, abs=1e-9)
    assert right.error.value == pytest.approx(0.0, abs=1e-9)
    assert right.correlation.value == pytest.approx(1.0)
    np.testing.assert_allclose(high.bias, [0.1] * 3)
    np.testing.assert_allclose(high.error, [0.1] * 3)
    assert sum(right.count) == right.states == len(states)
    np.testing.assert_allclose(right.predicted, right.observed)


def test_errors_that_cancel_on_average_still_count():
    """Half of the states 0.2 too high, half too low: no bias, and an error of 0.2."""
    states = laid_out(episodes(12))
    middle = np.full(len(states), states.to_go.mean())
    low = np.argsort(states.to_go, kind="stable")[: len(states) // 2]
    predicted = np.where(np.isin(np.arange(len(states)), low), middle - 0.2, middle + 0.2)
    expected = np.abs([predicted[m].mean() - states.to_go[m].mean() for m in _bins(predicted)])
    found = reliability(states, {"swayed": predicted})[0]
    weights = [len(m) for m in _bins(predicted)]
    assert found.error.value == pytest.approx(np.average(expected, weights=weights))


def _bins(predicted):
    return np.array_split(np.argsort(predicted, kind="stable"), 10)


def test_targets_outside_what_a_return_can_be_are_counted():
    states = laid_out(episodes())
    found = targets(states, np.full(len(states), 1.5))
    y = states.returns + states.discount * 1.5
    assert found.mean.value == pytest.approx(y.mean(), rel=1e-6)
    assert found.above.value == pytest.approx((y > 1).mean())
    assert found.below.value == 0.0
    assert found.highest == pytest.approx(y.max())
    assert targets(states, np.full(len(states), -1.0)).below.value > 0.5


def test_value_curves_are_aligned_to_the_end_and_know_the_truth():
    found = {(c.task, c.success): c for c in value_curves(trained(), episodes(12), discount=0.9)}
    curve = found["all", True]
    assert curve.episodes == 6
    np.testing.assert_allclose(curve.value, 0.5, rtol=1e-5)
    np.testing.assert_allclose(curve.truth[:3], [1.0, 0.9, 0.81])
    np.testing.assert_allclose(curve.before_end_s[:3], [0.1, 0.2, 0.3])
    lengths = sorted((e.ticks for e in episodes(12) if e.header.outcome == "success"), reverse=True)
    assert len(curve.value) == lengths[2], "as far back as three episodes go"
    assert not any(found["all", False].truth)


def test_too_few_episodes_draw_no_curve():
    found = value_curves(trained(), episodes(4), discount=0.9)
    assert found == []


def test_groups_are_all_states_and_each_of_several_tasks():
    states = laid_out(episodes())
    groups = dict(states.groups())
    assert list(groups) == ["all", "freezer", "restocking"]
    assert groups["all"].all()
    assert (groups["freezer"] ^ groups["restocking"]).all()
    assert [name for name, _ in laid_out(episodes()[::2]).groups()] == ["all"]
