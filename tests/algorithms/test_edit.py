"""Edits under a quadratic Q: their mean, and the coefficient at which the entropy is on target."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwd.algorithms.edit import edit_loss, edited
from lwd.algorithms.sac import Squashed

SCALE, GOAL, CURVATURE = 0.5, 0.2, 8.0


def editor(params, a):
    return Squashed(
        params["slope"] * a + params["offset"], jnp.full(a.shape, 1.0) * params["log_std"]
    )


def q(a):
    return -CURVATURE / 2 * jnp.square(a - GOAL).sum((1, 2))


@partial(jax.jit, static_argnums=0)
def train(target_entropy: float):
    """Parameters and metrics after 3000 updates."""
    names, updates = ("slope", "offset", "log_std", "log_coefficient"), 3000
    optimiser = optax.adam(optax.cosine_decay_schedule(0.02, updates), b2=0.98)

    def loss(params, key):
        actions_key, noise_key = jax.random.split(key)
        actions = GOAL + 0.1 * jax.random.normal(actions_key, (64, 2, 2))
        noise = jax.random.normal(noise_key, actions.shape)
        return edit_loss(
            lambda a: editor(params, a), params["log_coefficient"], q, actions, noise,
            jnp.ones((64, 2), bool), scale=SCALE, target_entropy=target_entropy,
        )  # fmt: skip

    def step(carry, key):
        params, memory = carry
        slope, metrics = jax.grad(loss, has_aux=True)(params, key)
        change, memory = optimiser.update(slope, memory)
        return (optax.apply_updates(params, change), memory), metrics

    params = {name: jnp.float32(0.0) for name in names}
    keys = jax.random.split(jax.random.key(0), updates)
    (params, _), metrics = jax.lax.scan(step, (params, optimiser.init(params)), keys)
    return params, {name: values[-500:].mean() for name, values in metrics.items()}


@pytest.mark.parametrize("target", [-1.0, -1.5])
def test_the_coefficient_settles_where_the_entropy_is_on_target(target):
    """A narrow e is Gaussian with variance coefficient / (k scale^2); its entropy fixes both."""
    params, metrics = train(target)
    variance = math.exp(2 * target) / (2 * math.pi * math.e)
    assert float(metrics["actor/entropy"]) == pytest.approx(target, abs=0.03)
    assert float(jnp.exp(params["log_coefficient"])) == pytest.approx(
        CURVATURE * SCALE**2 * variance, rel=0.1
    )
    moved, _ = edited(
        lambda a: editor(params, a), jnp.full((1, 1, 1), GOAL + 0.1), jnp.zeros((1, 1, 1)),
        scale=SCALE,
    )  # fmt: skip
    assert float(moved[0, 0, 0]) == pytest.approx(GOAL, abs=0.02)


def test_an_edit_reaches_no_further_than_its_scale_and_the_box():
    actions = jnp.array([[[-0.9], [0.0], [0.9]]])
    strong = Squashed(jnp.full((1, 3, 1), 100.0), jnp.zeros((1, 3, 1)))
    chunk, _ = edited(lambda a: strong, actions, jnp.zeros((1, 3, 1)), scale=0.3, bound=1.0)
    np.testing.assert_allclose(chunk[0, :, 0], [-0.6, 0.3, 1.0], atol=1e-6)


def test_gradients_reach_editor_and_coefficient_but_not_the_flow_or_dead_ticks():
    mask = jnp.array([[[True], [False]], [[True], [True]]])
    noise = jax.random.normal(jax.random.key(1), (2, 2, 1))

    def loss(mean, log_coefficient, actions):
        return edit_loss(
            lambda a: Squashed(mean + 0.0 * a, jnp.zeros_like(a)), log_coefficient, q, actions,
            noise, mask, scale=SCALE,
        )[0]  # fmt: skip

    of_mean, of_coefficient, of_actions = jax.grad(loss, (0, 1, 2))(
        jnp.full((2, 2, 1), 0.3), jnp.float32(0.0), jnp.ones((2, 2, 1))
    )
    np.testing.assert_array_equal(jnp.abs(of_mean) > 0, mask)
    assert abs(float(of_coefficient)) > 0.1
    np.testing.assert_array_equal(of_actions, 0.0)
