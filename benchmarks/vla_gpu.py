"""pi0.5 and its critic at full size on one GPU: what fits, how long it takes, what bfloat16 costs.

`python -m benchmarks.vla_gpu` writes benchmarks/results/vla_gpu.md after each measurement. With
`--preset tiny` or `small` the same runs on any machine and is printed only.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from benchmarks.record import header
from benchmarks.vla_speed import acting, batch, begin, qam_update
from lwd.algorithms.flow import euler_sample
from lwd.config import COMPACT, FULL, ControlConfig, StageConfig
from lwd.config.machine import Machine
from lwd.learner.plan import GIB, Stage, plan
from lwd.learner.recipes import nets, recipe, suited
from lwd.learner.state import Nets, optimisers, rates
from lwd.learner.update import critic_update, sft_update
from lwd.models import vla
from lwd.models.fns import Params
from lwd.models.presets import VLA

RESULT = Path(__file__).with_name("results") / "vla_gpu.md"
PEAK = 790e12
"""FLOP/s of dense bfloat16 matrix products that an H200 was seen to give."""
FLOORS = {"SFT": 1193, "DIVL": 229, "QAM": 683, "QAM, shared reference": 386}
"""TFLOP that an update of 64 samples of pi05 needs, worked out by hand: 3 x 256 + 200 tokens of the
prefix, H = 30, ten flow steps; forward, for each sample, 660 GFLOP of SigLIP, 3975 of the prefix,
23.3 of a flow step and 714 of the critic. A backward pass is two forward ones; SFT evaluates each
block again, DIVL is counted without that."""
SAMPLES = 64


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is measured."""

    preset: str
    control: ControlConfig
    functions: Nets
    rounds: int
    batch: int
    """0 looks for the largest that fits."""


class Measured(NamedTuple):
    """An update, or a part of one."""

    rows: int
    seconds: float
    """Median."""
    compilation: float
    """Seconds."""
    work: float
    """FLOP of matrix products."""


def flops(function: Callable[..., Any], *arguments: Any) -> float:
    """FLOP of all matrix products of `function` as it is traced, every turn of a loop counted."""
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(jaxpr: Jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, [_of(each) for each in _inside(equation.params)]
        if name == "dot_general":
            (summed, _), _ = equation.params["dimension_numbers"]
            left, out = (_shape(each) for each in (equation.invars[0], equation.outvars[0]))
            total += 2 * math.prod(out) * math.prod(left[axis] for axis in summed)
        elif name == "conv_general_dilated" or (name == "while" and sum(inner)):
            raise ValueError(f"{name} is not counted: write it as matrix products, or as a scan.")
        elif name == "cond":
            total += max(inner)
        else:
            total += equation.params.get("length", 1) * sum(inner)
    return total


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inside(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """Programs that an equation runs."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, Jaxpr | ClosedJaxpr):
                yield each.jaxpr if isinstance(each, ClosedJaxpr) else each


def median(call: Callable[[], Any], rounds: int) -> float:
    """Seconds, after one call that does not count."""
    seconds = []
    for _ in range(1 + rounds):
        began = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def stepped(run: Run, step: Any, stage: StageConfig, rows: int) -> Measured:
    """Updates of `rows` samples, each on the state that the last one left."""
    data, rate = batch(run.preset, rows, run.control), rates(stage)(0)
    apply = partial(step, nets=run.functions, optimisers=optimisers(stage.optimiser), stage=stage)
    state, key = begin(run.functions, stage)(jax.random.key(0)), jax.random.key(1)
    work, began = flops(apply, state, data, key, rate), time.perf_counter()
    call = jax.jit(apply, donate_argnums=0).lower(state, data, key, rate).compile()
    compilation = time.perf_counter() - began

    def update() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = call(state, data, key, rate)
        return metrics

    seconds = median(update, run.rounds)
    odd = [name for name, value in update().items() if not np.isfinite(value).all()]
    if odd:
        sys.exit(f"{', '.join(odd)} became NaN or infinite: what was timed is no update.")
    return Measured(rows, seconds, compilation, work)


def largest(run: Run, step: Any, stage: StageConfig, kind: Stage) -> Measured:
    """The same with as many samples as there is room for: the power of two at or above what `lwd
    plan` says, halved until it fits."""
    rows = run.batch or _planned(run, stage, kind)
    while True:
        try:
            return stepped(run, step, stage, rows)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or rows == 1:
                raise
            print(f"{rows} samples do not fit", flush=True)
        rows //= 2


def _planned(run: Run, stage: StageConfig, kind: Stage) -> int:
    room = memory("bytes_limit")
    if not room:
        return 8  # of a preset that fits everywhere
    machine = Machine(devices=1, memory_gib=room / GIB, headroom=0.0)
    reference, steps = stage.qam.reference, stage.qam
    found = plan(
        run.preset, run.control, machine, batch=1, stage=kind, reference=reference, qam_config=steps
    )
    return 2 ** math.ceil(math.log2(max(found.most, 1)))


def memory(name: str) -> int:
    """Bytes of the device by the name that XLA gives them; 0 where it counts none."""
    return (jax.devices()[0].memory_stats() or {}).get(name, 0)


def initialised(run: Run) -> Iterator[str]:
    """How long it takes to make everything that offline learning holds."""
    stage = suited(recipe("lwd", run.control), run.preset).stage("offline")
    began = time.perf_counter()
    call = begin(run.functions, stage).lower(jax.random.key(0)).compile()
    compilation = time.perf_counter() - began
    seconds = median(lambda: call(jax.random.key(0)), 1)
    yield row("initialisation: networks, targets, optimisers", Measured(0, seconds, compilation, 0))


def updated(run: Run) -> Iterator[str]:
    """SFT of the whole policy; DIVL; QAM of the expert, with ten flow steps."""
    stages = suited(recipe("lwd", run.control), run.preset).stages
    online = replace(stages["online"], qam=replace(stages["online"].qam, steps=10))
    sharing = replace(online, qam=replace(online.qam, reference="shared_vlm"))
    for name, step, stage in (
        ("SFT", sft_update, stages["sft"]),
        ("DIVL", critic_update, online),
        ("QAM", qam_update, online),
        ("QAM, shared reference", qam_update, sharing),
    ):
        found = largest(run, step, stage, "sft" if name == "SFT" else "online")
        yield row(name, found, FLOORS[name] if run.preset == "pi05" else 0)


def apart(run: Run) -> Iterator[str]:
    """The prefix and one flow step, of a batch and of one robot."""
    policy, params = run.functions.policy, jax.jit(run.functions.policy.init)(jax.random.key(0))
    for rows in (run.batch or SAMPLES, 1):
        data = batch(run.preset, rows, run.control)
        context = jax.jit(policy.encode)(params, data.inputs)
        for name, function, given in (
            ("prefix", policy.encode, (data.inputs,)),
            ("velocity", policy.velocity, (context, data.action, jnp.full(rows, 0.5))),
        ):
            began = time.perf_counter()
            call = jax.jit(function).lower(params, *given).compile()
            compilation = time.perf_counter() - began
            work = flops(function, params, *given)
            seconds = median(partial(call, params, *given), run.rounds)
            yield row(name, Measured(rows, seconds, compilation, work))


def compared(run: Run) -> Iterator[str]:
    """bfloat16 against float32 in full, the same parameters, random where fresh ones are zero."""
    sizes = VLA[run.preset](run.control.horizon, 2).policy
    data = batch(run.preset, 2, run.control)
    theirs = jax.jit(lambda key: awake(run.functions.policy.init(key)))(jax.random.key(0))

    def found(params: Params, bfloat16: bool) -> tuple[jax.Array, jax.Array]:
        policy = vla.policy(replace(sizes, bfloat16=bfloat16))
        context = policy.encode(params, data.inputs)
        middle = policy.velocity(params, context, data.action, jnp.full(2, 0.5))
        chunk = euler_sample(lambda a, w: policy.velocity(params, context, a, w), data.action, 10)
        return middle, chunk

    with jax.default_matmul_precision("highest"):
        exact = jax.jit(partial(found, bfloat16=False))(theirs)
    rough = jax.jit(partial(found, bfloat16=True))(theirs)
    for name, ours, wanted in zip(("velocity", "chunk after 10 steps"), rough, exact, strict=True):
        error = np.abs(np.asarray(ours) - np.asarray(wanted))
        yield (
            f"bfloat16 against float32, {name}: largest difference {error.max():.2g}, mean "
            f"{error.mean():.2g}; mean of float32 {np.abs(wanted).mean():.2g}"
        )


def awake(params: Params) -> Params:
    """The expert's gates, which start at zero, as random numbers: else it passes nothing on."""

    def drawn(path: Any, leaf: jax.Array) -> jax.Array:
        if "Dense_0" not in jax.tree_util.keystr(path) or leaf.ndim < 2:
            return leaf
        return (
            0.5 * jax.random.normal(jax.random.key(leaf.size), leaf.shape) / leaf.shape[-2] ** 0.5
        )

    return jax.tree_util.tree_map_with_path(drawn, params)


def acted(run: Run) -> Iterator[str]:
    """One robot, images to joint targets."""
    timed = acting(run.preset, run.functions, run.control)
    yield row("a robot's chunk, 10 flow steps", Measured(1, timed.wall, 0, 0))


PARTS = {
    "init": initialised, "updates": updated, "apart": apart, "precision": compared, "act": acted
}  # fmt: skip


def row(name: str, found: Measured, floor: float = 0) -> str:
    """One line of the table; `floor` in TFLOP for 64 samples."""
    least = floor * 1e12 / PEAK * found.rows / SAMPLES
    numbers = [
        f"{1e3 * found.seconds:.1f}",
        f"{found.work / 1e12:.4g}" if found.work else "",
        f"{found.work / found.seconds / 1e12:.3g}" if found.work else "",
        f"{1e3 * least:.0f}" if floor else "",
        f"{100 * least / found.seconds:.0f} %" if floor else "",
        f"{found.compilation:.0f}" if found.compilation else "",
        f"{memory('peak_bytes_in_use') / GIB:.1f}",
    ]
    return f"| {name} | {found.rows or ''} | {' | '.join(numbers)} |"


def report(run: Run, lines: Sequence[str], command: str) -> str:
    """The page."""
    device, room = jax.devices()[0], memory("bytes_limit") / GIB
    table = [line for line in lines if line.startswith("|")]
    notes = "\n".join(f"- {line}" for line in lines if not line.startswith("|"))
    return (
        f"# `{run.preset}` on {device.device_kind}\n\n{header(command)}"
        f"- device: {device.device_kind} ({device.platform}), {room:.1f} GiB for JAX\n\n"
        f"Medians of {run.rounds} on random data, chunks of {run.control.horizon}, three cameras. "
        f"FLOP are those of matrix products as traced, blocks that are evaluated again included. "
        f"The floor is what an update needs, worked out by hand for pi05, at "
        f"{PEAK / 1e12:.0f} TFLOP/s. Peak memory is that of the process so far.\n\n"
        "| what | batch | ms | TFLOP | TFLOP/s | floor, ms | share of the floor | compilation, s "
        "| peak memory, GiB |\n|---|---|---|---|---|---|---|---|---|\n"
        + "\n".join(table) + f"\n\n{notes}\n"
    )  # fmt: skip


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, and write the page after each line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=list(VLA), default="pi05")
    parser.add_argument("--batch", type=int, default=0, help="0: the largest that fits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args(arguments)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    device = jax.devices()[0]
    if options.preset == "pi05" and device.platform == "cpu":
        sys.exit(
            "pi05 has 3353 M parameters and was to be measured on a GPU, but JAX finds only "
            f"{device.device_kind}: install JAX for the GPU (pip install 'jax[cuda12]') on a "
            "machine that has one, or try the script with --preset tiny."
        )
    control = FULL if options.preset == "pi05" else COMPACT
    functions = nets(suited(recipe("lwd", control), options.preset))
    run = Run(
        preset=options.preset,
        control=control,
        functions=functions,
        rounds=options.rounds,
        batch=options.batch,
    )
    command, lines = " ".join(["python -m benchmarks.vla_gpu", *arguments]), []
    for name in options.only:
        for line in PARTS[name](run):
            print(line, flush=True)
            lines.append(line)
            if run.preset == "pi05":
                RESULT.write_text(report(run, lines, command))
    print(report(run, lines, command))


if __name__ == "__main__":
    main(sys.argv[1:])
