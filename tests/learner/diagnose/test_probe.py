"""The look at the critic during training, on networks whose answers are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.diagnose.known import HORIZON, SHAPE, STAGE, episodes, trained
from lwd.learner.diagnose.grid import grid
from lwd.learner.diagnose.probe import NOISE, ROWS, probe
from lwd.learner.state import TrainState, Transitions

ROUNDS = 8
"""Keys that a mean is taken over."""


def looked(critic, *, keys=ROUNDS, padded=False):
    states = grid(episodes(12), critic.normaliser, horizon=HORIZON, discount=0.99, n_step=1)
    batch = Transitions(
        inputs=jax.tree.map(jnp.asarray, states.inputs),
        action=jnp.asarray(states.action),
        action_mask=jnp.ones((len(states), HORIZON), bool)
        if not padded
        else jnp.ones((len(states), *SHAPE), bool).at[:, :, -1].set(False),
        returns=jnp.zeros(len(states)),
        discount=jnp.zeros(len(states)),
        next_inputs=jax.tree.map(jnp.asarray, states.inputs),
    )
    fields = dict.fromkeys(TrainState._fields)
    state = TrainState(**(fields | critic.networks._asdict()))
    look = jax.jit(partial(probe, nets=critic.nets, stage=STAGE))
    found = [look(state, batch, jax.random.key(k)) for k in range(keys)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}, batch


def test_a_critic_of_states_alone_prefers_nothing():
    found, batch = looked(trained(), keys=2)
    assert found["probe/beats_noise"] == found["probe/beats_shuffled"] == 0.5
    assert found["probe/in_state"] == found["probe/gain"] == found["probe/slope"] == 0.0
    spread = float(batch.inputs.state[:ROWS, 0].std())
    assert found["probe/over_states"] == pytest.approx(spread, rel=1e-4)


def test_spread_gain_and_slope_of_a_linear_critic_are_exact(rng):
    slope, shift = rng.normal(size=SHAPE) * 0.01, rng.normal(size=SHAPE) * 0.1
    found, _ = looked(trained(slope=np.stack([slope, slope]), shift=shift), padded=True)
    size = np.sqrt((slope**2).sum())
    assert found["probe/in_state"] == pytest.approx(size, rel=0.15)
    assert found["probe/gain"] == pytest.approx((slope * shift).sum(), rel=1e-3, abs=1e-5)
    assert found["probe/slope"] == pytest.approx(size, rel=1e-4)
    assert found["probe/beats_noise"] == pytest.approx(0.5, abs=0.1)
    everywhere, _ = looked(trained(slope=np.stack([slope, slope]), by_state=0.0))
    assert everywhere["probe/over_states"] < 0.45 * size, "two samples' mean is not a state's"


def test_noise_that_q_minds_is_seen():
    def bowl(params, inputs, a):
        return -jnp.square(a).sum((1, 2))[None].repeat(2, axis=0)

    found, batch = looked(trained(q=bowl))
    expected = (
        NOISE**2 * np.prod(SHAPE) / (2 * NOISE * np.sqrt(np.square(batch.action).sum((1, 2))))
    )
    assert expected.min() > 0.9, "noise lowers Q by this many deviations"
    assert found["probe/beats_noise"] > 0.8
    size = np.square(batch.action[:ROWS]).sum((1, 2))
    wins = float((size < np.roll(size, 1)).mean())
    assert found["probe/beats_shuffled"] == pytest.approx(wins) != 0.5
