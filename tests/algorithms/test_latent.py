"""Steering a flow that carries noise z to slope z + offset, under linear and quadratic critics."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.test_fql import REFERENCE, STEPS, carried
from lwd.algorithms.flow import euler_sample
from lwd.algorithms.latent import noise_actor_loss, noise_critic_loss, steered
from lwd.algorithms.sac import Squashed

BOUND = 1.5


def descend(loss, params, *, updates=2000, rate=0.02):
    """Parameters after `updates` Adam steps on loss(params, key)."""
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, updates), b2=0.98)

    @jax.jit
    def run(params):
        def step(carry, key):
            params, memory = carry
            change, memory = optimiser.update(jax.grad(loss)(params, key), memory)
            return (optax.apply_updates(params, change), memory), None

        keys = jax.random.split(jax.random.key(0), updates)
        return jax.lax.scan(step, (params, optimiser.init(params)), keys)[0][0]

    return run(params)


def test_the_second_critic_learns_what_each_head_says_of_the_flows_action():
    slope, offset = carried(REFERENCE)
    heads = jnp.array([2.0, -1.0])

    def loss(params, key):
        def linear(z):
            return params["slope"][:, None] * z[None, :, 0, 0] + params["offset"][:, None]

        return noise_critic_loss(
            linear, lambda a: heads[:, None] * a[None, :, 0, 0], REFERENCE.velocity,
            jax.random.normal(key, (64, 1, 1)), steps=STEPS,
        )[0]  # fmt: skip

    found = descend(loss, {"slope": jnp.zeros(2), "offset": jnp.zeros(2)}, updates=1000)
    np.testing.assert_allclose(found["slope"], heads * slope, atol=1e-3)
    np.testing.assert_allclose(found["offset"], heads * offset, atol=1e-3)


def test_the_first_critic_judges_what_the_box_leaves_of_the_flows_action():
    loss, _ = noise_critic_loss(
        lambda z: jnp.full((2, 8), 0.5), lambda a: jnp.stack([a[:, 0, 0], a[:, 0, 0]]),
        lambda a, w: 0 * a + 9.0, jax.random.normal(jax.random.key(0), (8, 1, 1)),
        steps=STEPS, action_bound=0.5,
    )  # fmt: skip
    assert float(loss) == 0.0


def test_distillation_differentiates_neither_the_flow_nor_the_first_critic():
    def loss(shift, scale):
        return noise_critic_loss(
            lambda z: jnp.zeros((2, 8)),
            lambda a: scale * jnp.ones((2, 1)) * a[None, :, 0, 0],
            lambda a, w: REFERENCE.velocity(a, w) + shift,
            jax.random.normal(jax.random.key(0), (8, 1, 1)), steps=STEPS,
        )[0]  # fmt: skip

    value, slopes = jax.value_and_grad(loss, (0, 1))(0.5, 2.0)
    assert float(value) > 0.1
    assert [float(slope) for slope in slopes] == [0.0, 0.0]


def actor(params, shape):
    return Squashed(*(jnp.full(shape, 1.0) * params[name] for name in ("mean", "log_std")))


def steer(noise_q, *, target_entropy):
    def loss(params, key):
        noise = jax.random.normal(key, (64, 1, 1))
        return noise_actor_loss(
            actor(params, noise.shape), params["log_coefficient"], noise_q, noise,
            bound=BOUND, target_entropy=target_entropy,
        )[0]  # fmt: skip

    return descend(loss, dict.fromkeys(("mean", "log_std", "log_coefficient"), jnp.float32(0.0)))


def test_the_flow_is_steered_to_the_goal_and_the_coefficient_follows_the_curvature():
    """Q = -k / 2 (a - goal)^2 at a = slope z + offset has its maximum at one noise."""
    slope, offset = carried(REFERENCE)
    curvature, goal, target = 30.0, offset + 0.1 * slope, -1.2

    def noise_q(z):
        return -curvature / 2 * jnp.square(slope * z + offset - goal).sum((1, 2))

    params = steer(noise_q, target_entropy=target)
    noise, _ = steered(actor(params, (1, 1, 1)), jnp.zeros((1, 1, 1)), bound=BOUND)
    reached = euler_sample(REFERENCE.velocity, noise, STEPS)
    assert float(reached[0, 0, 0]) == pytest.approx(goal, abs=0.02)
    variance = math.exp(2 * target) / (2 * math.pi * math.e)
    wanted = curvature * (slope * BOUND) ** 2 * variance
    assert float(jnp.exp(params["log_coefficient"])) == pytest.approx(wanted, rel=0.1)


def test_a_critic_that_always_wants_more_gets_the_end_of_the_box_and_no_more():
    params = steer(lambda z: 100.0 * z.sum((1, 2)), target_entropy=-3.0)
    noise = jax.random.normal(jax.random.key(5), (500, 1, 1))
    chosen, _ = steered(actor(params, noise.shape), noise, bound=BOUND)
    assert float(chosen.max()) <= BOUND
    assert float(chosen.mean()) > 0.95 * BOUND
