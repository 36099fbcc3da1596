"""Time, compilation and memory of one update of Algorithm 2: the `state` preset, batch 256.

The variants take turns, so that whatever else the machine does hits all of them alike. `python -m
benchmarks.update_speed` writes benchmarks/results/update_speed.md.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.record import header
from lwd.config import COMPACT, OptimiserConfig, QamConfig, StageConfig, StateLayout
from lwd.learner.state import Nets, Optimisers, TrainState, Transitions, init, optimisers, rates
from lwd.learner.update import critic_update, sft_update, update
from lwd.models import state as state_preset
from lwd.models.fns import Inputs, Params
from lwd.models.presets import ACTION, build
from lwd.models.tokenizer import tokenize

BATCH, ROUNDS, WARM_UP = 256, 20, 2
OPTIMISER = OptimiserConfig()


class Variant(NamedTuple):
    """A sampler and its number of flow steps."""

    sampler: Literal["bridge", "euler"]
    steps: int
    recompute: Literal["nothing", "elementwise", "everything"] = "elementwise"


class Compiled(NamedTuple):
    """An update that is ready to run."""

    call: Any
    seconds: float
    """Processor time that compilation took."""
    temporary: float
    """MiB that XLA reserves besides arguments and results."""


BASELINE = Variant("euler", 10)
VARIANTS = (Variant("bridge", 4), Variant("bridge", 10), Variant("euler", 4), BASELINE)
MEMORY = tuple(
    Variant("bridge", steps, recompute)
    for steps in (4, 10, 40)
    for recompute in ("nothing", "elementwise", "everything")
)


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
    qam = QamConfig(sampler=variant.sampler, steps=variant.steps, recompute=variant.recompute)
    return StageConfig(
        updates=1, batch=BATCH, mixture={"offline": 1.0}, qam=qam, optimiser=OPTIMISER
    )


def steps(nets: Nets, chain: Optimisers) -> dict[str, Any]:
    """The jitted updates, by the name they have in the table."""
    named: dict[str, Any] = {
        f"LWD, {variant.sampler}, T = {variant.steps}": full(variant, nets, chain)
        for variant in VARIANTS
    }
    given = {"nets": nets, "optimisers": chain, "stage": stage(VARIANTS[0])}
    for name, step in (
        ("LWD, bridge, T = 4", update),
        ("DIVL (the critics only)", critic_update),
        ("SFT (flow matching only)", sft_update),
    ):
        named[name] = jax.jit(partial(step, **given))
        named[f"{name}, a key of every slot"] = jax.jit(_plainly(partial(step, **given)))
    return named


def _plainly(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same update where attention over object slots makes a key of each slot and multiplies it
    with the query; that of the preset multiplies in another order."""

    def attend(params: Params, wanted: Array, slots: Array, layout: StateLayout) -> Array:
        rows, count, _ = slots.shape
        heads = (state_preset.HEADS, state_preset.KEY)
        identity, present = slots[..., layout.identities], slots[..., -1] > 0.5
        query = (wanted @ params["query"]["w"] + params["query"]["b"]).reshape(rows, *heads)
        key = (identity @ params["key"]).reshape(rows, count, *heads)
        score = jnp.einsum("bhk,bshk->bhs", query, key)
        score = jnp.where(present[:, None], score, -1e9)
        return jnp.einsum("bhs,bsd->bhd", jax.nn.softmax(score, axis=-1), slots)

    def traced(*arguments: Any) -> Any:
        with patch.object(state_preset, "_attend", attend):
            return step(*arguments)

    return traced


def full(variant: Variant, nets: Nets, chain: Optimisers) -> Any:
    """Algorithm 2 with this sampler, jitted."""
    return jax.jit(partial(update, nets=nets, optimisers=chain, stage=stage(variant)))


def prepare(step: Any, state: TrainState) -> Compiled:
    """Compile for the batch that is timed."""
    start = time.process_time()
    call = step.lower(state, batch(0), jax.random.key(0), rates(stage(BASELINE))(0)).compile()
    seconds = time.process_time() - start
    return Compiled(call, seconds, call.memory_analysis().temp_size_in_bytes / 2**20)


class Spent(NamedTuple):
    """Seconds of one call."""

    wall: float
    processor: float
    """Of all threads."""


def measure(named: dict[str, Compiled], state: TrainState) -> dict[str, list[Spent]]:
    """Every round after the warm-up; one round calls each variant once."""
    times: dict[str, list[Spent]] = {name: [] for name in named}
    data, rate = batch(0), rates(stage(BASELINE))(0)
    for number in range(WARM_UP + ROUNDS):
        key = jax.random.key(number)
        for name, step in named.items():
            wall, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(step.call(state, data, key, rate))
            if number >= WARM_UP:
                spent = Spent(time.perf_counter() - wall, time.process_time() - processor)
                times[name].append(spent)
    return times


def table(named: dict[str, Compiled], times: dict[str, list[Spent]]) -> str:
    """Median, quartiles and processor time, also relative to the authors' scheme."""

    def processor(name: str) -> float:
        return statistics.median(each.processor for each in times[name])

    base = processor(f"LWD, {BASELINE.sampler}, T = {BASELINE.steps}")
    lines = [
        "| update | median | quartiles | processor time | of that of Euler, T = 10 | compilation |",
        "|---|---|---|---|---|---|",
    ]
    for name, spent in times.items():
        low, middle, high = (
            1e3 * q for q in statistics.quantiles([each.wall for each in spent], n=4)
        )
        lines.append(
            f"| {name} | {middle:.1f} ms | {low:.1f} to {high:.1f} ms "
            f"| {1e3 * processor(name):.1f} ms | {processor(name) / base:.2f} "
            f"| {named[name].seconds:.1f} s |"
        )
    return "\n".join(lines)


def memory_table(nets: Nets, chain: Optimisers, state: TrainState) -> str:
    """Temporary memory by flow steps and by what the backward pass evaluates again."""
    found = {variant: prepare(full(variant, nets, chain), state).temporary for variant in MEMORY}
    kinds: list[Any] = list(dict.fromkeys(variant.recompute for variant in MEMORY))
    lines = [f"| T | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for count in dict.fromkeys(variant.steps for variant in MEMORY):
        cells = (f"{found[Variant('bridge', count, kind)]:.1f} MiB" for kind in kinds)
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    nets = Nets(*build("state", COMPACT))
    chain = optimisers(OPTIMISER)
    state = init(jax.random.key(0), *nets, chain)
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in (("policy", state.policy), ("value", state.value), ("critics", state.q))
    }
    named = {name: prepare(step, state) for name, step in steps(nets, chain).items()}
    times = measure(named, state)
    sized = ", ".join(f"{name} {size / 1e6:.2f} M" for name, size in sizes.items())
    text = (
        f"# Time of one update\n\n{header('python -m benchmarks.update_speed')}"
        f"- device: {jax.devices()[0].device_kind} ({jax.devices()[0].platform})\n\n"
        f"`state` preset, chunks of {COMPACT.horizon} x {ACTION}, batch {BATCH}, float32; "
        f"parameters: {sized}. {ROUNDS} rounds after {WARM_UP} for warm-up; each round times every "
        f"variant once, device work included. Processor time, of all threads and also that of the "
        f"compilation, says what the work is where others share the machine. With *a key of every "
        f"slot* the attention over object slots is computed as it is written down; the preset does "
        f"the same products in another order.\n\n{table(named, times)}\n\n"
        f"## Temporary memory\n\nOf the whole update with the bridge, by `recompute`: what of the "
        f"policy the backward pass evaluates again.\n\n{memory_table(nets, chain, state)}\n"
    )
    path = Path(__file__).parent / "results" / "update_speed.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
