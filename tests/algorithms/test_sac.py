"""Densities by quadrature, and the coefficient's sign."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms.sac import LOG_STD, Squashed, draw, soft_actor_loss


def test_the_density_of_a_squashed_gaussian_integrates_to_one_and_gives_its_entropy():
    u = jnp.linspace(-9.0, 9.0, 20001)[None, :, None]
    actor = Squashed(jnp.full(u.shape, 0.4), jnp.full(u.shape, -0.3))
    sample, log_prob = draw(actor, (u - 0.4) / jnp.exp(-0.3))
    x, density = np.asarray(sample, np.float64).ravel(), np.exp(np.asarray(log_prob).ravel())
    assert np.trapezoid(density, x) == pytest.approx(1.0, abs=1e-4)
    drawn = draw(actor, jax.random.normal(jax.random.key(0), u.shape))[1]
    by_quadrature = np.trapezoid(density * np.asarray(log_prob).ravel(), x)
    assert float(drawn.mean()) == pytest.approx(by_quadrature, abs=0.03)


def test_far_out_samples_stay_inside_and_keep_a_finite_density_and_gradient():
    def log_prob(mean):
        actor = Squashed(jnp.full((1, 1, 1), mean), jnp.full((1, 1, 1), 9.0))
        sample, log_prob = draw(actor, jnp.full((1, 1, 1), 2.0))
        return log_prob.sum(), sample

    for mean in (-500.0, 0.0, 500.0):
        (found, sample), slope = jax.value_and_grad(log_prob, has_aux=True)(mean)
        assert np.isfinite([found, slope]).all()
        assert abs(float(sample[0, 0, 0])) <= 1.0
    capped = draw(Squashed(jnp.zeros((1, 1, 1)), jnp.full((1, 1, 1), 9.0)), jnp.zeros((1, 1, 1)))[1]
    assert float(capped[0, 0, 0]) == pytest.approx(-LOG_STD[1] - 0.91894, abs=1e-4)


def loss(log_prob, log_coefficient, mask, target=-0.5):
    return soft_actor_loss(jnp.zeros(len(mask)), log_prob, log_coefficient, mask, target)


def test_the_coefficient_rises_when_the_entropy_is_below_its_target_and_falls_above():
    mask = jnp.ones((1, 2), bool)
    for entropy, sign in ((-0.8, -1), (-0.2, 1)):
        log_prob = jnp.full((1, 2, 3), -entropy)
        slope = jax.grad(lambda c, p=log_prob: loss(p, c, mask)[0])(jnp.log(0.5))
        assert float(slope) == pytest.approx(0.5 * 6 * (entropy + 0.5))
        assert np.sign(slope) == sign


def test_ticks_after_the_end_have_no_entropy_and_no_target():
    mask = jnp.array([[True, False], [True, True]])
    log_prob = jnp.array([[[1.0], [50.0]], [[2.0], [3.0]]])
    _, metrics = loss(log_prob, jnp.float32(0.0), mask)
    assert float(metrics["actor/entropy"]) == pytest.approx(-(1 + 2 + 3) / 3)
    slope, of_coefficient = jax.grad(lambda p, c: loss(p, c, mask)[0], (0, 1))(log_prob, 0.0)
    np.testing.assert_allclose(slope[:, :, 0], [[0.5, 0.0], [0.5, 0.5]])
    assert float(of_coefficient) == pytest.approx((-6 + 0.5 * 3) / 2)


def test_padded_dimensions_have_no_entropy_and_no_target():
    ticks = jnp.array([[True, False], [True, True]])
    each = ticks[:, :, None] & jnp.array([[[True, False]]])
    log_prob = jax.random.normal(jax.random.key(0), (2, 2, 2))
    padded, metrics = loss(log_prob, jnp.float32(0.3), each)
    alone, wanted = loss(log_prob[:, :, :1], jnp.float32(0.3), ticks)
    assert float(padded) == pytest.approx(float(alone))
    assert float(metrics["actor/entropy"]) == pytest.approx(float(wanted["actor/entropy"]))


def test_a_batch_without_a_single_tick_gives_finite_numbers():
    found, metrics = loss(jnp.ones((1, 2, 1)), jnp.float32(0.0), jnp.zeros((1, 2), bool))
    assert float(found) == 0.0
    assert float(metrics["actor/entropy"]) == 0.0
