"""Expectile regression and the asymmetric losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms import iql


def test_the_loss_by_hand():
    """q - v is 1 and -2: 0.9 * 1 and 0.1 * 4, mean 0.65."""
    loss, metrics = iql.expectile_loss(jnp.array([0.0, 2.0]), jnp.array([1.0, 0.0]), 0.9)
    assert float(loss) == pytest.approx(0.65)
    assert float(metrics["value/mean"]) == pytest.approx(1.0)


@pytest.mark.parametrize(("power", "expected"), [(1.0, [0.6, 0.0, 0.35]), (2.0, [1.2, 0.0, 0.175])])
def test_the_asymmetric_family_by_hand(power, expected):
    u = jnp.array([2.0, 0.0, -0.5])
    np.testing.assert_allclose(iql.asymmetric(u, 0.3, power), expected, rtol=1e-6)


def minimiser(q: np.ndarray, tau: float, power: float) -> float:
    """Scalar with the smallest asymmetric loss, by search over a fine grid."""
    grid = np.linspace(q.min(), q.max(), 4001)
    u = q[None] - grid[:, None]
    loss = np.asarray(iql.asymmetric(jnp.asarray(u, jnp.float32), tau, power)).mean(axis=1)
    return float(grid[loss.argmin()])


def test_power_two_gives_the_mean_at_one_half_and_grows_with_tau():
    q = np.random.default_rng(0).gamma(2.0, size=300)
    assert minimiser(q, 0.5, 2.0) == pytest.approx(q.mean(), abs=0.01)
    assert minimiser(q, 0.3, 2.0) < minimiser(q, 0.5, 2.0) < minimiser(q, 0.9, 2.0)


def test_power_one_gives_the_quantile():
    q = np.random.default_rng(1).normal(size=301)
    assert minimiser(q, 0.8, 1.0) == pytest.approx(np.quantile(q, 0.8), abs=0.02)


def test_gradient_descent_on_the_loss_finds_the_expectile():
    """q is 0 or 1, half each: tau (1 - v) = (1 - tau) v, so the expectile is tau."""
    q = jnp.array([0.0, 1.0])

    def step(v, _):
        slope = jax.grad(lambda v: iql.expectile_loss(jnp.full(2, v), q, 0.9)[0])(v)
        return v - 0.5 * slope, None

    v, _ = jax.lax.scan(step, jnp.zeros(()), None, length=200)
    assert float(v) == pytest.approx(0.9, abs=1e-4)


def test_no_gradient_reaches_the_critic():
    gradient = jax.grad(lambda q: iql.expectile_loss(jnp.zeros(2), q, 0.9)[0])(jnp.ones(2))
    np.testing.assert_array_equal(gradient, np.zeros(2))


def test_one_compiled_loss_serves_every_level():
    compiled = jax.jit(lambda tau: iql.expectile_loss(jnp.zeros(2), jnp.array([1.0, -1.0]), tau)[0])
    for tau in (0.6, 0.9):
        assert float(compiled(jnp.float32(tau))) == pytest.approx(0.5)
    assert compiled._cache_size() == 1


def test_the_bootstrap_is_the_value_in_float32_without_a_gradient():
    value, metrics = iql.bootstrap(jnp.array([0.25, 0.75], jnp.bfloat16), 0.9)
    np.testing.assert_array_equal(value, [0.25, 0.75])
    assert value.dtype == jnp.float32
    assert float(metrics["value/bootstrap"]) == 0.5
    assert float(metrics["value/tau"]) == pytest.approx(0.9)
    gradient = jax.grad(lambda v: iql.bootstrap(v, 0.9)[0].sum())(jnp.ones(2))
    np.testing.assert_array_equal(gradient, np.zeros(2))
