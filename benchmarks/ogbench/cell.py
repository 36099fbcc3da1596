"""Train and evaluate one cell in steps that survive being killed."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ogbench import agent
from benchmarks.ogbench.agent import AgentConfig, State
from benchmarks.ogbench.data import Chunks
from benchmarks.ogbench.evaluate import Act, successes
from benchmarks.ogbench.ledger import Ledger, replace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often things happen, in updates."""

    evaluate: int = 10_000
    checkpoint: int = 2_000
    dispatch: int = 100
    """Updates in one call of the accelerator."""
    episodes: int = 50
    """Episodes of one evaluation."""

    def __post_init__(self) -> None:
        if self.checkpoint % self.dispatch or self.evaluate % self.checkpoint:
            given = f"evaluate {self.evaluate}, checkpoint {self.checkpoint}"
            raise ValueError(f"{given}, dispatch {self.dispatch}: each must divide the one before.")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One agent of the grid, with one seed or with several in one program."""

    folder: Path
    config: AgentConfig
    seeds: tuple[int, ...]
    facts: dict[str, Any]
    """What is written beside the evaluations; another cell in the folder is refused by it."""


@lru_cache
def trainer(config: AgentConfig, count: int, seeds: int) -> Callable[[State, Chunks], Any]:
    """`count` updates of one agent or of several, compiled; the state that goes in is used up."""
    many = agent.updates(config, count)
    together = many if seeds == 1 else jax.vmap(many, in_axes=(0, None))
    return jax.jit(together, donate_argnums=0)


@lru_cache
def _actor(config: AgentConfig) -> Callable[..., jax.Array]:
    def act(params: agent.Params, observation: jax.Array, seed: int, at: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), at[0]), at[1])
        return agent.act(config, params, observation[None], key)[0]

    return jax.jit(act)


def create(config: AgentConfig, seeds: Sequence[int]) -> State:
    """One agent, or several with a leading axis over seeds."""
    if len(seeds) == 1:
        return agent.create(config, seeds[0])
    return jax.vmap(lambda seed: agent.create(config, seed))(jnp.asarray(seeds))


def save(path: Path, state: State, updates: int) -> None:
    """Write the state; random keys as their data."""
    arrays: dict[str, Any] = {f"leaf_{i:04d}": np.asarray(x) for i, x in enumerate(_plain(state))}
    replace(path, lambda file: np.savez(file, updates=np.asarray(updates), **arrays))


def restore(path: Path, like: State) -> tuple[State, int]:
    """State and its number of updates. Raises ValueError if it is that of other networks."""
    leaves, tree = jax.tree.flatten(like)
    with np.load(path) as file:
        found = [file[name] for name in sorted(file.files) if name != "updates"]
        updates = int(file["updates"])
    if [x.shape for x in found] != [x.shape for x in _plain(like)]:
        raise ValueError(f"{path} holds the state of other networks than were asked for.")
    restored = [
        jax.random.wrap_key_data(jnp.asarray(x)) if _is_key(leaf) else jnp.asarray(x)
        for x, leaf in zip(found, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, restored), updates


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(state: State) -> list[jax.Array]:
    return [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(state)]


def advance(cell: Cell, chunks: Chunks, env: Any, *, until: int, pace: Pace) -> Ledger:
    """Train to `until` updates from the last checkpoint, evaluating on the way.

    The checkpoint is written before the evaluation that belongs to it: a process that is killed
    repeats at most `pace.checkpoint` updates or one evaluation. An evaluation that another machine
    did, whose checkpoint is not here, is not repeated.
    """
    about = {"seeds": cell.seeds, "config": asdict(cell.config)}
    ledger = Ledger(cell.folder / "cell.json", cell.facts | about)
    if ledger.evaluated(until):
        return ledger
    saved = cell.folder / "state.npz"
    state, done = create(cell.config, cell.seeds), 0
    if saved.exists():
        state, done = restore(saved, state)
    train = trainer(cell.config, pace.dispatch, len(cell.seeds))
    clock = _Clock()
    while True:
        if done and done % pace.evaluate == 0 and not ledger.evaluated(done):
            found = _evaluation(cell, state, env, pace.episodes)
            ledger.add({"updates": done, "successes": found} | clock.summary())
        if done >= until:
            return ledger
        clock.start()
        for _ in range(pace.checkpoint // pace.dispatch):
            state, metrics = train(state, chunks)
            clock.note(metrics, pace.dispatch)
        done += pace.checkpoint
        save(saved, state, done)
        log.info("cell=%s updates=%d ms=%.1f %s", cell.folder.name, done, clock.ms, clock.line())


class _Clock:
    """Milliseconds per update, the fastest dispatch of this process, and the last metrics."""

    def __init__(self) -> None:
        self.ms = float("inf")
        self.metrics: dict[str, float] = {}
        self._at = 0.0

    def start(self) -> None:
        self._at = time.perf_counter()

    def note(self, metrics: dict[str, jax.Array], updates: int) -> None:
        self.metrics = {name: float(value.mean()) for name, value in metrics.items()}
        now = time.perf_counter()
        self.ms = min(self.ms, 1000 * (now - self._at) / updates)
        self._at = now
        bad = [name for name, value in self.metrics.items() if not np.isfinite(value)]
        if bad:
            raise FloatingPointError(f"metrics are not finite: {', '.join(bad)}")

    def line(self) -> str:
        return " ".join(f"{name}={value:.4g}" for name, value in self.metrics.items())

    def summary(self) -> dict[str, Any]:
        """For the ledger; no time where this process did not train."""
        ms = round(self.ms, 3) if np.isfinite(self.ms) else None
        return {"ms_per_update": ms, "metrics": self.metrics}


def _evaluation(cell: Cell, state: State, env: Any, episodes: int) -> dict[str, list[int]]:
    """Successes by seed."""
    started = time.perf_counter()
    found = {}
    for index, seed in enumerate(cell.seeds):
        one = jax.tree.map(lambda x, i=index: x[i], state.params)
        params = state.params if len(cell.seeds) == 1 else one
        act = _acting(cell.config, params, seed)
        found[str(seed)] = [int(s) for s in successes(env, act, episodes, seed)]
    rate, seconds = np.mean(list(found.values())), time.perf_counter() - started
    log.info("evaluated=%s success=%.3f seconds=%.0f", cell.folder.name, rate, seconds)
    return found


def _acting(config: AgentConfig, params: agent.Params, seed: int) -> Act:
    """The agent as the environment's loop calls it."""
    act = _actor(config)

    def chunk(observation: np.ndarray, number: int, decision: int) -> np.ndarray:
        at = np.array([number, decision])
        return np.asarray(act(params, observation.astype(np.float32), seed, at))

    return chunk
