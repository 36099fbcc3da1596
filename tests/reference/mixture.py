"""Adjoint matching on Gaussian modes in the plane, where the tilted policy is known."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lwd.algorithms import flow, qam
from reference.gaussian import Mixture


class Tilt(NamedTuple):
    """A mixture and Q(a) = slope . a - curvature / 2 |a|^2."""

    base: Mixture
    slope: np.ndarray
    curvature: float

    @property
    def tilted(self) -> Mixture:
        return self.base.tilt(self.slope, self.curvature)


THREE_MODES = Tilt(
    Mixture(
        np.array([0.5, 0.3, 0.2]),
        np.array([[-1.0, -0.4], [1.0, 0.6], [0.3, -1.2]]),
        np.array([0.06, 0.08, 0.05]),
    ),
    np.array([1.2, 0.3], np.float32),
    0.3,
)
TILTED = THREE_MODES.tilted
BATCH, WIDTH, SAMPLES = 256, 128, 20_000


class Fit(NamedTuple):
    """How good a learned policy is."""

    error: float
    """Squared distance to the tilted velocity, in units of the reference's distance to it."""
    weights: np.ndarray
    """Share of the samples that is nearest to each mode."""


def network(key) -> list:
    """Layers 3, 128, 128, 128, 2; the last is zero, so the policy starts as the reference."""
    sizes = [(3, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH)]
    keys = jax.random.split(key, len(sizes))
    layers = [
        (jax.random.normal(k, size) / np.sqrt(size[0]), jnp.zeros((1, size[1])))
        for k, size in zip(keys, sizes, strict=True)
    ]
    return [*layers, (jnp.zeros((WIDTH, 2)), jnp.zeros((1, 2)))]


def velocity(layers, base: Mixture) -> Callable:
    """Reference plus network."""

    def evaluate(a, w):
        hidden = jnp.concatenate([a[:, 0], w[:, None]], axis=1)
        for weight, bias in layers[:-1]:
            hidden = jax.nn.gelu(hidden @ weight + bias)
        return base.velocity(a, w) + (hidden @ layers[-1][0] + layers[-1][1])[:, None]

    return evaluate


def fit(
    sampler: Literal["bridge", "euler"],
    steps: int,
    updates: int,
    seed: int,
    task: Tilt = THREE_MODES,
    report: Callable[[int, float], None] | None = None,
) -> Fit:
    """Train with `steps` flow steps, then compare with the tilted mixture.

    `report` is called with the updates done and the loss, twenty times in all.
    """
    key_init, key_updates, key_sample = jax.random.split(jax.random.key(seed), 3)
    keys = jax.random.split(key_updates, updates)
    layers = _train(sampler, steps, network(key_init), keys, task, report)
    learned = velocity(layers, task.base)
    start = jax.random.normal(key_sample, (SAMPLES, 1, 2))
    samples = np.asarray(flow.euler_sample(learned, start, steps))[:, 0]
    return Fit(_error(learned, task), task.tilted.assign(samples))


def _train(sampler, steps: int, layers: list, keys, task: Tilt, report) -> list:
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-3, len(keys)))

    def loss(layers, key):
        key_noise, key_path = jax.random.split(key)
        return qam.adjoint_matching_loss(
            velocity(layers, task.base),
            task.base.velocity,
            lambda a: jnp.asarray(task.slope, jnp.float32)[None, None] - task.curvature * a,
            jax.random.normal(key_noise, (BATCH, 1, 2)),
            key_path,
            steps=steps,
            inv_temp=1.0,
            sampler=sampler,
            action_mask=jnp.ones((BATCH, 1), bool),
        )[0]

    def update(carry, key):
        layers, state = carry
        found, slope = jax.value_and_grad(loss)(layers, key)
        change, state = optimiser.update(slope, state)
        return (optax.apply_updates(layers, change), state), found

    run = jax.jit(lambda carry, keys: jax.lax.scan(update, carry, keys))
    carry, size = (layers, optimiser.init(layers)), len(keys) if report is None else len(keys) // 20
    for first in range(0, len(keys), max(size, 1)):
        carry, losses = run(carry, keys[first : first + max(size, 1)])
        if report is not None:
            report(min(first + size, len(keys)), float(losses.mean()))
    return carry[0]


def _error(learned: Callable, task: Tilt) -> float:
    """Over the marginals of the tilted flow."""
    draw, tilted = np.random.default_rng(0), task.tilted
    modes = draw.choice(len(tilted.weights), SAMPLES, p=tilted.weights)
    spread = np.sqrt(tilted.variances[modes])[:, None]
    actions = tilted.means[modes] + spread * draw.normal(size=(SAMPLES, 2))
    w = draw.uniform(size=SAMPLES).astype(np.float32)
    noise = draw.normal(size=actions.shape)
    a = ((1 - w)[:, None] * noise + w[:, None] * actions).astype(np.float32)[:, None]
    fields = (learned, task.base.velocity, tilted.velocity)
    found, base, exact = (np.asarray(f(a, w)) for f in fields)
    return float(((found - exact) ** 2).sum() / ((base - exact) ** 2).sum())
