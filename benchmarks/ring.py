"""How many flow steps does a tilt need, where Q is no quadratic? The toy's ring, with exact parts.

    python -m benchmarks.ring [--seeds 2]

Somebody throws at five spots on a ring; the policy is tilted by exp(inv_temp Q) with the true Q of
the first or the second throw. Reference flow and critic are the exact ones of
examples/01_divl_and_qam_on_a_toy.py, and the loss is minimised by least squares over smooth
features instead of a network, so that what is left between the policy found and the exact tilt
comes from the discretisation and from the number of samples. Writes benchmarks/results/ring.md.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import jax
import jax.numpy as jnp
import numpy as np
import throws  # pyright: ignore[reportMissingImports]

from benchmarks.record import REPOSITORY, header
from lwd.algorithms import flow, qam
from lwd.algorithms.categorical import support
from reference.gaussian import Mixture  # pyright: ignore[reportMissingImports]

INV_TEMP = 5.0
TAU = {"tau_base": 0.9, "alpha": 0.3, "tau_min": 0.05, "tau_max": 0.95}
ATOMS = support(-0.1, 1.1, 201)
STEPS = (4, 10, 20, 40, 80)
BATCH, FEATURES, ITERATIONS, RIDGE = 2500, 128, 10, 1e-3
SAMPLES, NODES = 5000, 9
REFERENCE = Mixture(throws.HOW_OFTEN, throws.SPOTS, np.full(5, throws.SPREAD**2))


class Ring(NamedTuple):
    """One of the two throws."""

    name: str
    target: np.ndarray
    worth: float
    """Value of a hit: what the second throw is worth, discounted, or 1."""

    def q(self, a: jax.Array) -> jax.Array:
        """True Q of throws [..., 2]."""
        apart = jnp.square(a - jnp.asarray(self.target, jnp.float32)).sum(axis=-1)
        return self.worth * throws.BEST * jnp.exp(-apart / (2 * throws.REACH**2))


class Found(NamedTuple):
    """A policy, sampled with the T of its training, against the exact tilt."""

    q: float
    """Mean Q."""
    shares: float
    """Total variation of how often each spot is thrown at."""
    error: float
    """Squared distance to the exact velocity at the flow times of training, in units of the
    reference's."""


def rings() -> list[Ring]:
    """Both throws; the first is worth what the exact V of the second bootstraps."""
    second = throws.solve(INV_TEMP, ATOMS, TAU)[1]
    later = throws.DISCOUNT * throws.bootstrap(second.logits, ATOMS, TAU)[0]
    names = ("first throw", "second throw")
    return [Ring(*one) for one in zip(names, throws.TARGETS, (later, 1.0), strict=True)]


def exact(ring: Ring, inv_temp: float = INV_TEMP) -> flow.Velocity:
    """Velocity of the tilted policy: E[a^1 | a^w] by Gauss-Hermite quadrature in every mode.

    Given a^w and a mode of the reference a^1 is Gaussian; exp(inv_temp Q) weighs its nodes.
    """
    at, mass = np.polynomial.hermite_e.hermegauss(NODES)
    nodes = jnp.asarray(np.stack(np.meshgrid(at, at), -1).reshape(-1, 2), jnp.float32)
    log_mass = jnp.asarray(np.log(np.outer(mass, mass).ravel() / mass.sum() ** 2), jnp.float32)
    spots, often = jnp.asarray(throws.SPOTS, jnp.float32), jnp.log(jnp.asarray(throws.HOW_OFTEN))
    variance = throws.SPREAD**2

    def velocity(a: jax.Array, w: jax.Array) -> jax.Array:
        x, w = a, w[:, None, None]  # [batch, 1, 2] and [batch, 1, 1]
        total, remaining = (1 - w) ** 2 + w**2 * variance, jnp.square(1 - w)
        apart = jnp.square(x - w * spots[None]).sum(axis=2)
        modes = often[None] - apart / (2 * total[:, :, 0])
        spread = variance * remaining / total
        mean = spread * (spots[None] / variance + w * x / remaining)
        points = mean[:, :, None] + jnp.sqrt(spread)[..., None] * nodes[None, None]
        logits = modes[:, :, None] + log_mass[None, None] + inv_temp * ring.q(points)
        weights = jax.nn.softmax(logits.reshape(len(a), -1), axis=1)
        end = (weights[:, :, None] * points.reshape(len(a), -1, 2)).sum(axis=1, keepdims=True)
        return (end - x) / (1 - w)

    return velocity


def features(a: jax.Array) -> jax.Array:
    """[..., FEATURES] smooth functions of the plane from [..., 2]: cosines of several lengths."""
    rng = np.random.default_rng(3)
    lengths = np.repeat([0.25, 0.5, 1.0, 2.0], FEATURES // 4)
    waves = rng.normal(size=(2, FEATURES)) / lengths
    shifts = rng.uniform(0, 2 * np.pi, FEATURES)
    return jnp.cos(a @ jnp.asarray(waves, jnp.float32) + jnp.asarray(shifts, jnp.float32))


def shifted(table: jax.Array) -> flow.Velocity:
    """The reference plus what a table [steps, FEATURES, 2] adds at its step."""

    def velocity(a: jax.Array, w: jax.Array) -> jax.Array:
        row = table[jnp.round(w[0] * len(table)).astype(int)]
        return REFERENCE.velocity(a, w) + features(a) @ row

    return velocity


@partial(jax.jit, static_argnums=(1, 2))
def solve(target: jax.Array, sampler: str, steps: int, key: jax.Array, worth: float) -> jax.Array:
    """Table at the minimum of the adjoint-matching loss, where the policy's own paths lead there.

    The paths move with the policy, so half of every least-squares step is taken; the mean of the
    second half of the iterates averages the samples out.
    """
    plan, ring = qam.scheme(sampler, steps), Ring("", target, worth)  # pyright: ignore

    def step(table: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_noise, key_path = jax.random.split(key)
        noise = jax.random.normal(key_noise, (BATCH, 1, 2))
        drawn = jax.random.normal(key_path, (steps - 1, BATCH, 1, 2))
        path, _, end = qam.roll_out(shifted(table), REFERENCE.velocity, noise, drawn, plan)
        slope = jax.grad(lambda a: ring.q(a).sum())(end)
        _, asked = qam.lean_adjoint(REFERENCE.velocity, path, -INV_TEMP * slope, plan)
        best = jax.lax.map(_least_squares, (path[:, :, 0], asked[:, :, 0]))
        table = table + 0.5 * (best - table)
        return table, table

    zero = jnp.zeros((steps, FEATURES, 2))
    tables = jax.lax.scan(step, zero, jax.random.split(key, ITERATIONS))[1]
    return tables[ITERATIONS // 2 :].mean(axis=0)


def _least_squares(pairs: tuple[jax.Array, jax.Array]) -> jax.Array:
    """[FEATURES, 2] from points [batch, 2] and what is asked there."""
    x, y = features(pairs[0]), pairs[1]
    return jnp.linalg.solve(x.T @ x / len(x) + RIDGE * jnp.eye(FEATURES), x.T @ y / len(x))


def tilted_throws(ring: Ring, count: int) -> np.ndarray:
    """[count, 2] samples of the exact tilt: the reference's, drawn again by their weight."""
    rng = np.random.default_rng(0)
    drawn = throws.behave(rng, 50 * count)
    weight = np.exp(INV_TEMP * np.asarray(ring.q(jnp.asarray(drawn, jnp.float32)), float))
    return drawn[rng.choice(len(drawn), count, p=weight / weight.sum())]


def measure(ring: Ring, velocity: flow.Velocity, steps: int, target: np.ndarray) -> Found:
    """Compare a velocity with the exact tilt, of which `target` [SAMPLES, 2] are samples."""
    start = jax.random.normal(jax.random.key(17), (SAMPLES, 1, 2))
    ends = jax.jit(flow.euler_sample, static_argnums=(0, 2))(velocity, start, steps)[:, 0]
    return Found(
        q=float(ring.q(ends).mean()),
        shares=float(np.abs(_shares(ends) - _shares(target)).sum() / 2),
        error=_error(ring, velocity, steps, target),
    )


def _shares(samples: Any) -> np.ndarray:
    """[5] how often each spot is the nearest."""
    apart = np.square(np.asarray(samples)[:, None] - throws.SPOTS[None]).sum(axis=2)
    return np.bincount(apart.argmin(axis=1), minlength=5) / len(apart)


def _error(ring: Ring, velocity: flow.Velocity, steps: int, target: np.ndarray) -> float:
    """Over the marginals of the exact tilt at the flow times of training."""
    rng, right = np.random.default_rng(1), exact(ring)
    missed = total = 0.0

    @jax.jit
    def apart(a: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        wanted = right(a, w)
        fields = (velocity(a, w), REFERENCE.velocity(a, w))
        return tuple(jnp.square(f - wanted).sum() for f in fields)  # pyright: ignore

    some = target[: SAMPLES // 4]
    for w in np.arange(steps) / steps:
        a = ((1 - w) * rng.normal(size=some.shape) + w * some).astype(np.float32)[:, None]
        found, base = apart(jnp.asarray(a), jnp.full(len(a), w, jnp.float32))
        missed, total = missed + float(found), total + float(base)
    return missed / total


def table(ring: Ring, seeds: int) -> list[str]:
    """Markdown rows of one throw."""
    target = tilted_throws(ring, SAMPLES)
    truth, base = (
        float(ring.q(jnp.asarray(a, jnp.float32)).mean())
        for a in (target, throws.behave(np.random.default_rng(2), SAMPLES))
    )
    lines = [
        f"## {ring.name.capitalize()}\n",
        f"Mean Q of the exact tilt: {truth:.3f}; of the reference: {base:.3f}.\n",
        "| T | velocity | mean Q | distance of the shares | field error |",
        "|---|---|---|---|---|",
    ]
    for steps in STEPS:
        lines.append(_row(steps, "exact", [measure(ring, exact(ring), steps, target)]))
        for sampler in qam.SAMPLERS:
            found = []
            for seed in range(seeds):
                place = jnp.asarray(ring.target, jnp.float32)
                solved = solve(place, sampler, steps, jax.random.key(seed), ring.worth)
                found.append(measure(ring, shifted(solved), steps, target))
            lines.append(_row(steps, sampler, found))
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def _row(steps: int, name: str, found: Sequence[Found]) -> str:
    """Means over seeds, with the range where there are several."""

    def cell(of: Callable[[Found], float]) -> str:
        values = [of(one) for one in found]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        return f"{np.mean(values):.3f}{spread}"

    cells = [cell(lambda one, at=at: one[at]) for at in range(len(Found._fields))]
    return f"| {steps} | {name} | " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] = ()) -> None:
    """Solve, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args(arguments)
    rows = [line for ring in rings() for line in (*table(ring, options.seeds), "")]
    text = (
        f"# Flow steps and the tilt on the toy's ring\n\n"
        f"{header(f'python -m benchmarks.ring --seeds {options.seeds}')}\n"
        f"Exact reference flow and exact critic of the toy, inv_temp {INV_TEMP:g}. The minimum of "
        f"the adjoint-matching loss is found by least squares over {FEATURES} cosines at each flow "
        f"step, {BATCH} paths of the policy so far in each of {ITERATIONS} rounds; seeds: "
        f"{options.seeds} (mean and range). Policies are sampled with the T of their training; "
        f"`exact` is the true tilted velocity, which only sampling can spoil. The distance of the "
        f"shares is the total variation of how often each of the five spots is thrown at. The "
        f"field error is the squared distance to the exact velocity in units of the reference's; "
        f"the samples put a floor under it.\n\n"
    )
    (REPOSITORY / "benchmarks" / "results" / "ring.md").write_text(text + "\n".join(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
