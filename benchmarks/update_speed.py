"""Time of one update of Algorithm 2 with each sampler: the `state` preset, batch 256.

The variants take turns, so that whatever else the machine does hits all of them alike. `python -m
benchmarks.update_speed` writes benchmarks/results/update_speed.md.
"""

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record import header
from lwd.config import COMPACT, OptimiserConfig, QamConfig, StageConfig, StateLayout
from lwd.learner.state import Nets, Optimisers, TrainState, Transitions, init, optimisers, rates
from lwd.learner.train import Update
from lwd.learner.update import sft_update, update
from lwd.models.fns import Inputs
from lwd.models.presets import ACTION, build
from lwd.models.tokenizer import tokenize

BATCH, ROUNDS, WARM_UP = 256, 60, 3
OPTIMISER = OptimiserConfig()


class Variant(NamedTuple):
    """A sampler and its number of flow steps."""

    sampler: Literal["bridge", "euler"]
    steps: int


BASELINE = Variant("euler", 10)
VARIANTS = (Variant("bridge", 4), Variant("bridge", 10), Variant("euler", 4), BASELINE)


def batch(seed: int) -> Transitions:
    """Random transitions of the preset's sizes; speed does not depend on the values."""
    random = np.random.default_rng(seed)

    def inputs() -> Inputs:
        state = random.normal(size=(BATCH, StateLayout().size)).astype(np.float32)
        tokens = tokenize(["put the red can on the shelf"] * BATCH)
        return Inputs(jnp.asarray(state), jnp.asarray(tokens))

    action = random.normal(size=(BATCH, COMPACT.horizon, ACTION)).astype(np.float32)
    return Transitions(
        inputs=inputs(),
        action=jnp.asarray(action),
        action_mask=jnp.ones(action.shape[:2], bool),
        returns=jnp.zeros(BATCH),
        discount=jnp.full(BATCH, 0.997),
        next_inputs=inputs(),
    )


def stage(variant: Variant) -> StageConfig:
    """An RL stage with this sampler."""
    qam = QamConfig(sampler=variant.sampler, steps=variant.steps)
    return StageConfig(
        updates=1, batch=BATCH, mixture={"offline": 1.0}, qam=qam, optimiser=OPTIMISER
    )


def steps(nets: Nets, chain: Optimisers) -> dict[str, Update]:
    """The jitted updates, by the name they have in the table."""
    named: dict[str, Update] = {}
    for variant in VARIANTS:
        sampler, count = variant
        full = partial(update, nets=nets, optimisers=chain, stage=stage(variant))
        named[f"LWD, {sampler}, T = {count}"] = jax.jit(full)
    named["SFT (flow matching only)"] = jax.jit(
        partial(sft_update, nets=nets, optimisers=chain, stage=stage(BASELINE))
    )
    return named


def measure(named: dict[str, Update], state: TrainState) -> dict[str, list[float]]:
    """Seconds of every round after the warm-up; one round calls each variant once."""
    times: dict[str, list[float]] = {name: [] for name in named}
    data, rate = batch(0), rates(stage(BASELINE))(0)
    for number in range(WARM_UP + ROUNDS):
        key = jax.random.key(number)
        for name, step in named.items():
            start = time.perf_counter()
            jax.block_until_ready(step(state, data, key, rate))
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return times


def table(times: dict[str, list[float]]) -> str:
    """Median, quartiles and speed relative to the authors' scheme."""
    base = statistics.median(times[f"LWD, {BASELINE.sampler}, T = {BASELINE.steps}"])
    lines = [
        "| update | median | quartiles | against Euler, T = 10 |",
        "|---|---|---|---|",
    ]
    for name, seconds in times.items():
        low, middle, high = (1e3 * q for q in statistics.quantiles(seconds, n=4))
        lines.append(
            f"| {name} | {middle:.1f} ms | {low:.1f} to {high:.1f} ms "
            f"| {1e3 * base / middle:.2f}x as fast |"
        )
    return "\n".join(lines)


def main() -> None:
    nets = Nets(*build("state", COMPACT))
    chain = optimisers(OPTIMISER)
    state = init(jax.random.key(0), *nets, chain)
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in (("policy", state.policy), ("value", state.value), ("critics", state.q))
    }
    times = measure(steps(nets, chain), state)
    sized = ", ".join(f"{name} {size / 1e6:.2f} M" for name, size in sizes.items())
    text = (
        f"# Time of one update\n\n{header('python -m benchmarks.update_speed')}"
        f"- device: {jax.devices()[0].device_kind} ({jax.devices()[0].platform})\n\n"
        f"`state` preset, chunks of {COMPACT.horizon} x {ACTION}, batch {BATCH}, float32; "
        f"parameters: {sized}. {ROUNDS} rounds after {WARM_UP} for warm-up; each round times every "
        f"variant once, device work included.\n\n{table(times)}\n"
    )
    path = Path(__file__).parent / "results" / "update_speed.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
