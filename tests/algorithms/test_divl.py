"""DIVL against hand-worked numbers, slow float64 loops, and its own promises."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms import categorical, divl, iql
from reference import divl as slow
from reference.divl import GRID, STEP, random_probs

ATOMS = categorical.support(-0.1, 1.1, 201)
DISCOUNT = 0.9999**30
FORMS = ("interpolated", "atom")
QUANTILE = jax.jit(categorical.quantile, static_argnames=("form", "sigma"))


BOOTSTRAP = jax.jit(
    divl.bootstrap, static_argnames=("alpha", "tau_min", "tau_max", "form", "sigma")
)


def one(values) -> jax.Array:
    return jnp.asarray(values, jnp.float32)[None]


def quantile(probs, tau, form) -> float:
    return float(QUANTILE(one(probs), ATOMS, one(tau), form)[0])


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


def test_the_value_loss_can_have_gaussian_targets():
    logits, q = jax.random.normal(jax.random.key(0), (3, 201)), jnp.array([0.2, 0.9, 2.0])
    target = np.stack([slow.hl_gauss(v, GRID, 0.75) for v in np.asarray(q)])
    probs = np.asarray(jax.nn.softmax(logits, axis=-1), np.float64)
    loss, _ = divl.value_loss(logits, q, ATOMS, 0.75)
    assert float(loss) == pytest.approx(-(target * np.log(probs)).sum(1).mean(), rel=1e-5)
    gradient = jax.grad(lambda x: divl.value_loss(x, q, ATOMS, 0.75)[0])(logits)
    np.testing.assert_allclose(gradient, (probs - target) / 3, atol=1e-4)


def test_bfloat16_logits_and_heads_are_cast_before_anything_is_summed():
    logits = (3 * jax.random.normal(jax.random.key(2), (5, 201))).astype(jnp.bfloat16)
    q = jnp.linspace(-0.05, 1.05, 5)
    for function in (
        lambda x: divl.value_loss(x, q, ATOMS)[0],
        lambda x: BOOTSTRAP(x, ATOMS, **SETTINGS)[0],
        lambda x: divl.critic_loss(x, jnp.zeros(201))[0],
    ):
        coarse, exact = map(jax.jit(function), (logits, logits.astype(jnp.float32)))
        assert coarse.dtype == jnp.float32
        np.testing.assert_array_equal(coarse, exact)


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


@pytest.mark.parametrize(
    ("entropy", "base", "expected"), [(0.0, 0.6, 0.6), (1.0, 0.6, 0.3), (0.5, 0.9, 0.75)]
)
def test_tau_falls_with_uncertainty(entropy, base, expected):
    tau = divl.adaptive_tau(jnp.array(entropy), base, 0.3, 0.05, 0.95)
    assert float(tau) == pytest.approx(expected)


def test_tau_is_clipped_at_both_ends():
    tau = divl.adaptive_tau(jnp.array([0.0, 1.0]), 0.9, 0.8, 0.2, 0.7)
    np.testing.assert_allclose(tau, [0.7, 0.2], rtol=1e-6)


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
    value, metrics = BOOTSTRAP(jnp.log(jnp.asarray(probs)), ATOMS, **SETTINGS, form=form)
    entropy = [slow.normalised_entropy(p) for p in probs]
    tau = [0.9 - 0.3 * h for h in entropy]
    expected = [QUANTILES[form](p, GRID, t) for p, t in zip(probs, tau, strict=True)]
    np.testing.assert_allclose(value, expected, atol=1e-4)
    assert float(metrics["value/tau"]) == pytest.approx(np.mean(tau), rel=1e-5)
    assert float(metrics["value/entropy"]) == pytest.approx(np.mean(entropy), rel=1e-5)
    assert float(metrics["value/tau_at_min"]) == float(metrics["value/tau_at_max"]) == 0.0
    assert float(metrics["value/bootstrap"]) == pytest.approx(float(value.mean()))


def test_one_compiled_bootstrap_serves_both_stages():
    """tau_base is 0.6 offline and 0.9 online; traced, it needs no second compilation."""
    logits = jnp.log(jnp.asarray(random_probs(1, 0.5)))[None]
    rest = {name: value for name, value in SETTINGS.items() if name != "tau_base"}
    compiled = jax.jit(lambda base: divl.bootstrap(logits, ATOMS, tau_base=base, **rest)[0])
    offline, online = compiled(jnp.float32(0.6)), compiled(jnp.float32(0.9))
    assert compiled._cache_size() == 1
    np.testing.assert_allclose(online, BOOTSTRAP(logits, ATOMS, **SETTINGS)[0], rtol=1e-5)
    assert float(offline[0]) < float(online[0])


def test_the_bootstrap_counts_levels_at_each_bound_and_stops_the_gradient():
    """Levels before the clip are 0.6 (uniform), 0.9 and 0.9 (one atom)."""
    logits = jnp.stack([jnp.zeros(201), *(1e4 * jnp.eye(201)[5:7])])
    for (low, high), counts in {(0.05, 0.95): (0, 0), (0.7, 0.8): (1, 2)}.items():
        _, metrics = BOOTSTRAP(logits, ATOMS, **SETTINGS | {"tau_min": low, "tau_max": high})
        found = [float(metrics[f"value/tau_at_{end}"]) for end in ("min", "max")]
        assert found == [pytest.approx(count / 3) for count in counts]
    gradient = jax.jit(jax.grad(lambda x: divl.bootstrap(x, ATOMS, **SETTINGS)[0].sum()))(logits)
    np.testing.assert_array_equal(gradient, np.zeros((3, 201)))


@pytest.mark.parametrize("tau", [0.52, 0.9])
def test_alpha_zero_is_the_constant_tau_of_the_ablation(tau):
    probs = np.stack([random_probs(seed, temperature) for seed, temperature in ((1, 3.0), (2, 0))])
    constant = SETTINGS | {"tau_base": tau, "alpha": 0.0}
    value, metrics = BOOTSTRAP(jnp.log(jnp.asarray(probs) + 1e-30), ATOMS, **constant)
    expected = [slow.quantile_interpolated(p, GRID, tau) for p in probs]
    np.testing.assert_allclose(value, expected, atol=1e-4)
    assert float(metrics["value/tau"]) == pytest.approx(tau)
    assert float(metrics["value/entropy"]) > 0.5


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


@partial(jax.jit, static_argnames=("form", "sigma", "n_step", "read_as"))
def chain(tau, *, form: str, sigma: float, n_step: int, read_as: float | None = None) -> jax.Array:
    """`first_value` of 300 chunks by the library's own projection and quantile, in float32."""
    width = sigma if read_as is None else read_as

    def backup(q, _):
        """From the values of n_step neighbouring states to those of the n_step before them."""
        probs = categorical.project(q, ATOMS, sigma)
        value = categorical.quantile(probs, ATOMS, jnp.full(n_step, tau), form, width)
        return DISCOUNT**n_step * value, None

    last = jnp.float32(DISCOUNT) ** jnp.arange(1, n_step + 1)
    q, _ = jax.lax.scan(backup, last, None, length=300 // n_step - 1)
    return q[-1]


@pytest.mark.parametrize("sigma", [0.0, 0.75])
@pytest.mark.parametrize("n_step", [1, 10])
@pytest.mark.parametrize("tau", [0.3, 0.6, 0.9])
def test_the_discount_survives_interpolation_under_both_projections(sigma, n_step, tau):
    """300 chunks from success, the paper's five minutes, are worth 0.407."""
    value = float(chain(tau, form="interpolated", sigma=sigma, n_step=n_step))
    assert value == pytest.approx(DISCOUNT**300, abs=1e-3 if sigma == 0 else 6e-3)


@pytest.mark.parametrize(
    ("n_step", "tau", "expected"), [(10, 0.52, 0.410), (10, 0.9, 0.462), (1, 0.6, 0.995)]
)
def test_whole_atoms_in_float32_keep_the_discount_in_ten_steps_only(n_step, tau, expected):
    """Ten-step backups are within 0.06 of 0.407; one-step backups fail, as they do in float64."""
    value = float(chain(tau, form="atom", sigma=0.0, n_step=n_step))
    assert value == pytest.approx(expected, abs=3e-3)
    assert (abs(value - DISCOUNT**300) < 0.06) == (n_step == 10)


@pytest.mark.parametrize(("form", "sigma"), [("interpolated", 0.0), ("atom", 0.75)])
def test_gaussian_targets_need_a_quantile_that_knows_their_width(form, sigma):
    """Read as if it were two-hot, or by whole atoms, the Gaussian's width feeds on itself: values
    rise to the end of the support."""
    assert float(chain(0.9, form=form, sigma=0.75, n_step=1, read_as=sigma)) > 1.0
