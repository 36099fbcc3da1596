"""Same-state ranking, spread, gain and tilt of critics whose answers are known."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from learner.diagnose.known import HORIZON, SHAPE, STAGE, episodes, linear, trained
from lwd.learner.diagnose import actions
from lwd.learner.diagnose.grid import grid
from lwd.learner.diagnose.trained import Trained


@pytest.fixture
def states():
    return grid(episodes(), trained().normaliser, horizon=HORIZON, discount=0.99, n_step=1)


def ranked(critic, states, rng):
    others = actions.alternatives(critic, states, rng, samples=4)
    q = {n: critic.reduce(actions.scores(critic, states.inputs, a)) for n, a in others.items()}
    executed = critic.reduce(critic.heads(states.inputs, states.action))
    return {
        (found.alternative, found.success): found
        for found in actions.rankings(states, executed, q)
        if found.task == "all"
    }


def test_a_critic_of_states_alone_prefers_no_action(states, rng):
    found = ranked(trained(), states, rng)
    assert {name for name, _ in found} == {
        *(f"{kind} {size:g}" for kind in ("noise", "shift") for size in actions.NOISES),
        *("shuffled", "policy", "reference"),
    }
    assert all(tuple(one.wins) == (0.5, 0.5, 0.5) for one in found.values())


def test_a_critic_that_knows_the_executed_chunk_always_prefers_it(states, rng):
    answers = dict(zip(map(bytes, states.inputs.state), states.action, strict=True))

    def knowing(params, inputs, a):
        def look_up(state):
            return np.stack([answers[bytes(np.asarray(row))] for row in state])

        known = jax.pure_callback(look_up, jax.ShapeDtypeStruct(a.shape, a.dtype), inputs.state)
        return -((a - known) ** 2).sum((1, 2))[None].repeat(2, axis=0)

    found = ranked(trained(q=knowing), states, rng)
    assert all(tuple(one.wins) == (1.0, 1.0, 1.0) for one in found.values())


def test_chunks_that_the_end_cut_short_do_not_count(states, rng):
    found = ranked(trained(), states, rng)
    counted = found["policy", True].states + found["policy", False].states
    assert counted == states.whole.sum() < len(states)
    assert found["policy", True].episodes == 4


def test_shuffled_chunks_are_of_another_episode_of_the_task(states, rng):
    assert any(t == "freezer" for t in states.task)
    taken = actions._elsewhere(states, rng)
    assert (states.task[taken] == states.task).all()
    assert (states.episode[taken] != states.episode).all()
    assert states.whole[taken].all()


class Named(str):
    """A task that a set puts where `place` says."""

    place: int

    def __hash__(self) -> int:
        return self.place


def named(task: str, place: int) -> Named:
    found = Named(task)
    found.place = place
    return found


def test_what_is_shuffled_does_not_depend_on_how_tasks_are_hashed(states):
    def taken(*places: int) -> np.ndarray:
        tasks = {t: named(t, n) for t, n in zip(("restocking", "freezer"), places, strict=True)}
        assert [*set(tasks.values())] == sorted(tasks.values(), key=hash)
        renamed = replace(states, task=np.array([tasks[t] for t in states.task], object))
        return actions._elsewhere(renamed, np.random.default_rng(0))

    np.testing.assert_array_equal(taken(0, 1), taken(1, 0))


def test_spread_gain_and_tilt_of_a_linear_critic_are_exact(states, rng):
    """Q = slope . a on standard normal chunks: std |slope|, gain slope . shift."""
    slope, shift = rng.normal(size=SHAPE) * 0.01, rng.normal(size=SHAPE) * 0.1
    critic = trained(slope=np.stack([slope, slope]), shift=shift)
    chunks = actions.alternatives(critic, states, rng, samples=64)
    heads = {name: actions.scores(critic, states.inputs, chunks[name]) for name in chunks}
    policy, reference = heads["policy"], heads["reference"]
    whole = next(iter(actions.spreads(states, policy, critic.reduce(policy))))
    size = np.sqrt((slope**2).sum())
    assert whole.within.value == pytest.approx(size, rel=0.1)
    assert whole.across.value == pytest.approx(states.inputs.state[:, 0].std(), rel=0.05)
    assert whole.ratio.value == pytest.approx(whole.within.value / whole.across.value)
    assert whole.agreement.value == pytest.approx(1.0)

    gain = next(iter(actions.gains(states, policy, reference, critic.reduce(policy - reference))))
    expected = float((slope * shift).sum())
    np.testing.assert_allclose(gain.mean, [expected] * 3, rtol=1e-3)
    assert gain.agreed.value == float(expected > 0)

    tilt = actions.tilt(critic, states, chunks, critic.reduce(reference), rng)
    rms = np.sqrt((shift**2).mean())
    np.testing.assert_allclose(tilt.endpoint, [rms] * 3, rtol=1e-4)
    np.testing.assert_allclose(tilt.velocity, [rms] * 3, rtol=1e-4)
    assert tilt.reference.value == pytest.approx(1.0, rel=0.02)
    assert tilt.log_ratio.value == pytest.approx(STAGE.qam.inv_temp * size, rel=0.1)


def test_the_spread_of_two_samples_by_hand(states, rng):
    """Samples d above and below the middle have the variance 2 d^2, and their mean d^2 of it."""
    middle, d = rng.normal(size=len(states)), 0.3
    q = np.stack([middle + d, middle - d])
    whole = next(iter(actions.spreads(states, np.stack([q, q]), q)))
    assert whole.within.value == pytest.approx(np.sqrt(2) * d)
    assert whole.across.value == pytest.approx(np.sqrt(middle.var() - d**2))


def test_the_velocities_are_compared_along_the_paths_of_the_policy(states, rng, monkeypatch):
    asked, real = [], Trained.velocity

    def noted(self, params, inputs, points, times):
        asked.append((points, times))
        return real(self, params, inputs, points, times)

    monkeypatch.setattr(Trained, "velocity", noted)
    critic = trained(shift=np.full(SHAPE, 9.0))
    chunks = actions.alternatives(critic, states, rng, samples=2)
    actions.tilt(critic, states, chunks, np.zeros((2, len(states))), rng)
    (points, times), again = asked
    assert again[0] is points
    w = times[:, None, None]
    noise = (points - w * chunks["policy"][0]) / (1 - w)
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1.0, abs=0.1)


def test_heads_that_disagree_about_actions_do_not_agree(states, rng):
    slope = rng.normal(size=SHAPE)
    critic = trained(slope=np.stack([slope, -slope]))
    chunks = actions.alternatives(critic, states, rng, samples=8)["policy"]
    heads = actions.scores(critic, states.inputs, chunks)
    whole = next(iter(actions.spreads(states, heads, critic.reduce(heads))))
    assert whole.agreement.value == pytest.approx(-1.0, abs=1e-3)
    assert whole.within.value == pytest.approx(0.0, abs=1e-5)


def test_the_least_head_counts_for_the_smallest_gain(states, rng):
    shift = np.full(SHAPE, 0.1)
    slope = np.stack([np.full(SHAPE, 0.01), np.full(SHAPE, -0.002)])
    critic = trained(slope=slope, shift=shift, q=linear)
    chunks = actions.alternatives(critic, states, rng, samples=2)
    policy, reference = (
        actions.scores(critic, states.inputs, chunks[name]) for name in ("policy", "reference")
    )
    gain = next(iter(actions.gains(states, policy, reference, critic.reduce(policy - reference))))
    numbers = np.prod(SHAPE)
    assert gain.mean.value == pytest.approx(0.004 * 0.1 * numbers, rel=1e-2)
    assert gain.smallest.value == pytest.approx(-0.002 * 0.1 * numbers, rel=1e-2)
    assert gain.agreed.value == 0.0
