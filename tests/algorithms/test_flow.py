"""Flow matching against hand-worked numbers and a Gaussian whose velocity is known."""

from inspect import unwrap as unchecked

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms import flow
from reference.gaussian import Gaussian, euler_moments


def test_the_path_starts_at_noise_and_ends_at_the_action():
    actions, noise = jnp.full((3, 2, 1), 5.0), jnp.full((3, 2, 1), 1.0)
    path = flow.interpolate(actions, noise, jnp.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(path[:, 0, 0], [1.0, 2.0, 5.0])


def test_sft_loss_by_hand():
    """Action 3, noise 1: the velocity is 2; a guess of 0.5 misses by 1.5."""
    actions, noise = jnp.full((1, 2, 2), 3.0), jnp.full((1, 2, 2), 1.0)
    loss, metrics = flow.sft_loss(
        lambda a, w: jnp.full(a.shape, 0.5), actions, noise, jnp.zeros(1), jnp.ones((1, 2), bool)
    )
    assert float(loss) == pytest.approx(2.25)
    assert metrics["policy/sft_loss"] == loss


def test_the_loss_of_the_action_is_how_far_from_it_the_velocity_leads():
    """At w = 0.75 a velocity that is off by 1.5 ends 1.5 * 0.25 beside the action."""
    actions, noise, times = jnp.full((1, 2, 2), 3.0), jnp.full((1, 2, 2), 1.0), jnp.array([0.75])
    loss, _ = flow.sft_loss(
        lambda a, w: jnp.full(a.shape, 0.5), actions, noise, times, jnp.ones((1, 2), bool),
        of="action",
    )  # fmt: skip
    assert float(loss) == pytest.approx((1.5 * 0.25) ** 2)


@pytest.mark.parametrize("steps", [1, 4, 10, 100])
def test_a_velocity_towards_an_action_leads_there_in_any_number_of_steps(steps):
    goal = jnp.array([[[3.0], [-2.0]], [[0.5], [7.0]]])
    noise = jax.random.normal(jax.random.key(0), goal.shape)
    path = flow.interpolate(goal, noise, jnp.array([0.0, 0.8]))
    velocity = flow.velocity_towards(goal, path, jnp.array([0.0, 0.8]))
    np.testing.assert_allclose(velocity, goal - noise, rtol=1e-5)
    found = flow.euler_sample(lambda a, w: flow.velocity_towards(goal, a, w), noise, steps)
    np.testing.assert_allclose(found, goal, rtol=1e-4)


def test_at_the_end_of_the_path_the_velocity_is_finite():
    towards = flow.velocity_towards(jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1)), jnp.ones(1))
    assert float(towards[0, 0, 0]) == pytest.approx(100.0)


def test_sft_loss_is_the_mean_over_the_ticks_that_happened():
    """The errors are 1 and 3; with one tick of each masked the other's square remains."""
    actions = jnp.array([[[1.0], [3.0]], [[1.0], [3.0]]])
    mask = jnp.array([[True, False], [True, True]])
    loss, _ = flow.sft_loss(
        lambda a, w: jnp.zeros_like(a), actions, jnp.zeros_like(actions), jnp.zeros(2), mask
    )
    assert float(loss) == pytest.approx((1 + 1 + 9) / 3)


def test_what_lies_after_the_end_has_no_effect_on_loss_and_gradient():
    actions = jnp.array([[[1.0], [1e6]]])
    mask = jnp.array([[True, False]])

    def loss(scale):
        return flow.sft_loss(
            lambda a, w: scale * jnp.ones_like(a), actions, jnp.zeros((1, 2, 1)), jnp.zeros(1), mask
        )[0]

    value, gradient = jax.value_and_grad(loss)(0.0)
    assert float(value) == pytest.approx(1.0)
    assert float(gradient) == pytest.approx(-2.0)


def test_a_batch_without_a_single_tick_costs_nothing():
    loss, _ = flow.sft_loss(
        lambda a, w: a,
        jnp.ones((1, 2, 1)),
        jnp.zeros((1, 2, 1)),
        jnp.zeros(1),
        jnp.zeros((1, 2), bool),
    )
    assert float(loss) == 0.0


@pytest.mark.parametrize("shape", [(4, 1), (1, 3), (4, 2), (4, 3, 1), (3,)])
def test_a_mask_that_does_not_fit_is_refused_by_name(shape):
    """Broadcast, the first two would make 3.0 and 4.0 of a mean of ones. The suite checks the types
    of shapes, a user's process does not."""
    ones, mask = jnp.ones((4, 3, 2)), jnp.ones(shape, bool)
    with pytest.raises(ValueError, match=r"mask has shape .* it must be \(4, 3\) or \(4, 3, 2\)"):
        unchecked(flow.masked_mean)(ones, mask)


def test_noise_and_velocities_that_do_not_fit_are_refused_by_name():
    chunks, thin, mask = jnp.ones((4, 3, 2)), jnp.ones((4, 1, 2)), jnp.ones((4, 3), bool)
    with pytest.raises(ValueError, match=r"velocity returned shape \(4, 1, 2\) for chunks of"):
        unchecked(flow.sft_loss)(lambda a, w: thin, chunks, chunks, jnp.zeros(4), mask)
    with pytest.raises(ValueError, match=r"noise has shape \(4, 1, 2\) for chunks of shape"):
        unchecked(flow.sft_loss)(lambda a, w: a, chunks, thin, jnp.zeros(4), mask)


def test_the_loss_in_float32_when_the_network_answers_in_bfloat16():
    loss, _ = flow.sft_loss(
        lambda a, w: jnp.zeros(a.shape, jnp.bfloat16),
        jnp.full((1, 1, 1), 1.001),
        jnp.zeros((1, 1, 1)),
        jnp.zeros(1),
        jnp.ones((1, 1), bool),
    )
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(1.001**2, rel=1e-6)


@pytest.mark.parametrize("steps", [0, -3])
def test_noise_is_no_sample(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}; without at least 1 the noise"):
        flow.euler_sample(lambda a, w: a, jnp.ones((2, 3, 1)), steps)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_euler_steps_see_their_own_time_and_state(steps):
    """da/dw = a + w: the same sum by hand, in float64."""
    expected = 1.0
    for i in range(steps):
        expected += (expected + i / steps) / steps
    actions = flow.euler_sample(lambda a, w: a + w[:, None, None], jnp.ones((2, 3, 1)), steps)
    np.testing.assert_allclose(actions, np.full((2, 3, 1), expected), rtol=1e-6)


def test_the_true_velocity_is_the_minimum_of_the_sft_loss():
    """For N(0.3, 0.25) the best affine velocity at each w is Gaussian.affine(w)."""
    target = Gaussian(0.3, 0.25)
    key_noise, key_action = jax.random.split(jax.random.key(0))
    noise = jax.random.normal(key_noise, (200_000, 1, 1))
    actions = 0.3 + 0.5 * jax.random.normal(key_action, noise.shape)
    times = jnp.full(noise.shape[0], 0.6)
    mask = jnp.ones(noise.shape[:2], bool)
    slope, offset = target.affine(0.6)

    def loss(slope, offset):
        return flow.sft_loss(lambda a, w: slope * a + offset, actions, noise, times, mask)[0]

    gradients = jax.grad(loss, argnums=(0, 1))(float(slope), float(offset))
    np.testing.assert_allclose(gradients, [0.0, 0.0], atol=0.01)
    assert float(loss(slope + 0.2, offset)) > float(loss(slope, offset))


@pytest.mark.parametrize(("steps", "variance"), [(3, 0.410), (4, 0.518), (10, 0.773)])
def test_ten_euler_steps_of_a_standard_normal_lose_a_fifth_of_its_variance(steps, variance):
    noise = jax.random.normal(jax.random.key(1), (100_000, 1, 1))
    samples = flow.euler_sample(Gaussian(0.0, 1.0).velocity, noise, steps)
    assert float(samples.var()) == pytest.approx(variance, rel=0.02)
    assert euler_moments(Gaussian(0.0, 1.0).affine, steps)[1] == pytest.approx(variance, abs=5e-4)
