"""DIVL against hand-worked numbers, slow float64 loops, and its own promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwd.algorithms import divl, iql
from reference import divl as slow

ATOMS = divl.support(-0.1, 1.1, 201)
GRID = np.linspace(-0.1, 1.1, 201)
STEP = 0.006
DISCOUNT = 0.9999**30
FORMS = ("interpolated", "atom")
QUANTILE = jax.jit(divl.quantile, static_argnames="form")


def one(values) -> jax.Array:
    return jnp.asarray(values, jnp.float32)[None]


def quantile(probs, tau, form) -> float:
    return float(QUANTILE(one(probs), ATOMS, one(tau), form)[0])


def test_zero_and_one_are_not_atoms():
    assert (np.asarray(ATOMS)[[0, 200]] == np.float32([-0.1, 1.1])).all()
    mass = np.asarray(divl.two_hot(jnp.array([0.0, 1.0]), ATOMS))
    np.testing.assert_allclose(mass[0, 16:18], [1 / 3, 2 / 3], atol=1e-4)
    np.testing.assert_allclose(mass[1, 183:185], [2 / 3, 1 / 3], atol=1e-4)
    assert np.count_nonzero(mass) == 4


@pytest.mark.parametrize(
    ("value", "atom"), [(-0.1, 0), (-7.0, 0), (1.1, 200), (9.0, 200), (-0.1 + 100 * STEP, 100)]
)
def test_an_atom_and_what_lies_outside_get_all_the_mass_on_one_atom(value, atom):
    mass = np.asarray(divl.two_hot(jnp.array(value), ATOMS))
    assert mass[atom] == pytest.approx(1.0, abs=2e-4)
    assert mass.sum() == pytest.approx(1.0, abs=1e-6)


@given(st.lists(st.floats(-0.5, 1.5, width=32), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_the_projection_is_the_slow_one_and_keeps_the_mean(values):
    mass = np.asarray(divl.two_hot(jnp.array(values, jnp.float32), ATOMS))
    np.testing.assert_allclose(mass, [slow.two_hot(v, GRID) for v in values], atol=2e-4)
    np.testing.assert_allclose(mass @ GRID, np.clip(values, -0.1, 1.1), atol=2e-6)


def test_the_value_loss_is_a_cross_entropy_whose_gradient_is_softmax_minus_target():
    logits = jax.random.normal(jax.random.key(0), (3, 201))
    q = jnp.array([0.2, 0.9, 2.0])
    loss, metrics = divl.value_loss(logits, q, ATOMS)
    probs = np.asarray(jax.nn.softmax(logits, axis=-1), np.float64)
    target = np.stack([slow.two_hot(v, GRID) for v in np.asarray(q)])
    assert float(loss) == pytest.approx(-(target * np.log(probs)).sum(1).mean(), rel=1e-5)
    assert metrics["value/loss"] == loss
    gradient = jax.grad(lambda x: divl.value_loss(x, q, ATOMS)[0])(logits)
    np.testing.assert_allclose(gradient, (probs - target) / 3, atol=1e-4)


def test_no_gradient_reaches_the_target_critic_through_the_value_loss():
    gradient = jax.grad(lambda q: divl.value_loss(jnp.zeros((2, 201)), q, ATOMS)[0])(jnp.ones(2))
    np.testing.assert_array_equal(gradient, np.zeros(2))


def test_fitted_logits_become_the_distribution_of_the_replays_values():
    """Two actions with values 0.2 and 0.8, one of them three times as often."""
    q = jnp.array([0.2, 0.8, 0.8, 0.8])

    def step(logits, _):
        slope = jax.grad(lambda x: divl.value_loss(jnp.tile(x[None], (4, 1)), q, ATOMS)[0])(logits)
        return logits - 5.0 * slope, None

    logits, _ = jax.lax.scan(step, jnp.zeros(201), None, length=2000)
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    assert probs[:100].sum() == pytest.approx(0.25, abs=0.01)
    assert quantile(probs, 0.2, "interpolated") == pytest.approx(0.2, abs=0.002)
    assert quantile(probs, 0.5, "interpolated") == pytest.approx(0.8, abs=0.002)


def test_entropy_of_the_uniform_of_two_atoms_and_of_one():
    two = np.full(201, -1e9)
    two[[40, 41]] = 0.0
    logits = jnp.stack([jnp.zeros(201), jnp.asarray(two, jnp.float32), 1e4 * jnp.eye(201)[3]])
    expected = [1.0, np.log(2) / np.log(201), 0.0]
    np.testing.assert_allclose(divl.normalised_entropy(logits), expected, atol=1e-5)
    assert expected[1] == pytest.approx(0.131, abs=5e-4)


def test_a_gaussian_of_one_atom_has_the_entropy_that_the_ablation_implies():
    """The ablation's mean tau of 0.52 means H = (0.6 - 0.52) / 0.3 = 0.267."""
    logits = -0.5 * ((jnp.arange(201) - 100.0) ** 2)
    assert float(divl.normalised_entropy(logits)) == pytest.approx(0.267, abs=2e-3)


def test_entropy_is_finite_for_extreme_logits_and_computed_in_float32():
    extreme = jnp.where(jnp.arange(201) % 2 == 0, 1e4, -1e4)
    assert np.isfinite(divl.normalised_entropy(extreme))
    coarse = jax.random.normal(jax.random.key(1), (201,)).astype(jnp.bfloat16)
    exact = slow.normalised_entropy(np.asarray(jax.nn.softmax(coarse.astype(jnp.float32)), float))
    entropy = divl.normalised_entropy(coarse)
    assert entropy.dtype == jnp.float32
    assert float(entropy) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(
    ("entropy", "base", "expected"), [(0.0, 0.6, 0.6), (1.0, 0.6, 0.3), (0.5, 0.9, 0.75)]
)
def test_tau_falls_with_uncertainty(entropy, base, expected):
    tau = divl.adaptive_tau(jnp.array(entropy), base, 0.3, 0.05, 0.95)
    assert float(tau) == pytest.approx(expected)


def test_tau_is_clipped_at_both_ends():
    tau = divl.adaptive_tau(jnp.array([0.0, 1.0]), 0.9, 0.8, 0.2, 0.7)
    np.testing.assert_allclose(tau, [0.7, 0.2], rtol=1e-6)


def test_the_atom_is_the_first_whose_cdf_reaches_tau():
    probs = np.zeros(201)
    probs[[10, 20, 30]] = [0.25, 0.5, 0.25]
    for tau, atom in [(0.2, 10), (0.25, 10), (0.26, 20), (0.75, 20), (0.76, 30), (1.0, 30)]:
        assert quantile(probs, tau, "atom") == pytest.approx(GRID[atom], abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("atom", [0, 1, 77, 199, 200])
def test_tau_is_irrelevant_when_all_mass_is_on_one_atom(form, atom):
    probs = np.eye(201)[atom]
    for tau in (0.01, 0.3, 0.95, 1.0):
        assert quantile(probs, tau, form) == pytest.approx(GRID[atom], abs=1e-6)


def test_rounding_of_the_cdf_below_tau_falls_back_to_the_last_atom():
    assert quantile(np.full(201, 0.999 / 201), 1.0, "atom") == pytest.approx(1.1)


def random_probs(seed: int, temperature: float) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=201).cumsum() * temperature
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.5, 3.0]), st.floats(0.02, 0.98))
@settings(max_examples=60, deadline=None)
def test_both_forms_agree_with_the_slow_loops(seed, temperature, tau):
    probs = random_probs(seed, temperature)
    exact = slow.quantile_interpolated(probs, GRID, tau)
    assert quantile(probs, tau, "interpolated") == pytest.approx(exact, abs=2e-4)
    near = {slow.quantile_atom(probs, GRID, tau + e) for e in (-1e-5, 1e-5)}
    assert min(abs(quantile(probs, tau, "atom") - v) for v in near) < 1e-6


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.5, 3.0]))
@settings(max_examples=30, deadline=None)
def test_the_quantile_grows_with_tau_stays_in_the_support_and_near_the_atom(seed, temperature):
    tau = jnp.linspace(0.01, 0.99, 99)
    probs = jnp.tile(one(random_probs(seed, temperature)), (99, 1))
    smooth = np.asarray(QUANTILE(probs, ATOMS, tau, "interpolated"))
    atoms = np.asarray(QUANTILE(probs, ATOMS, tau, "atom"))
    assert (np.diff(smooth) >= -1e-7).all()
    assert (np.diff(atoms) >= 0).all()
    assert smooth.min() >= -0.1 - 1e-6
    assert smooth.max() <= 1.1 + 1e-6


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


@pytest.mark.parametrize("spread", [1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("tau", [0.1, 0.3, 0.6, 0.86])
def test_the_interpolated_quantile_of_a_gaussian_is_its_quantile(spread, tau):
    """To a sixth of an atom, wherever between two atoms the mean lies."""
    values = np.random.default_rng(0).normal(size=4000)
    for offset in (0.0, 0.3, 0.7):
        samples = 0.5 + STEP * (offset + spread * values)
        probs = np.asarray(divl.two_hot(jnp.asarray(samples, jnp.float32), ATOMS)).mean(0)
        error = quantile(probs, tau, "interpolated") - np.quantile(samples, tau)
        assert abs(error) < STEP / 6 + 0.002 * spread * STEP


@pytest.mark.parametrize("tau", [0.3, 0.6, 0.9])
def test_proposition_1_the_atom_minimises_the_quantile_loss_of_the_distribution(tau):
    """A2 with p = 1: fit the distribution, then minimise E[rho(u - v)] over the atoms."""
    probs = random_probs(3, 0.5)
    u = jnp.asarray(GRID[None, :] - GRID[:, None], jnp.float32)
    loss = np.asarray(iql.asymmetric(u, tau, 1.0), np.float64) @ probs
    assert quantile(probs, tau, "atom") == pytest.approx(GRID[loss.argmin()], abs=1e-6)


SETTINGS = {"tau_base": 0.9, "alpha": 0.3, "tau_min": 0.05, "tau_max": 0.95}


@pytest.mark.parametrize("form", FORMS)
def test_the_bootstrap_is_the_quantile_at_the_states_own_tau(form):
    probs = np.stack([random_probs(seed, 0.5) for seed in (1, 2, 3)])
    value, metrics = divl.bootstrap(jnp.log(jnp.asarray(probs)), ATOMS, **SETTINGS, form=form)
    entropy = [slow.normalised_entropy(p) for p in probs]
    tau = [0.9 - 0.3 * h for h in entropy]
    expected = [QUANTILES[form](p, GRID, t) for p, t in zip(probs, tau, strict=True)]
    np.testing.assert_allclose(value, expected, atol=1e-4)
    assert float(metrics["value/tau"]) == pytest.approx(np.mean(tau), rel=1e-5)
    assert float(metrics["value/entropy"]) == pytest.approx(np.mean(entropy), rel=1e-5)
    assert float(metrics["value/tau_clipped"]) == 0.0
    assert float(metrics["value/bootstrap"]) == pytest.approx(float(value.mean()))


def test_one_compiled_bootstrap_serves_both_stages():
    """tau_base is 0.6 offline and 0.9 online; traced, it needs no second compilation."""
    logits = jnp.log(jnp.asarray(random_probs(1, 0.5)))[None]
    rest = {name: value for name, value in SETTINGS.items() if name != "tau_base"}
    compiled = jax.jit(lambda base: divl.bootstrap(logits, ATOMS, tau_base=base, **rest)[0])
    offline, online = compiled(jnp.float32(0.6)), compiled(jnp.float32(0.9))
    assert compiled._cache_size() == 1
    np.testing.assert_allclose(online, divl.bootstrap(logits, ATOMS, **SETTINGS)[0], rtol=1e-5)
    assert float(offline[0]) < float(online[0])


def test_the_bootstrap_counts_clipped_levels_and_stops_the_gradient():
    logits = jnp.stack([jnp.zeros(201), 1e4 * jnp.eye(201)[5]])
    narrow = {**SETTINGS, "tau_min": 0.7}
    _, metrics = divl.bootstrap(logits, ATOMS, **narrow)
    assert float(metrics["value/tau_clipped"]) == 0.5
    gradient = jax.grad(lambda x: divl.bootstrap(x, ATOMS, **SETTINGS)[0].sum())(logits)
    np.testing.assert_array_equal(gradient, np.zeros((2, 201)))


def test_the_td_target_by_hand():
    """A window that ends in success has no bootstrap; the others discount the value."""
    returns, discount = jnp.array([0.998, 0.0, 0.0]), jnp.array([0.0, DISCOUNT, 0.5])
    target, metrics = divl.td_target(returns, discount, jnp.array([0.7, 0.5, -0.1]))
    np.testing.assert_allclose(target, [0.998, 0.5 * DISCOUNT, -0.05], rtol=1e-6)
    assert float(metrics["critic/target_outside"]) == pytest.approx(1 / 3)


def test_the_target_can_be_clipped_to_what_a_return_can_be():
    arguments = (jnp.zeros(2), jnp.ones(2), jnp.array([1.1, -0.1]))
    assert float(divl.td_target(*arguments)[0][0]) == pytest.approx(1.1)
    clipped, metrics = divl.td_target(*arguments, clip=(0.0, 1.0))
    np.testing.assert_array_equal(clipped, [1.0, 0.0])
    assert float(metrics["critic/target_outside"]) == 1.0


def test_the_critic_loss_by_hand():
    """Heads 1 and 3 against 2 and 0: (1 + 1) / 2 + (1 + 9) / 2."""
    heads, target = jnp.array([[1.0, 1.0], [3.0, 3.0]]), jnp.array([2.0, 0.0])
    loss, metrics = divl.critic_loss(heads, target)
    assert float(loss) == pytest.approx(6.0)
    assert float(metrics["critic/q"]) == 2.0
    assert float(metrics["critic/spread"]) == 2.0
    gradients = jax.grad(lambda q, y: divl.critic_loss(q, y)[0], argnums=(0, 1))(heads, target)
    np.testing.assert_allclose(gradients[0], np.array([[-1.0, 1.0], [1.0, 3.0]]))
    np.testing.assert_array_equal(gradients[1], np.zeros(2))


def linear_quantile(probs: np.ndarray, atoms: np.ndarray, tau: float) -> float:
    """Every atom's mass spread evenly over the atom's width: the textbook interpolation."""
    below = np.cumsum(probs) - probs
    i = int(np.flatnonzero(below < tau)[-1])
    return float(atoms[i] + STEP * ((tau - below[i]) / probs[i] - 0.5))


QUANTILES = {
    "atom": slow.quantile_atom,
    "interpolated": slow.quantile_interpolated,
    "linear": linear_quantile,
}


def first_value(chunks: int, n_step: int, tau: float, form: str) -> float:
    """Q(s0) of a deterministic chain that ends in success; every V is the projection of its Q."""
    q = {}
    for left in range(1, chunks + 1):
        if left <= n_step:
            q[left] = DISCOUNT**left
            continue
        probs = slow.two_hot(q[left - n_step], GRID)
        q[left] = DISCOUNT**n_step * QUANTILES[form](probs, GRID, tau)
    return q[chunks]


@pytest.mark.parametrize(
    ("chunks", "n_step", "tau", "expected"),
    [
        (20, 10, 0.52, 0.939), (100, 10, 0.52, 0.741), (300, 10, 0.52, 0.410),
        (20, 10, 0.9, 0.945), (100, 10, 0.9, 0.759), (300, 10, 0.9, 0.462),
        (20, 1, 0.5, 0.995), (100, 1, 0.9, 0.995), (300, 1, 0.9, 0.995),
    ],
)  # fmt: skip
def test_one_step_backups_of_whole_atoms_erase_the_discount(chunks, n_step, tau, expected):
    """Eq. 23 as printed: 300 chunks from success are worth 0.407, one-step backups say 0.995."""
    assert first_value(chunks, n_step, tau, "atom") == pytest.approx(expected, abs=6e-4)


def test_textbook_interpolation_erases_the_discount_too():
    assert first_value(300, 1, 0.9, "linear") > 0.99


@pytest.mark.parametrize("n_step", [1, 10])
@pytest.mark.parametrize("tau", [0.5, 0.9])
def test_the_discount_survives_the_interpolated_quantile(n_step, tau):
    for chunks in (20, 100, 300):
        value = first_value(chunks, n_step, tau, "interpolated")
        assert value == pytest.approx(0.9999 ** (30 * chunks), abs=1e-4)


def test_the_discount_survives_a_chain_computed_in_float32():
    """The library's own projection and quantile, one jitted chain of 300 one-step backups."""

    def backup(q, _):
        probs = divl.two_hot(q[None], ATOMS)
        return DISCOUNT * divl.quantile(probs, ATOMS, jnp.full(1, 0.9), "interpolated")[0], None

    q, _ = jax.lax.scan(backup, jnp.float32(DISCOUNT), None, length=299)
    assert float(q) == pytest.approx(DISCOUNT**300, abs=1e-3)
