"""Do the critics of the grid agree about where to go from an action?

`python -m benchmarks.ogbench.critics CELL [CELL ...] --data runs/ogbench/data/140` compares the
critics of trained cells on the same chunks in the same states: by dQ/da, which adjoint matching
and FQL follow, and by the order of Q within a state, which best of N needs. What two trainings of
one kind do not share is no property of the task. Writes benchmarks/results/ogbench_critics.md.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.ogbench import agent, cell, nets
from benchmarks.ogbench.agent import AgentConfig
from benchmarks.ogbench.run import settle
from benchmarks.record import REPOSITORY, header
from lwd.algorithms.flow import euler_sample

STATES, CANDIDATES = 256, 16


class Seen(NamedTuple):
    """How a critic sees the chunks."""

    values: Array
    """[candidates, states] minus the mean of each state."""
    directions: Array
    """[candidates * states, numbers] dQ/da of length one."""
    heads: Array
    """Mean cosine between the gradients of its first two heads."""
    size: Array
    """RMS of dQ/da."""


def load(path: Path) -> tuple[AgentConfig, agent.Params, int]:
    """Settings, target networks and updates of a cell."""
    described = json.loads((path / "cell.json").read_text())
    hidden = {"hidden": tuple(described["config"]["hidden"])}
    config = AgentConfig(**described["config"] | hidden)
    state, updates = cell.restore(path / "state.npz", cell.create(config, described["seeds"]))
    return config, state.target, updates


@jax.jit
def look(critic: nets.Net, observations: Array, chunks: Array) -> Seen:
    """What a critic says of chunks [candidates, states, horizon, action]."""

    def of_heads(a: Array) -> Array:
        return agent.heads(critic, observations, a)

    def direction(weights: Array) -> tuple[Array, Array]:
        slope = jax.grad(lambda a: (weights @ of_heads(a)).sum())
        found = jax.vmap(slope)(chunks).reshape(CANDIDATES * len(observations), -1)
        return found / jnp.linalg.norm(found, axis=1, keepdims=True), found

    values = jax.vmap(lambda a: of_heads(a).mean(axis=0))(chunks)
    count = len(jax.tree.leaves(critic)[0])
    mean, slope = direction(jnp.full(count, 1.0 / count))
    first, second = (direction(jnp.eye(count)[i])[0] for i in (0, 1))
    return Seen(
        values - values.mean(axis=0)[None],
        mean,
        (first * second).sum(axis=1).mean(),
        jnp.sqrt(jnp.square(slope).mean()),
    )


def agreement(one: Seen, other: Seen) -> str:
    """Mean cosine of dQ/da, and mean correlation of Q within a state."""
    cosine = (one.directions * other.directions).sum(axis=1).mean()
    spread = one.values.std(axis=0) * other.values.std(axis=0)
    correlation = ((one.values * other.values).mean(axis=0) / spread).mean()
    return f"{float(cosine):.2f}, {float(correlation):.2f}"


def table(found: dict[str, Seen]) -> list[str]:
    """Markdown rows."""
    numbers = range(1, len(found) + 1)
    lines = ["| | critic | heads | RMS | " + " | ".join(map(str, numbers)) + " |"]
    lines.append("|---" * (4 + len(found)) + "|")
    for number, (name, seen) in zip(numbers, found.items(), strict=True):
        cells = (agreement(seen, other) for other in found.values())
        own = f"{float(seen.heads):.2f} | {float(seen.size):.1f}"
        lines.append(f"| {number} | {name} | {own} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Compare all with all."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("cells", type=Path, nargs="+", help="folders with cell.json and state.npz")
    ask.add_argument("--data", type=Path, default=Path("runs/ogbench/data/140"))
    ask.set_defaults(device="cpu", threads=1)
    options = ask.parse_args()
    settle(options)
    loaded = {path: load(path) for path in options.cells}
    config, networks, _ = loaded[options.cells[0]]
    with np.load(options.data / "scene-play-v0.npz") as file:
        frames = file["observations"]
    rows = np.random.default_rng(5).choice(len(frames), STATES, replace=False)
    observations = jnp.asarray(frames[rows])
    velocity = agent.velocity(networks["slow"], observations)
    noise = jax.random.normal(
        jax.random.key(3), (CANDIDATES, STATES, config.horizon, config.action)
    )
    chunks = jnp.clip(jax.vmap(lambda z: euler_sample(velocity, z, 10))(noise), -1, 1)
    found = {
        f"{path.name.removeprefix('lwd-')}, batch {each.batch}, rate {each.learning_rate:g}, "
        f"{updates} updates": look(target["critic"], observations, chunks)
        for path, (each, target, updates) in loaded.items()
    }
    words = (
        f"Scene, task 1, small networks: target critics of the cells in {STATES} states of the "
        f"data, on {CANDIDATES} chunks of the first cell's behaviour flow in each. Every pair: "
        f"mean cosine of dQ/da, mean correlation of Q within a state. `heads` is the cosine "
        f"between the two heads of one critic, `RMS` the size of dQ/da. Cells of the same seed and "
        f"batch drew the same batches from the same first parameters, which flatters pairs of one "
        f"kind, and all kinds alike."
    )
    command = shlex.join(["python", "-m", "benchmarks.ogbench.critics", *sys.argv[1:]])
    lines = ["# OGBench: what critics share", "", header(command), words, "", *table(found), ""]
    (REPOSITORY / "benchmarks/results/ogbench_critics.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
