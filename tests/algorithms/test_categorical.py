"""Projections and read-outs of a categorical value against slow float64 loops and known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwd.algorithms import categorical
from reference import divl as slow
from reference.divl import GRID, STEP, random_probs

ATOMS = categorical.support(-0.1, 1.1, 201)
FORMS = ("interpolated", "atom")
SIGMAS = (0.0, 0.75)
TAUS = jnp.linspace(0.01, 0.99, 99)
QUANTILE = jax.jit(categorical.quantile, static_argnames=("form", "sigma"))
PROJECT = jax.jit(categorical.project, static_argnames="sigma")


EIGHT = st.lists(st.floats(-0.5, 1.5, width=32), min_size=8, max_size=8)
"""As many each time, so that one compilation serves all examples."""


def one(values) -> jax.Array:
    return jnp.asarray(values, jnp.float32)[None]


def quantile(probs, tau, form="interpolated", sigma=0.0) -> float:
    return float(QUANTILE(one(probs), ATOMS, one(tau), form, sigma)[0])


def test_zero_and_one_are_not_atoms():
    assert (np.asarray(ATOMS)[[0, 200]] == np.float32([-0.1, 1.1])).all()
    mass = np.asarray(categorical.two_hot(jnp.array([0.0, 1.0]), ATOMS))
    np.testing.assert_allclose(mass[0, 16:18], [1 / 3, 2 / 3], atol=1e-4)
    np.testing.assert_allclose(mass[1, 183:185], [2 / 3, 1 / 3], atol=1e-4)
    assert np.count_nonzero(mass) == 4


@pytest.mark.parametrize(
    ("value", "atom"), [(-0.1, 0), (-7.0, 0), (1.1, 200), (9.0, 200), (-0.1 + 100 * STEP, 100)]
)
def test_an_atom_and_what_lies_outside_get_all_the_mass_on_one_atom(value, atom):
    mass = np.asarray(categorical.two_hot(jnp.array(value), ATOMS))
    assert mass[atom] == pytest.approx(1.0, abs=2e-4)
    assert mass.sum() == pytest.approx(1.0, abs=1e-6)


@given(EIGHT)
@settings(max_examples=40, deadline=None)
def test_the_projection_is_the_slow_one_and_keeps_the_mean(values):
    mass = np.asarray(PROJECT(jnp.array(values, jnp.float32), ATOMS, 0.0))
    np.testing.assert_allclose(mass, [slow.two_hot(v, GRID) for v in values], atol=2e-4)
    np.testing.assert_allclose(mass @ GRID, np.clip(values, -0.1, 1.1), atol=2e-6)


def test_hl_gauss_by_hand():
    """A value on an atom: the mass of a standard normal within 0.5 / 0.75 and 1.5 / 0.75."""
    mass = np.asarray(PROJECT(jnp.array(GRID[100]), ATOMS, 0.75))
    np.testing.assert_allclose(mass[98:103], [0.0224, 0.2297, 0.4950, 0.2297, 0.0224], atol=3e-4)
    assert mass.sum() == pytest.approx(1.0, abs=1e-6)


@given(EIGHT, st.sampled_from([0.75, 2]))
@settings(max_examples=40, deadline=None)
def test_hl_gauss_is_the_slow_one(values, sigma):
    mass = np.asarray(PROJECT(jnp.array(values, jnp.float32), ATOMS, float(sigma)))
    np.testing.assert_allclose(mass, [slow.hl_gauss(v, GRID, sigma) for v in values], atol=2e-4)
    np.testing.assert_allclose(mass.sum(-1), 1.0, atol=1e-6)


def test_hl_gauss_keeps_the_mean_except_near_the_ends():
    """What is cut off at an end moves the mean inwards: known, and far from returns in [0, 1]."""
    inside = np.linspace(-0.1 + 4 * STEP, 1.1 - 4 * STEP, 1001)
    mass = np.asarray(PROJECT(jnp.asarray(inside, jnp.float32), ATOMS, 0.75), np.float64)
    np.testing.assert_allclose(mass @ GRID, inside, atol=1e-3 * STEP)
    ends = np.asarray(PROJECT(jnp.array([-0.1, 1.1, -9.0, 9.0]), ATOMS, 0.75), np.float64)
    shift = (ends @ GRID - [-0.1, 1.1, -0.1, 1.1]) / STEP
    np.testing.assert_allclose(shift, [0.369, -0.369, 0.369, -0.369], atol=2e-3)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_projection_is_computed_in_float32_and_never_negative(sigma):
    values = jnp.linspace(-1.0, 2.0, 3001).astype(jnp.bfloat16)
    mass = PROJECT(values, ATOMS, sigma)
    assert mass.dtype == jnp.float32
    assert float(mass.min()) >= 0.0
    np.testing.assert_allclose(mass.sum(-1), 1.0, atol=1e-5)


def test_entropy_of_the_uniform_of_two_atoms_and_of_one():
    two = np.full(201, -1e9)
    two[[40, 41]] = 0.0
    logits = jnp.stack([jnp.zeros(201), jnp.asarray(two, jnp.float32), 1e4 * jnp.eye(201)[3]])
    expected = [1.0, np.log(2) / np.log(201), 0.0]
    np.testing.assert_allclose(categorical.normalised_entropy(logits), expected, atol=1e-5)
    assert expected[1] == pytest.approx(0.131, abs=5e-4)
    one_value = jnp.log(PROJECT(jnp.array([0.3]), ATOMS, 0.75) + 1e-30)
    assert float(categorical.normalised_entropy(one_value)[0]) == pytest.approx(0.226, abs=5e-3)


def test_a_gaussian_of_one_atom_has_the_entropy_that_the_ablation_implies():
    """The ablation's mean tau of 0.52 means H = (0.6 - 0.52) / 0.3 = 0.267."""
    logits = -0.5 * ((jnp.arange(201) - 100.0) ** 2)
    assert float(categorical.normalised_entropy(logits)) == pytest.approx(0.267, abs=2e-3)


def test_entropy_is_finite_for_extreme_logits_and_computed_in_float32():
    extreme = jnp.where(jnp.arange(201) % 2 == 0, 1e4, -1e4)
    assert np.isfinite(categorical.normalised_entropy(extreme))
    coarse = jax.random.normal(jax.random.key(1), (201,)).astype(jnp.bfloat16)
    exact = slow.normalised_entropy(np.asarray(jax.nn.softmax(coarse.astype(jnp.float32)), float))
    entropy = categorical.normalised_entropy(coarse)
    assert entropy.dtype == jnp.float32
    assert float(entropy) == pytest.approx(exact, rel=1e-5)


def test_the_atom_is_the_first_whose_cdf_reaches_tau():
    probs = np.zeros(201)
    probs[[10, 20, 30]] = [0.25, 0.5, 0.25]
    for tau, atom in [(0.2, 10), (0.25, 10), (0.26, 20), (0.75, 20), (0.76, 30), (1.0, 30)]:
        assert quantile(probs, tau, "atom") == pytest.approx(GRID[atom], abs=1e-6)


def test_the_cdf_of_bfloat16_masses_is_summed_in_float32():
    """Near 1 neighbouring bfloat16 numbers are 0.004 apart, as much as a whole atom's mass."""
    coarse = jnp.full((1, 201), 1 / 201, jnp.bfloat16)
    for form in FORMS:
        exact = quantile(np.asarray(coarse[0], np.float64), 0.9, form)
        value = QUANTILE(coarse, ATOMS, one(0.9), form)
        assert value.dtype == jnp.float32
        assert float(value[0]) == pytest.approx(exact, abs=1e-6)
        assert exact == pytest.approx(0.98, abs=STEP)


@pytest.mark.parametrize(("form", "sigma"), [*((f, 0.0) for f in FORMS), ("interpolated", 0.75)])
@pytest.mark.parametrize("atom", [0, 1, 77, 199, 200])
def test_tau_is_irrelevant_when_all_mass_is_on_one_atom(form, sigma, atom):
    probs = np.eye(201)[atom]
    for tau in (0.01, 0.3, 0.95, 1.0):
        assert quantile(probs, tau, form, sigma) == pytest.approx(GRID[atom], abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_rounding_of_the_cdf_below_tau_falls_back_to_the_last_atom(form):
    assert quantile(np.full(201, 0.999 / 201), 1.0, form) == pytest.approx(1.1)


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.5, 3.0]), st.floats(0.02, 0.98))
@settings(max_examples=60, deadline=None)
def test_both_forms_agree_with_the_slow_loops(seed, temperature, tau):
    probs = random_probs(seed, temperature)
    for sigma in SIGMAS:
        exact = slow.quantile_interpolated(probs, GRID, tau, sigma)
        assert quantile(probs, tau, sigma=sigma) == pytest.approx(exact, abs=2e-4)
    near = {slow.quantile_atom(probs, GRID, tau + e) for e in (-1e-5, 1e-5)}
    assert min(abs(quantile(probs, tau, "atom") - v) for v in near) < 1e-6


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.5, 3.0]))
@settings(max_examples=30, deadline=None)
def test_the_quantile_grows_with_tau_stays_in_the_support_and_near_the_atom(seed, temperature):
    probs = jnp.tile(one(random_probs(seed, temperature)), (99, 1))
    atoms = np.asarray(QUANTILE(probs, ATOMS, TAUS, "atom"))
    assert (np.diff(atoms) >= 0).all()
    for sigma in SIGMAS:
        smooth = np.asarray(QUANTILE(probs, ATOMS, TAUS, "interpolated", sigma))
        assert (np.diff(smooth) >= -1e-7).all()
        assert smooth.min() >= -0.1 - 1e-6
        assert smooth.max() <= 1.1 + 1e-6
        assert np.abs(smooth - atoms).max() < (3 + 5 * sigma) * STEP


def test_the_quantile_grows_with_tau_where_the_edges_of_the_median_are_in_conflict():
    """The lower edge of atom 84, moved up by the mass above, would lie 0.6 spacings above the upper
    edge, moved down by the mass at 80."""
    probs = np.zeros(201)
    probs[[80, 84, 86, 87]] = [0.4837, 0.0189, 0.3324, 0.165]
    found = np.asarray(QUANTILE(jnp.tile(one(probs), (99, 1)), ATOMS, TAUS))
    assert (np.diff(found) >= -1e-7).all()
    exact = [slow.quantile_interpolated(probs, GRID, float(tau)) for tau in TAUS]
    np.testing.assert_allclose(found, exact, atol=1e-5)


@given(st.floats(-0.099, 1.099), st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_a_value_comes_back_from_its_projection_at_every_tau(value, tau):
    """Also when a fiftieth of the mass is far away, or spread thinly over everything."""
    lone = slow.two_hot(value, GRID)
    assert quantile(lone, tau, "interpolated") == pytest.approx(value, abs=2e-6)
    with_failures = 0.98 * lone + 0.02 * slow.two_hot(0.0, GRID)
    if abs(value) > 8 * STEP:
        above = tau * 0.95 + 0.03 if value > 0 else tau * 0.95
        assert quantile(with_failures, above, "interpolated") == pytest.approx(value, abs=2e-6)
    with_tail = 0.999 * lone + 0.001 / 201
    inside = 0.01 + tau * 0.98
    assert quantile(with_tail, inside, "interpolated") == pytest.approx(value, abs=0.05 * STEP)


@pytest.mark.parametrize(("sigma", "bias"), [(0.0, 1e-5), (0.75, 0.015), (1.0, 0.005)])
def test_the_bias_of_one_value_at_every_tau(sigma, bias):
    """In spacings, over 40 places between two atoms: 1e-5 for two-hot, 0.015 for HL-Gauss."""
    for value in 0.3 + STEP * np.linspace(0, 1, 41):
        probs = jnp.tile(PROJECT(one(value), ATOMS, sigma), (99, 1))
        found = np.asarray(QUANTILE(probs, ATOMS, TAUS, "interpolated", sigma), np.float64)
        assert np.abs(found - np.float32(value)).max() < bias * STEP


def test_whole_atoms_add_the_width_of_the_projection_to_one_value():
    """At tau = 0.95 by 0.44 spacings on average for two-hot, by 1.25 for HL-Gauss."""
    values = 0.3 + STEP * np.linspace(0, 1, 40, endpoint=False)
    for sigma, expected in ((0.0, 0.44), (0.75, 1.25)):
        probs = PROJECT(jnp.asarray(values, jnp.float32), ATOMS, sigma)
        found = np.asarray(QUANTILE(probs, ATOMS, jnp.full(40, 0.95), "atom"), np.float64)
        assert (found - values).mean() / STEP == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("spread", [1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("tau", [0.1, 0.3, 0.6, 0.86])
def test_the_interpolated_quantile_of_a_gaussian_is_its_quantile(sigma, spread, tau):
    """To a sixth of an atom, wherever between two atoms the mean lies."""
    values = np.random.default_rng(0).normal(size=4000)
    for offset in (0.0, 0.3, 0.7):
        samples = 0.5 + STEP * (offset + spread * values)
        probs = np.asarray(PROJECT(jnp.asarray(samples, jnp.float32), ATOMS, sigma)).mean(0)
        error = quantile(probs, tau, sigma=sigma) - np.quantile(samples, tau)
        assert abs(error) < STEP / 6 + 0.002 * spread * STEP
