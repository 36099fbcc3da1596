"""One-step policies where the flow is affine and Q quadratic, so the optimum is affine too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwd.algorithms.fql import one_step_loss
from reference.gaussian import Gaussian

STEPS = 5
REFERENCE = Gaussian(0.3, 0.25)
NOISE = jax.random.normal(jax.random.key(0), (256, 1, 1))
LIVE = jnp.ones((256, 1), bool)


def carried(reference: Gaussian) -> tuple[float, float]:
    """Slope and offset of the map from noise to the end of `STEPS` Euler steps."""
    slope, offset = 1.0, 0.0
    for i in range(STEPS):
        factor, shift = reference.affine(i / STEPS)
        slope, offset = slope + factor * slope / STEPS, offset + (factor * offset + shift) / STEPS
    return float(slope), float(offset)


def fit(q, *, alpha, flow=REFERENCE, bound=float("inf"), noise=NOISE, mask=LIVE, updates=400):
    """Slope and offset of the affine one-step policy that the loss prefers."""
    optimiser = optax.adam(optax.cosine_decay_schedule(0.05, updates))

    def loss(params):
        actor = lambda z: params[0] * z + params[1]  # noqa: E731
        return one_step_loss(
            actor, flow.velocity, q, noise, mask, steps=STEPS, alpha=alpha, bound=bound
        )[0]

    def step(carry, _):
        params, memory = carry
        change, memory = optimiser.update(jax.grad(loss)(params), memory)
        return (optax.apply_updates(params, change), memory), None

    params = jnp.array([0.5, 0.0])
    (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), None, length=updates)
    return np.asarray(params)


@pytest.mark.parametrize("alpha", [0.5, 3.0])
def test_the_optimum_is_a_compromise_of_flow_and_critic(alpha):
    """2 alpha (mu - x) = c - k mu with x the flow's action, so mu is affine in x."""
    c, k = 1.5, 2.0
    slope, offset = carried(REFERENCE)
    found = fit(lambda a: (c * a - k / 2 * a**2).sum((1, 2)), alpha=alpha)
    wanted = np.array([2 * alpha * slope, 2 * alpha * offset + c]) / (2 * alpha + k)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_without_a_preference_it_is_the_flow_in_one_step():
    found = fit(lambda a: 0.0 * a.sum((1, 2)), alpha=1.0)
    np.testing.assert_allclose(found, carried(REFERENCE), atol=1e-3)


def test_distilled_from_a_tilted_flow_it_is_the_tilted_policy():
    tilted = REFERENCE.tilt(2.0, 0.0)
    _, offset = fit(lambda a: 0.0 * a.sum((1, 2)), alpha=1.0, flow=tilted)
    assert offset == pytest.approx(0.8, abs=2e-3)


def test_the_critic_pulls_no_further_than_the_box():
    """A gradient of 50 against alpha = 1 would end at 25 outside of every box."""
    found = fit(lambda a: 50.0 * a.sum((1, 2)), alpha=1.0, bound=1.0, updates=800)
    reached = found[0] * NOISE[:, 0, 0] + found[1]
    assert 0.9 < float(reached.mean()) < 1.4


def test_the_flow_is_followed_to_the_edge_of_the_box_only():
    _, metrics = one_step_loss(
        jnp.ones_like, lambda a, w: 0 * a + 9.0, lambda a: a.sum((1, 2)), NOISE, LIVE,
        steps=STEPS, alpha=1.0, bound=1.0,
    )  # fmt: skip
    assert float(metrics["actor/distance"]) == 0.0


@pytest.mark.parametrize("dimensions", [None, (True, False)])
def test_nothing_is_learned_from_ticks_after_the_end_and_padding(dimensions):
    noise = jax.random.normal(jax.random.key(1), (4, 3, 2))
    mask = jnp.arange(3)[None] < jnp.array([1, 2, 3, 0])[:, None]
    if dimensions is not None:
        mask = mask[:, :, None] & jnp.array([[dimensions]])

    def loss(chunk):
        return one_step_loss(
            lambda z: chunk, REFERENCE.velocity, lambda a: jnp.square(a).sum((1, 2)),
            noise, mask, steps=STEPS, alpha=2.0,
        )[0]  # fmt: skip

    slope = jax.grad(loss)(jnp.ones((4, 3, 2)))
    wanted = mask if mask.ndim == 3 else jnp.stack([mask, mask], axis=2)
    np.testing.assert_array_equal(jnp.abs(slope) > 0, wanted)


def test_no_gradient_passes_through_the_flow_and_metrics_add_up():
    def loss(shift):
        return one_step_loss(
            lambda z: 0.1 * z,
            lambda a, w: REFERENCE.velocity(a, w) + shift,
            lambda a: a.sum((1, 2)),
            NOISE,
            LIVE,
            steps=STEPS,
            alpha=3.0,
        )

    slope, metrics = jax.grad(loss, has_aux=True)(0.5)
    assert float(slope) == 0.0
    total = 3.0 * metrics["actor/distance"] - metrics["actor/q"]
    assert float(loss(0.5)[0]) == pytest.approx(float(total))
    assert float(metrics["actor/distance"]) > 0.1
