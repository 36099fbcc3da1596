"""What shall the network of the `state` policy predict: the flow's velocity, or the action?

`python -m benchmarks.prediction RUN [--seeds 0 1] [--updates 5000] [--episodes 50]` takes the
demonstrations of a finished run and learns from them by flow matching in three ways: the same
network, batches, noise and rates; only what its output means differs, and the loss. All policies
act at the same held-out starts. Writes benchmarks/results/prediction.md. RUN is only read.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cells import difference, success
from benchmarks.finished import batches, replay
from benchmarks.record import REPOSITORY, header
from lwd.algorithms import flow
from lwd.config import COMPACT, ControlConfig, OptimiserConfig
from lwd.eval.evaluate import Bench, Starts, evaluate
from lwd.eval.results import Evaluation
from lwd.learner.recipes import fresh, nets, recipe
from lwd.learner.state import TrainState, optimisers, rates, start_stage
from lwd.learner.train import fit_normaliser
from lwd.learner.update import sft_update
from lwd.models.acts import velocity
from lwd.models.artifact import FlowPolicy, pack
from lwd.models.fns import PolicyFns
from lwd.models.inputs.preparation import Preparation
from lwd.models.presets import build
from lwd.store import weights


@dataclass(frozen=True)
class Way:
    """What the output is, and what the loss measures."""

    output: str
    loss: str


WAYS = {
    "velocity": Way("velocity", "velocity"),
    "action, loss of the velocity": Way("action", "velocity"),
    "action": Way("action", "action"),
}


def main(arguments: Sequence[str] = ()) -> None:
    """Train, evaluate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--updates", type=int, default=5000)
    parser.add_argument("--episodes", type=int, default=50, help="held-out starts per task")
    options = parser.parse_args(arguments)
    found = {seed: compared(options, seed) for seed in options.seeds}
    command = f"python -m benchmarks.prediction {' '.join(arguments)}"
    text = header(command) + "\n" + report(found, options.updates)
    (REPOSITORY / "benchmarks" / "results" / "prediction.md").write_text(
        "# What the network of a flow predicts\n\n" + text
    )
    print(text)


def compared(options: argparse.Namespace, seed: int) -> Evaluation:
    """One policy of each way, at the starts of a seed."""
    policies = learnt(options.run, options.updates, seed)
    print(f"trained seed {seed}; evaluating", flush=True)
    starts = Starts(tasks=("restocking", "freezer"), episodes=options.episodes, seed=seed)
    return evaluate(policies, starts, bench=Bench(build=acting), workers=2)


def functions(way: str) -> PolicyFns:
    """The policy of the preset, whose network predicts the action, with another meaning."""
    policy, _ = build("state", COMPACT)
    policy = replace(policy, predicts=WAYS[way].loss)
    if WAYS[way].output == "action":
        return policy

    def output(params, context, a, w):
        towards = policy.velocity(params, context, a, w)  # (output - a) / (1 - w)
        return towards * jnp.maximum(1.0 - w, flow.END)[:, None, None] + a

    return replace(policy, velocity=output)


def learnt(root: Path, updates: int, seed: int) -> dict[str, tuple]:
    """Published policies by way."""
    adamw = OptimiserConfig(policy_lr=2e-3)
    config = recipe("lwd", seed=seed).with_stage("sft", updates=updates, optimiser=adamw)
    stage, known, start = config.stage("sft"), nets(config), fresh(config, jax.random.key(seed))
    chain, rate = optimisers(stage.optimiser), rates(stage)
    states = dict.fromkeys(WAYS, start_stage(start, chain))
    steps = {
        way: jax.jit(
            partial(
                sft_update,
                nets=known._replace(policy=functions(way)),
                optimisers=chain,
                stage=stage,
            )
        )
        for way in WAYS
    }
    with replay(root, config) as reader:
        normaliser = fit_normaliser(config, reader)
        for number, batch in enumerate(batches(reader, stage, normaliser)):
            key, losses = jax.random.fold_in(jax.random.key(seed), number), {}
            for way, step in steps.items():
                states[way], metrics = step(states[way], batch, key, rate(number))
                losses[way] = metrics["policy/sft_loss"]
            if (number + 1) % 500 == 0:
                print(number + 1, {way: f"{float(x):.4f}" for way, x in losses.items()}, flush=True)
    return {way: _published(state, normaliser, way) for way, state in states.items()}


def _published(state: TrainState, normaliser: Preparation, way: str) -> tuple:
    tensors, metadata = pack(state.policy, normaliser, preset="state", control=COMPACT)
    return tensors, metadata | {"way": way}


class Acting(FlowPolicy):
    """A policy that knows what its network's output means."""

    def __init__(self, tensors: weights.Tensors, metadata: weights.Metadata, version: int) -> None:
        super().__init__(tensors, metadata, version, control=COMPACT)
        policy, steps = functions(metadata["way"]), int(metadata["flow_steps"])

        @jax.jit
        def sample(params, extra, inputs, noise):
            return flow.euler_sample(velocity(policy, params, inputs), noise[0], steps)

        self._sample = sample


def acting(control: ControlConfig) -> Callable[..., Acting]:
    """Builder of the policies."""
    assert control == COMPACT
    return Acting


def report(found: dict[int, Evaluation], updates: int) -> str:
    """Success of each way and seed, and paired differences over all."""
    lines = [
        f"Flow matching of {updates} updates by AdamW on a run's demonstrations of two tasks, "
        "batch 256. `velocity`: the network puts out $a^1 - a^0$ and is trained on it (Eq. 34). "
        "`action`: it puts out $a^1$, the velocity is $(a^1 - a^w) / (1 - w)$, and the loss is the "
        "error of the action; between the two, the same network with the loss of Eq. 34. Held-out "
        "starts without an operator, the same for all policies of a seed.\n",
        "| seed | predicts | restocking | freezer | all |",
        "|---|---|---|---|---|",
    ]
    for seed, evaluation in found.items():
        for way in WAYS:
            tasks = ("restocking", "freezer", "all")
            cells = [success(evaluation.score(way, task)) for task in tasks]
            lines.append(f"| {seed} | {way} | " + " | ".join(cells) + " |")
    lines.append("\nPaired differences (bootstrap 95 % interval over starts, exact McNemar):\n")
    lines.append("| seed | comparison | difference | interval | p |\n|---|---|---|---|---|")
    for seed, evaluation in found.items():
        for other in ("velocity", "action, loss of the velocity"):
            cells = difference(evaluation.compare("action", other))
            lines.append(f"| {seed} | action - ({other}) | {cells} |")
    rates_of = {way: np.mean([e.score(way).rate for e in found.values()]) for way in WAYS}
    means = ", ".join(f"{way}: {rate:.0%}" for way, rate in rates_of.items())
    return "\n".join([*lines, f"\nMean over the seeds: {means}."]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
