"""The presets that see, on this machine: time to compile, to learn from and to act; and memory, as
planned and as XLA says. `python -m benchmarks.vla_memory` writes benchmarks/results/vla_memory.md.

`pi05` is too large for a CPU; only its memory is planned here.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record import header
from lwd.actor.robot import Observation
from lwd.algorithms import flow
from lwd.config import COMPACT, FULL, StateLayout
from lwd.config.machine import Machine
from lwd.learner.plan import GIB, plan
from lwd.models.artifact import FlowPolicy, pack
from lwd.models.fns import Inputs
from lwd.models.presets import ROBOT_CAMERAS, VLA, build, fit

BATCH, ROUNDS, CAMERA = 64, 5, 96
"""Samples, repetitions, and side of a camera's image in px."""
INSTRUCTION = "put the red can on the shelf"


class Timed(NamedTuple):
    """Fastest of the repetitions, in ms."""

    wall: float
    processor: float


class Memory(NamedTuple):
    """MiB that XLA reserves besides arguments and results, and those that were planned."""

    taken: float
    planned: float


NOTHING = Memory(0, 0)


def windows(count: int, side: int) -> tuple[np.ndarray, np.ndarray, dict[str, list[np.ndarray]]]:
    """Random states, chunks and images; speed does not depend on the values."""
    random = np.random.default_rng(0)
    states = random.normal(size=(count, StateLayout().size)).astype(np.float32)
    actions = random.normal(size=(count, COMPACT.horizon, 16)).astype(np.float32)
    images = {
        name: [random.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]
        for name in ROBOT_CAMERAS
    }
    return states, actions, images


def fastest(call: Callable[[], Any]) -> Timed:
    """After one call that does not count."""
    jax.block_until_ready(call())
    times = []
    for _ in range(ROUNDS):
        wall, processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return Timed(*(1e3 * min(column) for column in zip(*times, strict=True)))


def measure(preset: str) -> list[str]:
    """Lines of the table for one preset."""
    policy, _ = build(preset, COMPACT)
    states, actions, images = windows(BATCH, CAMERA)
    made = fit(preset, COMPACT, states, actions)
    params = jax.jit(policy.init)(jax.random.key(0))
    prepared = made.observe(states, images, [INSTRUCTION] * BATCH)
    inputs = Inputs(*jax.tree.map(jnp.asarray, prepared))
    chunk, w = jnp.asarray(made.action(states, actions)), jnp.linspace(0, 1, BATCH)

    def loss(theta: Any) -> jax.Array:
        context = policy.encode(theta, inputs)
        mask = jnp.ones(chunk.shape[:2], bool)
        return flow.sft_loss(
            lambda a, w: policy.velocity(theta, context, a, w), chunk, chunk, w, mask
        )[0]

    lines = []
    for what, function in (("forward", loss), ("forward and backward", jax.grad(loss))):
        start = time.process_time()
        compiled = jax.jit(function).lower(params).compile()
        seconds = time.process_time() - start
        timed = fastest(lambda compiled=compiled: compiled(params))
        analysis = compiled.memory_analysis()
        assert analysis is not None, "XLA has no analysis of memory for this device"
        taken = analysis.temp_size_in_bytes / 2**20
        memory = Memory(taken, 0.0 if function is loss else activations(preset))
        lines.append(row(preset, f"SFT loss, {what}, batch {BATCH}", timed, seconds, memory))
    lines.append(
        row(
            preset,
            f"inputs of a batch of {BATCH}, cameras {CAMERA} px",
            fastest(lambda: made.observe(states, images, [INSTRUCTION] * BATCH).tokens),
        )
    )
    artifact = pack(params, made, preset=preset, control=COMPACT)
    robot = FlowPolicy(*artifact, 1, control=COMPACT)
    seen = Observation(state=states[0], images={name: images[name][0] for name in images})
    start = time.process_time()
    robot.chunk(seen, INSTRUCTION)
    seconds = time.process_time() - start
    timed = fastest(lambda: robot.chunk(seen, INSTRUCTION))
    return [*lines, row(preset, "a robot's chunk: inputs, prefix, 10 steps", timed, seconds)]


def activations(preset: str) -> float:
    """MiB that `lwd plan` says the supervised loss keeps."""
    found = plan(preset, COMPACT, Machine(), batch=BATCH, stage="sft")
    return sum(row.each for row in found.rows) * found.samples / 2**20


def row(
    preset: str, what: str, timed: Timed, compilation: float = 0, memory: Memory = NOTHING
) -> str:
    """One line of the table."""
    cells = (timed.wall, timed.processor, compilation, *memory)
    return f"| {preset} | {what} | {' | '.join(f'{x:.1f}' if x else '' for x in cells)} |"


def planned() -> str:
    """What `lwd plan` says."""
    lines = ["| preset | stage | batch | devices | GiB on each | samples that fit in 80 GiB |"]
    lines.append("|---" * 6 + "|")
    for preset, control in (("tiny", COMPACT), ("small", COMPACT), ("pi05", FULL)):
        for stage in ("sft", "offline", "online"):
            for devices in (1, 8) if preset == "pi05" else (1,):
                found = plan(preset, control, Machine(devices=devices), batch=BATCH, stage=stage)
                size = f"{found.total / GIB:.3g} | {found.most}"
                lines.append(f"| {preset} | {stage} | {BATCH} | {devices} | {size} |")
    return "\n".join(lines)


def main() -> None:
    lines = [line for preset in ("tiny", "small") for line in measure(preset)]
    sizes = ", ".join(
        f"{name} {sum(x.size for x in jax.tree.leaves(shapes)) / 1e6:.2f} M"
        for name in VLA
        for shapes in [jax.eval_shape(build(name, COMPACT)[0].init, jax.random.key(0))]
    )
    text = (
        f"# Presets that see\n\n{header('python -m benchmarks.vla_memory')}\n"
        f"Parameters of the policy: {sizes}. Float32 on the CPU, chunks of {COMPACT.horizon}. The "
        f"fastest of {ROUNDS} repetitions; where other processes share the machine, wall times say "
        "more about them, and processor time, summed over threads, is what to compare. `pi05` at "
        "full size on a GPU: not measured.\n\n"
        "| preset | what | ms | ms of processor time | compilation, s of processor time | "
        "temporary memory, MiB | planned, MiB |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n\n"
        f"## Memory as `lwd plan` says it\n\n{planned()}\n"
    )
    path = Path(__file__).parent / "results" / "vla_memory.md"
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
