"""Time of an update of the small VLAs on a CPU, of compiling it, and of one robot's chunk.

`python -m benchmarks.vla_speed` writes benchmarks/results/vla_speed.md. Wall time is what the
machine leaves; processor time, of all threads together, says what the work is.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record import header
from lwd.actor.robot import Observation
from lwd.config import COMPACT, ControlConfig, StageConfig, StateLayout
from lwd.learner.recipes import nets, recipe, suited
from lwd.learner.state import (
    Nets,
    Optimisers,
    TrainState,
    Transitions,
    init,
    optimisers,
    rates,
    start_stage,
    trained,
)
from lwd.learner.update import critic_update, extract_policy, sft_update
from lwd.models.artifact import FlowPolicy, pack
from lwd.models.fns import Inputs
from lwd.models.presets import ACTION, ROBOT_CAMERAS, fit, input_format

PRESETS = ("tiny", "small")
ROUNDS, WARM_UP, CHUNKS = 7, 1, 15


class Timed(NamedTuple):
    """Medians over the rounds, in seconds."""

    wall: float
    processor: float
    """Of all threads."""
    compilation: float
    """Processor time of compiling, once."""


def batch(preset: str, rows: int, control: ControlConfig = COMPACT) -> Transitions:
    """Random transitions of a preset's sizes; speed does not depend on the values."""
    rng, sizes = np.random.default_rng(0), input_format(preset, control)
    chunk = (rows, control.horizon, sizes.action)
    live = jnp.broadcast_to(jnp.arange(sizes.action) < ACTION, chunk)

    def inputs() -> Inputs:
        shape = (rows, sizes.image, sizes.image, 3)
        tokens = np.zeros((rows, sizes.tokens), np.int32)
        tokens[:, :9] = rng.integers(1, sizes.vocabulary, (rows, 9))
        return Inputs(
            jnp.asarray(rng.normal(size=(rows, len(sizes.state))), jnp.float32),
            jnp.asarray(tokens),
            {m: jnp.asarray(rng.integers(0, 256, shape, np.uint8)) for m, _ in sizes.cameras},
            {m: jnp.ones(rows, bool) for m, _ in sizes.cameras},
        )

    return Transitions(
        inputs=inputs(),
        action=jnp.asarray(rng.normal(size=chunk), jnp.float32),
        action_mask=live[:, :, 0] if sizes.action == ACTION else live,
        returns=jnp.zeros(rows),
        discount=jnp.full(rows, 0.997),
        next_inputs=inputs(),
    )


def qam_update(
    state: TrainState,
    batch: Transitions,
    key: jax.Array,
    rates: Any,
    *,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The policy's half of an update."""
    return extract_policy(state, batch, key, rates, nets, optimisers, stage)


def updates(preset: str) -> dict[str, tuple[Callable[..., Any], StageConfig]]:
    """Each kind of update with the settings of its stage."""
    stages = suited(recipe("lwd"), preset).stages
    online = stages["online"]
    sharing = replace(online, qam=replace(online.qam, reference="shared_vlm"))
    return {
        f"SFT, {stages['sft'].draws} draws": (sft_update, stages["sft"]),
        "DIVL": (critic_update, stages["offline"]),
        "QAM, all of the policy": (qam_update, stages["offline"]),
        "QAM, the expert": (qam_update, online),
        "QAM, the expert, shared reference": (qam_update, sharing),
    }


def begin(functions: Nets, stage: StageConfig) -> Callable[[jax.Array], TrainState]:
    """Key to what a learner holds at the start of a stage, jitted."""
    chain, share = optimisers(stage.optimiser), stage.qam.reference == "shared_vlm"

    def made(key: jax.Array) -> TrainState:
        state = init(key, functions.policy, functions.critic, chain, share_vlm=share)
        return start_stage(state, chain, trained(functions.policy, stage))

    return jax.jit(made)


def measured(step: Any, stage: StageConfig, functions: Nets, preset: str) -> Timed:
    """Compile and run an update."""
    chain, data, rate = optimisers(stage.optimiser), batch(preset, stage.batch), rates(stage)(0)
    state = begin(functions, stage)(jax.random.key(0))
    jitted = jax.jit(partial(step, nets=functions, optimisers=chain, stage=stage))
    started = time.process_time()
    call = jitted.lower(state, data, jax.random.key(0), rate).compile()
    compilation, wall, processor = time.process_time() - started, [], []
    for number in range(WARM_UP + ROUNDS):
        begun = (time.perf_counter(), time.process_time())
        jax.block_until_ready(call(state, data, jax.random.key(number), rate))
        if number >= WARM_UP:
            wall.append(time.perf_counter() - begun[0])
            processor.append(time.process_time() - begun[1])
    return Timed(statistics.median(wall), statistics.median(processor), compilation)


def acting(preset: str, functions: Nets, control: ControlConfig = COMPACT) -> Timed:
    """One robot's chunk: images to joint targets."""
    rng, size = np.random.default_rng(0), StateLayout().size
    states = rng.normal(size=(64, size)).astype(np.float32)
    targets = rng.normal(size=(64, control.horizon, ACTION)).astype(np.float32)
    fitted = fit(preset, control, states, targets)
    params = jax.jit(functions.policy.init)(jax.random.key(0))
    packed = pack(params, fitted, preset=preset, control=control)
    del params
    policy = FlowPolicy(*packed, 1, control=control)
    side = input_format(preset, control).image
    images = {name: rng.integers(0, 256, (side, side, 3), np.uint8) for name in ROBOT_CAMERAS}
    seen = Observation(state=states[0], images=images)
    started = time.process_time()
    policy.chunk(seen, "put the red can on the shelf")
    compilation, wall, processor = time.process_time() - started, [], []
    for _ in range(CHUNKS):
        begun = (time.perf_counter(), time.process_time())
        policy.chunk(seen, "put the red can on the shelf")
        wall.append(time.perf_counter() - begun[0])
        processor.append(time.process_time() - begun[1])
    return Timed(statistics.median(wall), statistics.median(processor), compilation)


def main() -> None:
    """Measure every preset, and write the table after each measurement."""
    lines = [
        "| preset | what | batch | wall | processor | compilation, processor |",
        "|---|---|---|---|---|---|",
    ]
    sizes = []
    for preset in PRESETS:
        functions = nets(suited(recipe("lwd"), preset))
        counts = [
            sum(x.size for x in jax.tree.leaves(jax.eval_shape(make, jax.random.key(0)))) / 1e6
            for make in (
                functions.policy.init,
                functions.critic.init_q,
                functions.critic.init_value,
            )
        ]
        sizes.append("`{}`: policy {:.2f} M, critic {:.2f} M, V {:.2f} M".format(preset, *counts))
        for name, (step, stage) in updates(preset).items():
            timed = measured(step, stage, functions, preset)
            lines.append(row(preset, name, stage.batch, timed))
            write(lines, sizes)
        lines.append(row(preset, "a robot's chunk, 10 flow steps", 1, acting(preset, functions)))
        write(lines, sizes)


def row(preset: str, name: str, rows: int, timed: Timed) -> str:
    """One line of the table."""
    return (
        f"| {preset} | {name} | {rows} | {1e3 * timed.wall:.1f} ms | "
        f"{1e3 * timed.processor:.1f} ms | {timed.compilation:.1f} s |"
    )


def write(lines: list[str], sizes: list[str]) -> None:
    """What is known so far: a busy machine may take an hour for all of it."""
    print(lines[-1], flush=True)
    text = (
        f"# Time of the small VLAs on a CPU\n\n{header('python -m benchmarks.vla_speed')}\n"
        f"Three cameras of 64 px, chunks of {COMPACT.horizon} x {ACTION}, float32, T = 4 flow "
        f"steps of QAM; medians of {ROUNDS} updates or {CHUNKS} chunks. Processor time is that of "
        "all threads: where the load average is above the number of cores, wall time says more of "
        f"the machine than of the update. Parameters: {'; '.join(sizes)}.\n\n"
    )
    text += "\n".join(lines) + "\n"
    Path(__file__).with_name("results").joinpath("vla_speed.md").write_text(text)


if __name__ == "__main__":
    main()
