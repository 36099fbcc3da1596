"""The value network's outputs, read as a distribution and as a scalar."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms import categorical, divl, iql
from lwd.config import DivlConfig
from lwd.learner import value_head

ATOMS = categorical.support(-0.1, 1.1, 201)
Q = jnp.array([0.2, 0.5, 0.9])
LOGITS = 3 * jax.random.normal(jax.random.key(0), (3, 201))
SCALARS = jnp.array([[0.1], [0.6], [0.8]])
EXPECTILE = DivlConfig(value="expectile", tau_base=0.9)


def test_there_is_an_output_for_each_atom_or_one():
    assert DivlConfig(atoms=51).outputs == 51
    assert EXPECTILE.outputs == 1


@pytest.mark.parametrize(("projection", "sigma"), [("two_hot", 0.0), ("hl_gauss", 0.75)])
def test_a_distribution_is_fitted_and_read_with_the_same_projection(projection, sigma):
    config = DivlConfig(projection=projection, tau_base=0.9)
    loss, _ = value_head.loss(LOGITS, Q, 0.9, config)
    assert float(loss) == float(divl.value_loss(LOGITS, Q, ATOMS, sigma)[0])
    sharp = jnp.log(categorical.project(Q, ATOMS, sigma) + 1e-30)
    value, metrics = value_head.bootstrap(sharp, 0.9, config)
    np.testing.assert_allclose(value, Q, atol=1e-4)
    assert float(metrics["value/tau"]) < 0.9
    np.testing.assert_allclose(value_head.mean(sharp, config), Q, atol=1e-5)
    levels = (0.1, 0.5, 0.9)
    np.testing.assert_allclose(
        value_head.quantiles(sharp, levels, config), np.tile(Q[:, None], (1, 3)), atol=1e-4
    )


def test_levels_and_their_bounds_are_those_of_the_settings():
    """Before the clip 0.2 for the uniform distribution, 0.9 for one atom."""
    logits = jnp.stack([jnp.zeros(201), 1e3 * jnp.eye(201)[7]])
    config = DivlConfig(alpha=0.7, tau_min=0.4, tau_max=0.8)
    _, metrics = value_head.bootstrap(logits, 0.9, config)
    assert float(metrics["value/tau"]) == pytest.approx((0.4 + 0.8) / 2)
    wide = replace(config, tau_min=0.01, tau_max=0.99)
    _, metrics = value_head.bootstrap(logits, 0.9, wide)
    assert float(metrics["value/tau"]) == pytest.approx((0.2 + 0.9) / 2)


def test_quantiles_are_those_of_the_distribution():
    found = value_head.quantiles(LOGITS, (0.1, 0.9), DivlConfig(quantile="atom"))
    for column, level in enumerate((0.1, 0.9)):
        exact = categorical.quantile(jax.nn.softmax(LOGITS), ATOMS, jnp.full(3, level), "atom")
        np.testing.assert_allclose(found[:, column], exact, atol=1e-6)
    assert (found[:, 1] > found[:, 0]).all()


def test_a_scalar_is_regressed_on_the_expectile_of_the_stages_level():
    for tau in (0.6, 0.9):
        loss, _ = value_head.loss(SCALARS, Q, tau, EXPECTILE)
        assert float(loss) == float(iql.expectile_loss(SCALARS[:, 0], Q, tau)[0])


def test_a_scalar_is_its_own_bootstrap_mean_and_quantile():
    for found in (
        value_head.bootstrap(SCALARS, 0.9, EXPECTILE)[0],
        value_head.mean(SCALARS, EXPECTILE),
        value_head.quantiles(SCALARS, (0.1, 0.9), EXPECTILE)[:, 1],
    ):
        np.testing.assert_array_equal(found, SCALARS[:, 0])
