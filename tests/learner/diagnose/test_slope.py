"""The action gradient against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.diagnose.known import HORIZON, SHAPE, episodes, linear, trained
from lwd.learner.diagnose.grid import grid
from lwd.learner.diagnose.slope import slope


def measured(critic, rng):
    states = grid(episodes(), critic.normaliser, horizon=HORIZON, discount=0.99, n_step=1)
    actions = rng.standard_normal((len(states), *SHAPE), np.float32)
    return slope(critic, states, actions, rng)


def test_a_linear_critic_has_one_slope_everywhere(rng):
    direction = 0.05 * rng.normal(size=SHAPE)
    critic = trained(slope=np.stack([direction, direction]), by_state=0.1)
    found = measured(critic, rng)
    size = float(np.sqrt((direction**2).sum()))
    np.testing.assert_allclose(found.norm, [size] * 3, rtol=1e-4)
    assert found.along == pytest.approx(1.0, abs=1e-3)
    assert found.along_error < 1e-2
    assert found.random_error < 1e-2
    for reach in found.reach:
        promised = size * reach.length * np.sqrt(np.prod(SHAPE))
        assert reach.predicted == pytest.approx(promised, rel=1e-4)
        assert reach.realised.value == pytest.approx(promised, rel=1e-2)
        assert reach.agreed.value == 1.0


def test_a_gradient_that_is_stopped_half_way_is_found(rng):
    def half(params, inputs, a):
        return linear(params, inputs, (a + jax.lax.stop_gradient(a)) / 2)

    direction = 0.05 * rng.normal(size=SHAPE)
    found = measured(trained(slope=np.stack([direction, direction]), q=half), rng)
    assert found.along == pytest.approx(2.0, abs=0.01)
    assert found.along_error > 0.9
    assert found.random_error > 0.9


def test_a_gradient_that_does_not_reach_far_promises_too_much(rng):
    def bowl(params, inputs, a):
        return -jnp.square(a).sum((1, 2))[None].repeat(2, axis=0)

    found = measured(trained(q=bowl), rng)
    near, far = found.reach[0], found.reach[-1]
    assert near.realised.value == pytest.approx(near.predicted, rel=0.05)
    assert far.realised.value < 0.6 * far.predicted
    assert found.along == pytest.approx(1.0, abs=0.01)


def test_a_critic_without_a_slope_is_no_error(rng):
    found = measured(trained(), rng)
    assert found.norm.value == 0.0
    assert np.isnan(found.along)
    assert all(reach.realised.value == 0.0 for reach in found.reach)
