"""How close adjoint matching comes to the exact tilt exp(Q), where that has a closed form.

    python benchmarks/tilt.py gaussian --mean .3 --var .25 --linear 2 --steps 10 --sampler bridge
    python benchmarks/tilt.py mixture --seed 1 --steps 4
    python benchmarks/tilt.py table

The first solves any Gaussian N(mean, var) under Q(a) = linear a - quadratic / 2 a^2, the second
trains a small network on a random mixture in the plane; both print JSON. The last writes
benchmarks/results/tilt.md; a quarter of an hour on two cores.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record import REPOSITORY, header
from lwd.algorithms import flow, qam
from reference import mixture  # pyright: ignore[reportMissingImports]
from reference.gaussian import (  # pyright: ignore[reportMissingImports]
    Gaussian,
    Mixture,
    euler_moments,
)

Sampler = Literal["bridge", "euler"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
BATCH, SAMPLES, UPDATES, SEEDS = 4096, 200_000, 1000, 3
STEPS = (3, 4, 10, 40)


class Case(NamedTuple):
    """N(mean, variance) under Q(a) = linear a - quadratic / 2 a^2."""

    mean: float
    variance: float
    linear: float
    quadratic: float

    @property
    def reference(self) -> Gaussian:
        return Gaussian(self.mean, self.variance)

    @property
    def tilted(self) -> Gaussian:
        return self.reference.tilt(self.linear, self.quadratic)


CASES = {
    "A": Case(0.0, 1.0, 1.0, 0.0),
    "B": Case(0.3, 0.25, 2.0, 0.0),
    "C": Case(0.0, 1.0, 1.0, 1.0),
    "D": Case(0.5, 0.25, 3.0, 4.0),
}
EXPECTED = {
    ("A", "euler"): {3: (0.402, 0.410), 4: (0.636, 0.518), 10: (0.879, 0.773)},
    ("A", "bridge"): {3: (0.936, 0.410), 4: (0.976, 0.518), 10: (0.999, 0.773)},
    ("C", "euler"): {4: (0.368, 0.256), 10: (0.434, 0.394)},
    ("C", "bridge"): {4: (0.492, 0.252), 10: (0.500, 0.383)},
    ("D", "euler"): {3: (0.796, 0.003), 4: (0.678, 0.015), 10: (0.618, 0.084)},
    ("D", "bridge"): {3: (0.624, 0.033), 4: (0.625, 0.049), 10: (0.625, 0.088)},
}
"""Mean and variance of the sampled policy by the recursions' own fixed points, by steps."""


def solve_gaussian(case: Case, sampler: Sampler, steps: int, seed: int = 0) -> dict[str, Any]:
    """Moments of the policy that the loss finds, of the exact tilt, and the error of the field."""
    rows = np.asarray(_best_affine(case, sampler, steps, jax.random.key(seed)), float)
    table = jnp.asarray(rows, jnp.float32)
    start = jax.random.normal(jax.random.key(seed + 1), (SAMPLES, 1, 1))
    sampled = np.asarray(flow.euler_sample(lambda a, w: _affine(table, a, w), start, steps), float)
    perfect = euler_moments(case.tilted.affine, steps)
    return {
        **case._asdict(), "sampler": sampler, "steps": steps, "samples": SAMPLES,
        "sampled": {"mean": float(sampled.mean()), "variance": float(sampled.var())},
        "exact": {"mean": case.tilted.mean, "variance": case.tilted.variance},
        "exact_field_with_these_steps": {"mean": perfect[0], "variance": perfect[1]},
        "field_error": _field_error(case, rows),
    }  # fmt: skip


def _affine(table: jax.Array, a: jax.Array, w: jax.Array) -> jax.Array:
    """Velocity slope * a + offset with a row [slope, offset] of the table for each flow step."""
    row = table[jnp.round(w * len(table)).astype(int)]
    return row[:, :1, None] * a + row[:, 1:, None]


def _best_affine(case: Case, sampler: Sampler, steps: int, key: jax.Array) -> np.ndarray:
    """Minimum of the adjoint-matching loss among affine velocities, [steps, 2].

    On a fixed path the loss is quadratic with a 2 x 2 block for each step, so Newton's step is
    exact; the path moves with the policy, so a part of the step is taken, the smaller the more
    concave Q is. The mean of the second half of the iterates averages the noise out.
    """
    columns = [jnp.zeros((steps, 2)).at[:, i].set(1.0) for i in range(2)]

    def loss(table: jax.Array, key: jax.Array) -> jax.Array:
        key_noise, key_path = jax.random.split(key)
        return qam.adjoint_matching_loss(
            lambda a, w: _affine(table, a, w), case.reference.velocity,
            lambda a: case.linear - case.quadratic * a,
            jax.random.normal(key_noise, (BATCH, 1, 1)), key_path,
            steps=steps, inv_temp=1.0, sampler=sampler,
            action_mask=jnp.ones((BATCH, 1), bool), recompute="nothing",
        )[0]  # fmt: skip

    part = 0.5 / (1 + max(case.quadratic, 0.0) * case.variance)

    def newton(table: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient, curvature = jax.linearize(jax.grad(lambda table: loss(table, key)), table)
        blocks = jnp.stack([curvature(column) for column in columns], axis=2)
        table = table - part * jnp.linalg.solve(blocks, gradient[:, :, None])[:, :, 0]
        return table, table

    first = jnp.stack(
        [jnp.stack(case.reference.affine(jnp.float32(i / steps))) for i in range(steps)]
    )
    iterations = int(200 / min(2 * part, 1.0))
    iterates = jax.jit(lambda table, keys: jax.lax.scan(newton, table, keys)[1])(
        first, jax.random.split(key, iterations)
    )
    return np.asarray(iterates)[iterations // 2 :].mean(axis=0)


def _field_error(case: Case, rows: np.ndarray) -> float | None:
    """Squared distance to the exact field on its own marginals, in units of the reference's.

    None where Q is constant and the reference is exact.
    """
    found, base = 0.0, 0.0
    for i, row in enumerate(rows):
        w, tilted = i / len(rows), case.tilted
        mean, variance = w * tilted.mean, (1 - w) ** 2 + w**2 * tilted.variance
        exact = np.array(tilted.affine(w))
        for velocity in (row, np.array(case.reference.affine(w))):
            slope, offset = velocity - exact
            distance = (slope * mean + offset) ** 2 + slope**2 * variance
            found, base = (found + distance, base) if velocity is row else (found, base + distance)
    return float(found / base) if base > 0 else None


def random_tilt(seed: int) -> mixture.Tilt:
    """Two to four modes in the plane and a critic that is linear or concave."""
    draw = np.random.default_rng(seed)
    modes = int(draw.integers(2, 5))
    base = Mixture(
        draw.dirichlet(np.full(modes, 3.0)),
        draw.uniform(-1.3, 1.3, size=(modes, 2)),
        draw.uniform(0.04, 0.12, size=modes),
    )
    angle, size = draw.uniform(0, 2 * np.pi), draw.uniform(0.5, 1.5)
    slope = size * np.array([np.cos(angle), np.sin(angle)], np.float32)
    return mixture.Tilt(base, slope, float(draw.choice([0.0, 0.3, 0.6])))


def train_mixture(seed: int, sampler: Sampler, steps: int, updates: int) -> dict[str, Any]:
    """A network trained on the random mixture `seed`, against the exact tilt."""
    task = random_tilt(seed)

    def report(done: int, loss: float) -> None:
        print(f"update {done} of {updates}, loss {loss:.4f}", file=sys.stderr, flush=True)

    found = mixture.fit(sampler, steps, updates, seed, task, report)
    return {
        "seed": seed, "sampler": sampler, "steps": steps, "updates": updates,
        "slope": [float(x) for x in task.slope], "curvature": task.curvature,
        "means": task.base.means.tolist(), "variances": task.base.variances.tolist(),
        "weights": {
            "reference": task.base.weights.tolist(),
            "sampled": found.weights.tolist(),
            "exact": task.tilted.weights.tolist(),
        },
        "field_error": found.error,
    }  # fmt: skip


def _gaussian_table() -> list[str]:
    lines = [
        "| case | T | sampler | sampled mean, variance | expected | exact field, Euler-sampled "
        "| exact tilt | field error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        for steps in STEPS:
            for sampler in SAMPLERS:
                found = solve_gaussian(case, sampler, steps)
                pairs = [
                    "{mean:.3f}, {variance:.3f}".format(**found[key])
                    for key in ("sampled", "exact_field_with_these_steps", "exact")
                ]
                expected = EXPECTED.get((name, sampler), {}).get(steps)
                words = "" if expected is None else "{:.3f}, {:.3f}".format(*expected)
                lines.append(
                    f"| {name} | {steps} | {sampler} | {pairs[0]} | {words} | {pairs[1]} "
                    f"| {pairs[2]} | {found['field_error']:.2g} |"
                )
                print(lines[-1], file=sys.stderr, flush=True)
    return lines


def _mixture_table(seeds: int) -> list[str]:
    def words(weights: np.ndarray) -> str:
        return ", ".join(f"{weight:.3f}" for weight in weights)

    lines = [
        "| sampler | T | field error, mean and range | shares of the modes, mean |",
        "|---|---|---|---|",
        f"| exact tilted policy | | 0 | {words(mixture.TILTED.weights)} |",
        f"| reference | | 1 | {words(mixture.THREE_MODES.base.weights)} |",
    ]
    for sampler in SAMPLERS:
        for steps in STEPS:
            fits = [mixture.fit(sampler, steps, UPDATES, seed) for seed in range(seeds)]
            errors = [fit.error for fit in fits]
            spread = f"{np.mean(errors):.3f} ({min(errors):.3f} to {max(errors):.3f})"
            shares = words(np.mean([fit.weights for fit in fits], axis=0))
            lines.append(f"| {sampler} | {steps} | {spread} | {shares} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def write_table(seeds: int) -> None:
    """Both tables, to benchmarks/results/tilt.md."""
    gaussians, modes = "\n".join(_gaussian_table()), "\n".join(_mixture_table(seeds))
    command = f"python benchmarks/tilt.py table --seeds {seeds}"
    named = "; ".join(
        f"{name}: N({case.mean}, {case.variance}), Q = {case.linear} a - {case.quadratic} / 2 a^2"
        for name, case in CASES.items()
    )
    text = (
        f"# Accuracy of adjoint matching\n\n{header(command)}\n"
        f"The field error is the squared distance of the learned velocity to the exact one, in "
        f"units of the reference's. Policies are sampled with the T they were trained with.\n\n"
        f"## Gaussians\n\nThe minimum of the loss among affine velocities. {named}. `expected` is "
        f"the fixed point of each scheme's recursion, derived beforehand, not measured here. Euler "
        f"sampling of the exact field itself loses variance when T is small.\n\n{gaussians}\n\n"
        f"## Three modes in the plane\n\nA network of three layers of {mixture.WIDTH}, {UPDATES} "
        f"updates with batch {mixture.BATCH}, seeds: {seeds}; Q is concave.\n\n{modes}\n"
    )
    (REPOSITORY / "benchmarks" / "results" / "tilt.md").write_text(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parts = parser.add_subparsers(dest="part", required=True)
    gaussian = parts.add_parser("gaussian", help="solve one Gaussian case")
    for name, default in (("mean", 0.0), ("var", 1.0), ("linear", 1.0), ("quadratic", 0.0)):
        gaussian.add_argument(f"--{name}", type=float, default=default)
    modes = parts.add_parser("mixture", help="train on a random mixture in the plane")
    modes.add_argument("--updates", type=int, default=UPDATES)
    for part in (gaussian, modes):
        part.add_argument("--seed", type=int, default=0)
        part.add_argument("--steps", type=int, default=10)
        part.add_argument("--sampler", choices=SAMPLERS, default="bridge")
    table = parts.add_parser("table", help="write benchmarks/results/tilt.md")
    table.add_argument("--seeds", type=int, default=SEEDS)
    return parser


def main(arguments: Sequence[str] = ("table",)) -> None:
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.part == "table":
        return write_table(given.seeds)
    if given.steps < 2:
        parser.error(f"--steps is {given.steps}; adjoint matching needs at least 2.")
    if given.part == "mixture":
        if given.updates < 20:
            parser.error(f"--updates is {given.updates}; at least 20 are needed.")
        found = train_mixture(given.seed, given.sampler, given.steps, given.updates)
    else:
        case = Case(given.mean, given.var, given.linear, given.quadratic)
        if not (np.isfinite(case).all() and case.variance > 0):
            parser.error(f"--var is {given.var}; all numbers must be finite and it positive.")
        if 1 / case.variance + case.quadratic <= 0:
            parser.error(
                f"--quadratic is {given.quadratic}; above {-1 / case.variance:g} there is a tilt."
            )
        found = solve_gaussian(case, given.sampler, given.steps, given.seed)
    return print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
