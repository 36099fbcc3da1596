"""Adjoint matching: closed forms on Gaussians, the authors' recursion, and a learned mixture."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lwd.algorithms import qam
from lwd.errors import ConfigError
from reference import mixture
from reference import qam as slow
from reference.gaussian import Gaussian, euler_moments

SCHEMES = {"bridge": qam.bridge, "euler": qam.euler}
SAMPLERS = tuple(SCHEMES)
LOSS = jax.jit(
    qam.adjoint_matching_loss,
    static_argnums=(0, 1, 2),
    static_argnames=("steps", "inv_temp", "sampler", "weighting"),
)


def shift(reference: Gaussian, scheme: qam.Scheme, gradient: float) -> np.ndarray:
    """f_delta that a constant critic gradient asks for at each step; the states do not matter."""
    path = jnp.zeros((len(scheme.time), 1, 1, 1))
    _, asked = qam.lean_adjoint(reference.velocity, path, jnp.full((1, 1, 1), -gradient), scheme)
    return np.asarray(asked, np.float64).ravel()


CASE_B = Gaussian(0.3, 0.25)
EXACT_B = [0.5, 0.55385, 0.61538, 0.68293, 0.75, 0.8, 0.8, 0.70588, 0.5, 0.23529]
OFFICIAL_B = [-0.06852, 0.1446, 0.32226, 0.50818, 0.71145, 0.90746, 1.02345, 0.96879, 0.73813, 0.44]


def test_the_bridge_asks_for_the_exact_shift_of_a_linear_critic():
    """N(0.3, 0.25) tilted by exp(2 a): f_delta = s2 c (1 - w) / ((1 - w)^2 + w^2 s2)."""
    found = shift(CASE_B, qam.bridge(10), 2.0)
    np.testing.assert_allclose(found[1:], EXACT_B[1:], atol=1e-5)
    assert found[0] == pytest.approx(0.49846, abs=1e-5)


def test_the_euler_scheme_asks_for_what_the_authors_recursion_gives():
    np.testing.assert_allclose(shift(CASE_B, qam.euler(10), 2.0), OFFICIAL_B, atol=1e-4)


@pytest.mark.parametrize("variance", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("steps", [4, 10, 25])
def test_the_bridge_is_exact_for_linear_critics_on_every_gaussian(variance, steps):
    w = np.arange(steps) / steps
    exact = variance * 1.5 * (1 - w) / ((1 - w) ** 2 + w**2 * variance)
    found = shift(Gaussian(-0.4, variance), qam.bridge(steps), 1.5)
    np.testing.assert_allclose(found[1:], exact[1:], rtol=1e-4)
    if steps == 10:
        assert found[0] == pytest.approx(exact[0], rel=0.02)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 0, -3])
def test_less_than_two_steps_are_refused_because_nothing_could_be_learned(sampler, steps):
    with pytest.raises(ValueError, match=f"got {steps} flow steps; it needs at least 2 steps"):
        qam.scheme(sampler, steps)


def test_a_sampler_that_does_not_exist_is_refused_with_one_that_does():
    with pytest.raises(ConfigError, match="bridge"):
        qam.scheme("brigde", 4)


@pytest.mark.parametrize(
    ("target", "c", "exact", "printed"),
    [(Gaussian(0.0, 1.0), 1.0, 1.0, 0.188), (CASE_B, 2.0, 0.8, 0.458)],
)
def test_the_sigma_that_the_paper_prints_reaches_a_fraction_of_the_tilt(target, c, exact, printed):
    """f_delta = -sigma^2 / 2 g, with the exact adjoint, in the limit of small steps."""
    steps = 4000

    def tilted(half_variance):
        def affine(w):
            slope, offset = target.affine(w)
            g = -c * target.variance * w / ((1 - w) ** 2 + w**2 * target.variance)
            return slope, offset - half_variance(w) * g

        return affine

    memoryless = euler_moments(tilted(lambda w: (1 - w) / max(w, 1e-9)), steps)[0]
    assert memoryless == pytest.approx(exact, abs=2e-3)
    assert euler_moments(tilted(lambda w: (1 - w) * w), steps)[0] == pytest.approx(
        printed, abs=2e-3
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_twice_the_inverse_temperature_asks_for_twice_the_shift(sampler):
    scheme = SCHEMES[sampler](10)
    np.testing.assert_allclose(
        shift(CASE_B, scheme, 4.0), 2 * shift(CASE_B, scheme, 2.0), rtol=1e-5
    )


def variances(scheme: qam.Scheme, target: Gaussian) -> np.ndarray:
    """Variance of the roll-out of the target's own velocity after each step."""
    variance, path = 1.0, []
    for w, keep, drive, noise in zip(
        scheme.time, scheme.keep, scheme.drive, scheme.noise, strict=True
    ):
        variance = (keep + drive * target.affine(w)[0]) ** 2 * variance + noise**2
        path.append(variance)
    return np.array(path)


def test_the_bridge_keeps_the_marginals_when_the_endpoint_is_known_and_euler_does_not():
    exact = (1 - (np.arange(10) + 1) / 10) ** 2
    known = Gaussian(0.3, 0.0)
    np.testing.assert_allclose(variances(qam.bridge(10), known), exact, atol=1e-12)
    assert variances(qam.euler(10), known)[0] > 2.0


@pytest.mark.parametrize("scheme", [qam.bridge, qam.euler])
def test_with_many_steps_both_schemes_keep_the_marginals_of_any_gaussian(scheme):
    w = (np.arange(4000) + 1) / 4000
    exact = (1 - w) ** 2 + w**2 * 0.25
    np.testing.assert_allclose(variances(scheme(4000), CASE_B)[1000:], exact[1000:], rtol=0.02)


SHAPE = (5, 3, 2)
MASK = jnp.ones(SHAPE[:2], bool)


def tanh_velocity(seed: int, xp):
    """tanh(a A + b w) C on flat chunks [batch, 6], for numpy or jax.numpy, and its Jacobian."""
    draw = np.random.default_rng(seed)
    first, second = (draw.normal(size=(6, 6)).astype(np.float32) * 0.6 for _ in range(2))
    bias = draw.normal(size=(1, 6)).astype(np.float32)

    def velocity(a, w):
        return xp.tanh(a @ xp.asarray(first) + w * xp.asarray(bias)) @ xp.asarray(second)

    def jacobian(a, w):
        slope = 1 - np.tanh(a @ first + w * bias) ** 2
        return np.einsum("ij,bj,jk->bki", first, slope, second)

    return velocity, jacobian


def in_chunks(velocity):
    """The same velocity for chunks [batch, horizon, action] and times [batch]."""

    def chunked(a, w):
        return velocity(a.reshape(a.shape[0], -1), w[:, None]).reshape(a.shape)

    return chunked


@pytest.mark.parametrize(
    ("sampler", "steps"), [("bridge", 2), ("bridge", 7), ("euler", 2), ("euler", 7)]
)
def test_the_loss_is_that_of_the_slow_loops(sampler, steps):
    """Same networks, start and noise: the authors' algorithm, and the bridge from its formulas."""
    key_noise, key = jax.random.split(jax.random.key(steps))
    noise = jax.random.normal(key_noise, SHAPE)
    drawn = jax.random.normal(key, (steps - 1, *SHAPE))
    loss, _ = LOSS(
        in_chunks(tanh_velocity(1, jnp)[0]),
        in_chunks(tanh_velocity(2, jnp)[0]),
        lambda a: jnp.cos(3 * a),
        noise,
        jax.random.clone(key),
        steps=steps,
        inv_temp=0.7,
        sampler=sampler,
        action_mask=MASK,
    )
    flat = np.asarray(jnp.stack([noise, *drawn, noise]), np.float64).reshape(steps + 1, 5, 6)
    loop = {"bridge": slow.bridge, "euler": slow.official}[sampler]
    reference, jacobian = tanh_velocity(2, np)
    expected = loop(
        tanh_velocity(1, np)[0], reference, jacobian, lambda a: np.cos(3 * a), flat, 0.7
    )
    dimensions = {"bridge": 1, "euler": 6}[sampler]
    assert float(loss) == pytest.approx(expected / dimensions, rel=1e-4)


def loss_of(parameters, sampler="bridge"):
    """Loss with every network a function of `parameters`: policy, reference, critic."""

    def velocity(name, seed):
        network = in_chunks(tanh_velocity(seed, jnp)[0])
        return lambda a, w: parameters[name] * network(a, w)

    key_noise, key = jax.random.split(jax.random.key(7))
    return qam.adjoint_matching_loss(
        velocity("policy", 1),
        velocity("reference", 2),
        lambda a: parameters["critic"] * jnp.cos(3 * a),
        jax.random.normal(key_noise, SHAPE),
        key,
        steps=4,
        inv_temp=0.5,
        sampler=sampler,
        action_mask=MASK,
    )


PARAMETERS = {"policy": 0.8, "reference": 1.1, "critic": 2.0}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_gradient_reaches_the_policy_only(sampler):
    gradients = jax.jit(jax.grad(lambda p: loss_of(p, sampler)[0]))(PARAMETERS)
    assert gradients["reference"] == 0.0
    assert gradients["critic"] == 0.0
    assert abs(gradients["policy"]) > 1e-3


def test_the_gradient_is_that_of_a_regression_on_fixed_states_and_targets():
    """Nothing flows through the roll-out: central differences with the path held fixed."""
    network, reference = (in_chunks(tanh_velocity(seed, jnp)[0]) for seed in (1, 2))
    scheme = qam.bridge(4)

    @jax.jit
    def fixed():
        key_noise, key = jax.random.split(jax.random.key(7))
        path, _, endpoint = qam.roll_out(
            lambda a, w: 0.8 * network(a, w), reference,
            jax.random.normal(key_noise, SHAPE), jax.random.normal(key, (3, *SHAPE)), scheme,
        )  # fmt: skip
        base, asked = qam.lean_adjoint(
            lambda a, w: 1.1 * reference(a, w), path, -0.5 * 2.0 * jnp.cos(3 * endpoint), scheme
        )
        return path, base + asked

    path, target = (np.asarray(found, float).reshape(4, 5, 6) for found in fixed())
    policy = tanh_velocity(1, np)[0]

    def regression(scale: float) -> float:
        rows = [scale * policy(a, w) for a, w in zip(path, scheme.time, strict=True)]
        return float(np.mean((np.stack(rows) - target) ** 2))

    loss, gradients = jax.jit(jax.value_and_grad(lambda p: loss_of(p)[0]))(PARAMETERS)
    assert regression(0.8) == pytest.approx(float(loss), rel=1e-5)
    slope = (regression(0.9) - regression(0.7)) / 0.2
    assert float(gradients["policy"]) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_policy_that_is_the_reference_has_nothing_to_learn_without_a_critic(sampler):
    network = in_chunks(tanh_velocity(2, jnp)[0])
    key_noise, key = jax.random.split(jax.random.key(3))
    loss, metrics = LOSS(
        network, network, jnp.sin, jax.random.normal(key_noise, SHAPE), key,
        steps=5, inv_temp=0.0, sampler=sampler, action_mask=MASK,
    )  # fmt: skip
    assert float(loss) == pytest.approx(0.0, abs=1e-10)
    assert float(metrics["policy/shift"]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ticks_after_the_end_are_left_alone(sampler):
    """The critic's gradient there does not matter, also where the reference mixes ticks, and no
    tick of an all-False row has a loss."""
    mask = MASK.at[:, 2:].set(False)

    def mixing(a, w):
        return 0.3 * a + jnp.broadcast_to(a.mean(axis=1, keepdims=True), a.shape)

    @jax.jit
    def loss(late_gradient, mask):
        return qam.adjoint_matching_loss(
            lambda a, w: 0.1 * a,
            mixing,
            lambda a: jnp.ones_like(a).at[:, 2:].set(late_gradient),
            jnp.ones(SHAPE), jax.random.key(0),
            steps=4, inv_temp=1.0, sampler=sampler, action_mask=mask,
        )[0]  # fmt: skip

    assert float(loss(5.0, mask)) == float(loss(-80.0, mask)) > 0
    assert float(loss(5.0, jnp.zeros_like(mask))) == 0.0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_metrics_say_how_strong_the_critic_pulls_and_how_far_the_policy_moved(sampler):
    _, metrics = LOSS(
        lambda a, w: 0.25 + 0 * a, lambda a, w: 0 * a, lambda a: jnp.full(a.shape, 3.0),
        jnp.ones(SHAPE), jax.random.key(0),
        steps=4, inv_temp=0.5, sampler=sampler, action_mask=MASK,
    )  # fmt: skip
    assert float(metrics["policy/adjoint"]) == pytest.approx(1.5)
    assert float(metrics["policy/shift"]) == pytest.approx(0.25)


@pytest.mark.parametrize(("sampler", "evaluations"), [("bridge", 2), ("euler", 3)])
def test_each_step_evaluates_the_policy_once_and_the_reference_as_rarely_as_possible(
    sampler, evaluations
):
    """Euler needs the reference at two times per step, and once more for its last one; the bridge
    at one time, its first step, where no VJP is needed, apart from the others."""
    calls = {"policy": 0, "reference": 0}

    def counted(name):
        def velocity(a, w):
            calls[name] += 1
            return 0.5 * a

        return velocity

    LOSS(
        counted("policy"), counted("reference"), jnp.ones_like, jnp.ones(SHAPE), jax.random.key(0),
        steps=6, inv_temp=0.5, sampler=sampler, action_mask=MASK,
    )  # fmt: skip
    assert calls == {"policy": 1, "reference": evaluations}


def test_what_is_evaluated_again_changes_memory_and_not_the_gradient():
    """A large network keeps one step's activations at a time."""
    draw = np.random.default_rng(0)
    layers = [
        jnp.asarray(draw.normal(size=size) / 6, jnp.float32)
        for size in ((6, 64), (64, 64), (64, 6))
    ]

    def loss(layers, recompute):
        def velocity(a, w):
            first, second, third = layers
            hidden = jax.nn.gelu(jax.nn.gelu(a.reshape(-1, 6) @ first) @ second)
            return (hidden @ third).reshape(a.shape)

        return qam.adjoint_matching_loss(
            velocity, lambda a, w: 0 * a, jnp.cos, jnp.ones((128, 3, 2)), jax.random.key(0),
            steps=16, inv_temp=0.5, action_mask=jnp.ones((128, 3), bool), recompute=recompute,
        )[0]  # fmt: skip

    gradients, memory = {}, {}
    for recompute in ("nothing", "elementwise", "everything"):
        step = jax.jit(jax.grad(partial(loss, recompute=recompute))).lower(layers).compile()
        gradients[recompute] = np.asarray(step(layers)[1])
        memory[recompute] = step.memory_analysis().temp_size_in_bytes
    np.testing.assert_allclose(gradients["elementwise"], gradients["nothing"], atol=1e-6)
    np.testing.assert_allclose(gradients["everything"], gradients["nothing"], atol=1e-6)
    assert memory["everything"] < memory["elementwise"] < memory["nothing"]


def box_gradient(a):
    """Outside, the known gradient is far too large to be missed."""
    return jnp.where(jnp.abs(a) <= 0.5, 2 * a, 1e6)


def test_the_box_stops_the_gradient_of_each_coordinate_outside_and_clips_what_the_critic_sees():
    a = jnp.array([[[-3.0, -0.5, 0.2, 0.5, 0.51]]])
    found = qam.boxed(box_gradient, 0.5)(a)
    np.testing.assert_array_equal(found, jnp.array([[[0.0, -1.0, 0.4, 1.0, 0.0]]]))


def test_the_box_is_the_gradient_of_the_clipped_critic():
    def q(a):
        return (jnp.sin(3 * a).sum(axis=(1, 2)) * a[:, 0, 0]).sum()

    a = 1.5 * jax.random.normal(jax.random.key(0), (200, 3, 2))
    expected = jax.grad(lambda a: q(jnp.clip(a, -1.0, 1.0)))(a)
    np.testing.assert_allclose(qam.boxed(jax.grad(q), 1.0)(a), expected, rtol=1e-6)
    assert (np.asarray(expected) == 0).mean() > 0.3


def masked_loss(sampler, mask, gradient=1.0, **kwargs):
    return LOSS(
        lambda a, w: 0.1 * a + 0.3, lambda a, w: 0.2 * a, lambda a: gradient * jnp.ones_like(a),
        jnp.ones(SHAPE), jax.random.key(0),
        steps=4, inv_temp=1.0, sampler=sampler, action_mask=mask, **kwargs,
    )[0]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_mask_of_dimensions_that_repeats_that_of_the_ticks_changes_nothing(sampler):
    ticks = MASK.at[:, 2:].set(False)
    dimensions = jnp.broadcast_to(ticks[:, :, None], SHAPE)
    assert float(masked_loss(sampler, ticks)) == pytest.approx(
        float(masked_loss(sampler, dimensions)), rel=1e-6
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_padded_dimensions_are_left_alone(sampler):
    """Of three dimensions, the loss of two real ones does not depend on what the third does."""
    shape = (5, 3, 3)
    mask = jnp.ones(shape, bool).at[:, :, 2].set(False)
    scale = jnp.array([[[1.0, 1.0, 0.0]]])

    @jax.jit
    def loss(padded_gradient, padded_velocity):
        pad = jnp.array([[[0.0, 0.0, 1.0]]])
        return qam.adjoint_matching_loss(
            lambda a, w: 0.3 * scale * a + padded_velocity * pad, lambda a, w: 0.1 * scale * a,
            lambda a: scale + padded_gradient * pad + 0 * a,
            jnp.ones(shape), jax.random.key(0),
            steps=4, inv_temp=1.0, sampler=sampler, action_mask=mask,
        )[0]  # fmt: skip

    assert float(loss(0.0, 0.0)) == float(loss(-70.0, 9.0)) > 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_weights_over_time_are_those_of_the_scheme_unless_another_is_asked_for(sampler):
    own = {"bridge": "constant", "euler": "sigma"}[sampler]
    other = {"bridge": "sigma", "euler": "constant"}[sampler]
    default = float(masked_loss(sampler, MASK))
    assert default == float(masked_loss(sampler, MASK, weighting=own))
    assert default != pytest.approx(float(masked_loss(sampler, MASK, weighting=other)), rel=0.05)


def test_the_weight_of_the_bridge_is_that_of_the_memoryless_noise():
    """Eq. 9: (2 / sigma)^2 |f_delta + (1 - w) / w g|^2 with sigma^2 = 2 (1 - w) / w."""
    w = np.arange(1, 10) / 10
    np.testing.assert_allclose(
        qam._weights(qam.bridge(10), "sigma")[1:], 2 * w / (1 - w), rtol=1e-6
    )


def test_unknown_choices_are_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match="constant"):
        qam._weights(qam.bridge(4), "constent")
    with pytest.raises(ConfigError, match="everything"):
        qam._forgetful(lambda a, w: a, "everthing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action_mask": jnp.ones((5, 2), bool)}, r"action_mask has shape \(5, 2\).*\(5, 3\)"),
        ({"action_mask": jnp.ones((5, 3, 1), bool)}, "action_mask has shape"),
        ({"inv_temp": -0.1}, "inv_temp is -0.1"),
        ({"inv_temp": float("nan")}, "inv_temp is nan"),
        ({"inv_temp": float("inf")}, "inv_temp is inf"),
        ({"steps": 1}, "at least 2 steps"),
        ({"velocity": lambda a, w: a[:, :2]}, r"velocity returned shape \(5, 2, 2\)"),
        ({"reference": lambda a, w: a[:, :, :1]}, r"reference returned shape \(5, 3, 1\)"),
        ({"critic_gradient": lambda a: a[0]}, r"critic_gradient returned shape \(3, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    arguments = {
        "velocity": lambda a, w: a, "reference": lambda a, w: a, "critic_gradient": jnp.cos,
        "noise": jnp.ones(SHAPE), "key": jax.random.key(0),
        "steps": 3, "inv_temp": 1.0, "action_mask": MASK,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        qam.adjoint_matching_loss(**(arguments | change))


def fit_affine(reference: Gaussian, c: float, k: float, sampler: str, steps: int):
    """Mean and variance of the policy that the loss finds among affine velocities, one per step."""

    def velocity(table, a, w):
        row = table[jnp.round(w * steps).astype(int)]
        return row[:, :1, None] * a + row[:, 1:, None]

    table = jnp.stack([jnp.stack(reference.affine(jnp.float32(i / steps))) for i in range(steps)])
    updates = 800
    optimiser = optax.adam(optax.cosine_decay_schedule(0.03, updates))

    def loss(table, key):
        key_noise, key_path = jax.random.split(key)
        return qam.adjoint_matching_loss(
            lambda a, w: velocity(table, a, w), reference.velocity, lambda a: c - k * a,
            jax.random.normal(key_noise, (1024, 1, 1)), key_path,
            steps=steps, inv_temp=1.0, sampler=sampler, action_mask=jnp.ones((1024, 1), bool),
        )[0]  # fmt: skip

    def update(carry, key):
        table, state = carry
        change, state = optimiser.update(jax.grad(loss)(table, key), state)
        return (optax.apply_updates(table, change), state), None

    keys = jax.random.split(jax.random.key(0), updates)
    (table, _), _ = jax.jit(lambda carry: jax.lax.scan(update, carry, keys))(
        (table, optimiser.init(table))
    )
    rows = np.asarray(table, float)
    return euler_moments(lambda w: rows[round(w * steps)], steps)


CASES = {
    "A": (Gaussian(0.0, 1.0), 1.0, 0.0),
    "C": (Gaussian(0.0, 1.0), 1.0, 1.0),
    "D": (Gaussian(0.5, 0.25), 3.0, 4.0),
}


@pytest.mark.parametrize(
    ("case", "sampler", "steps", "mean", "variance"),
    [
        ("A", "bridge", 4, 0.976, 0.518),
        ("A", "euler", 4, 0.636, 0.518),
        ("A", "euler", 10, 0.879, 0.773),
        ("C", "bridge", 10, 0.500, 0.383),
        ("C", "euler", 10, 0.434, 0.394),
        ("D", "bridge", 4, 0.625, 0.049),
    ],
)
def test_the_policy_that_minimises_the_loss(case, sampler, steps, mean, variance):
    """Golden: mean 1 (A), 0.5 (C), 0.625 (D) is the exact tilt; ten Euler steps fall short in A."""
    found = fit_affine(*CASES[case], sampler, steps)
    assert found[0] == pytest.approx(mean, abs=0.015)
    assert found[1] == pytest.approx(variance, abs=0.015)


@pytest.mark.slow
def test_a_network_learns_the_tilted_mixture_with_four_steps(optimised):
    """Three modes, weights (.5, .3, .2), tilted to (.09, .78, .13) by a concave Q."""
    found = mixture.fit("bridge", steps=4, updates=600, seed=0)
    assert found.error < 0.08
    np.testing.assert_allclose(found.weights, mixture.TILTED.weights, atol=0.03)
