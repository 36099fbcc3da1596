"""Why does the same extractor do better with one critic than with another?

    python -m benchmarks.ogbench.temperature --cells FOLDER --judge CELL --data FOLDER

Takes critics of trained cells (those of IQL and DIVL do not depend on the policy), says how far
they agree with the critic of another training about the chunks of one state, tilts the behaviour
flow by each critic anew with several inverse temperatures, and lets the other critic judge what
came out: a gain that only the climbed critic sees is a mistake of that critic. Every policy is then
evaluated by the package. Writes benchmarks/results/ogbench_temperature.md.
"""

import argparse
import dataclasses
import json
import sys
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.ogbench import agent, cell, nets
from benchmarks.ogbench.agent import AgentConfig, Batch
from benchmarks.ogbench.data import Chunks, chunked
from benchmarks.ogbench.evaluate import successes
from benchmarks.ogbench.ledger import replace
from benchmarks.ogbench.run import settle
from benchmarks.record import REPOSITORY, header
from lwd.algorithms.flow import euler_sample
from lwd.eval.intervals import wilson

STATES, CANDIDATES, UPDATES, RATE = 256, 32, 3000, 1e-3
TEMPERATURES = (0.1, 0.3, 1.0)
KINDS = ("iql", "divl")


class Critics(NamedTuple):
    """A critic that is climbed, and one that judges."""

    name: str
    config: AgentConfig
    own: agent.Params
    """Target networks of the critic, and of the behaviour flow that was trained beside it."""
    other: agent.Params
    """Those of the cell that judges."""


def load(path: Path) -> tuple[AgentConfig, agent.Params]:
    """Settings and target networks of a cell of the grid."""
    described = json.loads((path / "cell.json").read_text())
    config = AgentConfig(
        **described["config"] | {"hidden": tuple(described["config"]["hidden"])},
    )
    state, _ = cell.restore(path / "state.npz", cell.create(config, described["seeds"]))
    return config, state.target


def judged(critic: nets.Net, observations: jax.Array, chunks: jax.Array) -> jax.Array:
    """[kinds, states] mean of the heads, of chunks [kinds, states, horizon, action]."""
    return jax.vmap(lambda a: agent.heads(critic, observations, jnp.clip(a, -1, 1)).mean(0))(chunks)


@partial(jax.jit, static_argnums=0)
def describe(
    config: AgentConfig, own: agent.Params, other: agent.Params, observations: jax.Array
) -> dict[str, jax.Array]:
    """How two critics see the same chunks of the behaviour flow, in the same states."""
    shape = (CANDIDATES, len(observations), config.horizon, config.action)
    flow = agent.velocity(own["slow"], observations)
    noise = jax.random.normal(jax.random.key(3), shape)
    chunks = jax.vmap(lambda z: euler_sample(flow, z, config.flow_steps))(noise)
    q, there = (judged(one["critic"], observations, chunks) for one in (own, other))

    def slope(critic: nets.Net, a: jax.Array) -> jax.Array:
        return jax.grad(lambda a: agent.heads(critic, observations, a).mean(axis=0).sum())(a)

    here, away = (jax.vmap(partial(slope, one["critic"]))(chunks) for one in (own, other))
    along = (
        (here * away).sum((2, 3))
        / jnp.linalg.norm(here.reshape(*shape[:2], -1), axis=2)
        / jnp.linalg.norm(away.reshape(*shape[:2], -1), axis=2)
    )
    best = jnp.take_along_axis(there, q.argmax(axis=0)[None], axis=0)[0]
    return {
        "spread of Q in a state": q.std(axis=0).mean(),
        "spread of Q over states": q.mean(axis=0).std(),
        "size of dQ/da, RMS": jnp.sqrt(jnp.square(here).mean()),
        "cosine of dQ/da with the judge's": along.mean(),
        "correlation of Q with the judge's in a state": _within(q, there).mean(),
        "best of 32, by the critic": (q.max(axis=0) - q.mean(axis=0)).mean(),
        "best of 32, by the judge": (best - there.mean(axis=0)).mean(),
        "spread of the chunks, RMS": jnp.sqrt(jnp.square(chunks - chunks.mean(0)[None]).mean()),
    }


def _within(x: jax.Array, y: jax.Array) -> jax.Array:
    """Correlation over the first axis."""
    x, y = (z - z.mean(axis=0)[None] for z in (x, y))
    return (x * y).sum(0) / jnp.sqrt(jnp.square(x).sum(0) * jnp.square(y).sum(0))


@lru_cache
def tilting(config: AgentConfig) -> Any:
    """Training of the tilted flow against a critic and a behaviour flow that stay as they are."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE))

    def update(carry: Any, key: jax.Array, target: agent.Params, chunks: Chunks) -> Any:
        fast, memory = carry
        key_rows, key_loss = jax.random.split(key)
        batch: Batch = agent.draw(chunks, key_rows, config)
        loss = lambda fast: agent._qam_loss({"fast": fast}, target, batch, key_loss, config)  # noqa: E731
        grads, metrics = jax.grad(loss, has_aux=True)(fast)
        steps, memory = optimiser.update(grads, memory)
        return (optax.apply_updates(fast, steps), memory), metrics

    def train(target: agent.Params, chunks: Chunks, key: jax.Array) -> Any:
        first = jax.tree.map(jnp.copy, target["slow"])
        keys = jax.random.split(key, UPDATES)
        step = partial(update, target=target, chunks=chunks)
        (fast, _), metrics = jax.lax.scan(step, (first, optimiser.init(first)), keys)
        return fast, jax.tree.map(lambda values: values[-500:].mean(), metrics)

    return jax.jit(train)


@partial(jax.jit, static_argnums=0)
def gains(
    config: AgentConfig,
    fast: nets.Net,
    own: agent.Params,
    other: agent.Params,
    observations: jax.Array,
) -> dict[str, jax.Array]:
    """What the policy gained over the behaviour flow from the same noise, by critic and judge."""
    noise = jax.random.normal(
        jax.random.key(4), (8, len(observations), config.horizon, config.action)
    )

    def sampled(net: nets.Net) -> jax.Array:
        flow = agent.velocity(net, observations)
        return jax.vmap(lambda z: euler_sample(flow, z, config.flow_steps))(noise)

    ours, theirs = sampled(fast), sampled(own["slow"])
    found = {
        name: (judged(critic, observations, ours) - judged(critic, observations, theirs)).mean()
        for name, critic in (("critic", own["critic"]), ("judge", other["critic"]))
    }
    moved = jnp.sqrt(jnp.square(jnp.clip(ours, -1, 1) - jnp.clip(theirs, -1, 1)).mean())
    return found | {"moved": moved, "outside": (jnp.abs(ours) > 1).mean()}


def evaluate(config: AgentConfig, fast: nets.Net, env: Any, episodes: int, seed: int) -> list[bool]:
    """Success from the same starts as the grid's."""

    @jax.jit
    def act(observation: jax.Array, at: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), at[0]), at[1])
        return agent.policy(config, {"fast": fast}, observation[None], key)[0]

    def chunk(observation: np.ndarray, number: int, decision: int) -> np.ndarray:
        return np.asarray(act(observation.astype(np.float32), np.array([number, decision])))

    return successes(env, chunk, episodes, seed)


def tilt(critics: Critics, inv_temp: float, chunks: Chunks, seed: int) -> tuple[dict, Any]:
    """A policy at one temperature: what it asked for and gained, and how it is evaluated."""
    config = dataclasses.replace(critics.config, inv_temp=inv_temp)
    fast, metrics = tilting(config)(critics.own, chunks, jax.random.key(seed))
    found: dict[str, Any] = {key: float(value) for key, value in metrics.items()}
    for key, value in gains(config, fast, critics.own, critics.other, _states(chunks)).items():
        found[key] = float(value)
    return found, partial(evaluate, config, fast)


def examine(name: str, chunks: Chunks, env: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The critic of a kind, and its policies at every temperature."""
    config, own = load(options.cells / f"lwd-{name}-bridge-4-seed-{options.seed}")
    critics = Critics(name, config, own, load(options.judge)[1])
    seen = describe(critics.config, critics.own, critics.other, _states(chunks))
    critic = {key: float(value) for key, value in seen.items()}
    print(name, critic, file=sys.stderr, flush=True)
    rows = {}
    for inv_temp in TEMPERATURES:
        row, policy = tilt(critics, inv_temp, chunks, options.seed)
        print(name, inv_temp, row, file=sys.stderr, flush=True)
        done = policy(env, options.episodes, options.seed) if options.episodes else []
        rows[f"{inv_temp:g}"] = row | {"successes": [int(s) for s in done]}
    return {"critic": critic, "rows": rows}


def _states(chunks: Chunks) -> jax.Array:
    rows = np.random.default_rng(5).choice(np.asarray(chunks.starts), STATES, replace=False)
    return jnp.asarray(chunks.observations)[rows]


def tables(found: dict[str, Any]) -> str:
    """Markdown: the critics, then the policies."""
    first = next(iter(found.values()))["critic"]
    lines = ["| | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name in first:
        cells = (f"{one['critic'][name]:.3g}" for one in found.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| critic | inv_temp | asked, RMS | moved, RMS | outside the box | gain by the critic "
        "| gain by the judge | success |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for critic, one in found.items():
        for inv_temp, row in one["rows"].items():
            lines.append(
                f"| {critic} | {inv_temp} | {row['policy/adjoint']:.2f} | {row['moved']:.3f} "
                f"| {row['outside']:.1%} | {row['critic']:.2f} | {row['judge']:.2f} "
                f"| {_success(row['successes'])} |"
            )
    return "\n".join(lines) + "\n"


def _success(found: list[int]) -> str:
    if not found:
        return "not evaluated"
    low, high = wilson(sum(found), len(found))
    return f"{np.mean(found):.0%} [{low:.0%}, {high:.0%}] ({sum(found)}/{len(found)})"


def main() -> None:
    """Describe, tilt, evaluate, write the table."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--cells", type=Path, required=True)
    ask.add_argument("--judge", type=Path, required=True)
    ask.add_argument("--data", type=Path, required=True)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--episodes", type=int, default=50, help="of an evaluation; 0: none")
    ask.add_argument("--out", type=Path, default=Path("runs/ogbench/temperature"))
    ask.add_argument("--device", default="cpu")
    ask.add_argument("--threads", type=int, default=1)
    options = ask.parse_args()
    settle(options)
    from benchmarks.ogbench import tasks  # after settle, as in `run`

    env = tasks.environment("scene", "play", 1)
    dataset = tasks.load(env, "scene", "play", 1, folder=options.data, reward="package")
    chunks = chunked(dataset, 5, 0.99)
    found = {}
    for name in KINDS:
        path = options.out / f"{name}-seed{options.seed}-{options.episodes}.json"
        if not path.exists():
            examined = json.dumps(examine(name, chunks, env, options)).encode()
            replace(path, lambda file, text=examined: file.write(text))
        found[name] = json.loads(path.read_text())
    (REPOSITORY / "benchmarks/results/ogbench_temperature.md").write_text(text(found, options))


def text(found: dict[str, Any], options: argparse.Namespace) -> str:
    """The page."""
    command = (
        f"python -m benchmarks.ogbench.temperature --seed {options.seed} --cells ... --data ..."
    )
    return f"# OGBench: critic and temperature\n\n{header(command)}\n{tables(found)}"


if __name__ == "__main__":
    main()
