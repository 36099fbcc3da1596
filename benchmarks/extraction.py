"""What settings of QAM make of one critic: temperatures, gates, samplers beside each other.

`python -m benchmarks.extraction RUN [--settings inv_temp=60 inv_temp=240,gate=2] [--updates 1000]
[--episodes 50]` starts from the supervised policy of a finished run and learns its offline stage
again. V and Q do not depend on the policy, so all variants follow the same critic, update by
update, on the same batches with the same noise; only the settings differ. All policies are
evaluated on the same held-out starts. Writes benchmarks/results/extraction.md. RUN's catalog and
checkpoints are only read.
"""

import argparse
import ast
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmarks.cells import difference, success
from benchmarks.finished import batches, replay
from benchmarks.record import REPOSITORY, header
from lwd.config import LearnerConfig, QamConfig, StageConfig
from lwd.eval.evaluate import Starts, evaluate
from lwd.eval.results import Evaluation
from lwd.learner.diagnose.trained import load
from lwd.learner.recipes import fresh, nets, recipe
from lwd.learner.state import TrainState, optimisers, rates, start_stage
from lwd.learner.update import commit, critic_update, extract_policy
from lwd.models.artifact import pack
from lwd.models.inputs.preparation import Preparation
from lwd.replay.reader import Reader

SETTINGS = ("inv_temp=60", "inv_temp=60,gate=2", "inv_temp=240", "inv_temp=1000", "inv_temp=4000",
            "inv_temp=4000,gate=2")  # fmt: skip
TITLE = "# One critic, followed with different settings\n\n"
FOLLOWED = ("policy/shift", "policy/adjoint", "policy/gate_open")
Variants = Mapping[str, QamConfig]


def main(arguments: Sequence[str] = ()) -> None:
    """Train, evaluate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, help="NAME=VALUE[,NAME=VALUE]")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=50, help="held-out starts per task")
    parser.add_argument("--seed", type=int, default=1, help="of the starts")
    options = parser.parse_args(arguments)
    config = recipe("lwd").with_stage("offline", updates=options.updates)
    variants = {name: _changed(config.stage("offline").qam, name) for name in options.settings}
    policies, metrics = extracted(options.run, config, variants)
    starts = Starts(tasks=("restocking", "freezer"), episodes=options.episodes, seed=options.seed)
    print("trained; evaluating", flush=True)
    evaluation = evaluate(policies, starts, workers=2)
    command = f"python -m benchmarks.extraction {' '.join(arguments)}"
    text = TITLE + header(command) + "\n" + report(evaluation, metrics, options.updates)
    (REPOSITORY / "benchmarks" / "results" / "extraction.md").write_text(text)
    print(text)


def extracted(root: Path, config: LearnerConfig, variants: Variants) -> tuple[dict, dict]:
    """Policies by name (`sft`, then one for each variant), and the mean of their metrics."""
    trained = load(root / "checkpoints", otherwise=config)
    stage = config.stage("offline")
    state = fresh(config, jax.random.key(config.seed))
    sft = trained.networks.reference
    state = start_stage(state._replace(policy=sft, reference=sft), optimisers(stage.optimiser))
    with replay(root, config) as reader:
        states, metrics = _learn(config, stage, state, trained.normaliser, reader, variants)
    artifact = partial(pack, preset=config.preset, control=config.control)
    found = {"sft": artifact(sft, trained.normaliser)}
    for name, learnt in states.items():
        found[name] = artifact(learnt.policy, trained.normaliser)
    return found, metrics


def _learn(
    config: LearnerConfig,
    stage: StageConfig,
    critic: TrainState,
    normaliser: Preparation,
    reader: Reader,
    variants: Variants,
) -> tuple[dict[str, TrainState], dict[str, dict[str, float]]]:
    """The offline stage with one critic and a policy for each variant."""
    functions, chain = nets(config), optimisers(stage.optimiser)
    values = jax.jit(partial(critic_update, nets=functions, optimisers=chain, stage=stage))

    def policy_step(qam: QamConfig):
        """Jitted policy half of Algorithm 2 with other settings."""
        changed = replace(stage, qam=qam)
        return jax.jit(
            lambda state, batch, key, at: commit(
                state, *extract_policy(state, batch, key, at, functions, chain, changed)
            )
        )

    steps = {name: policy_step(qam) for name, qam in variants.items()}
    states, seen = dict.fromkeys(variants, critic), {name: [] for name in variants}
    rate, seed = rates(stage), jax.random.fold_in(jax.random.key(config.seed), 2)
    for number, batch in enumerate(batches(reader, stage, normaliser)):
        key = jax.random.fold_in(seed, number)
        critic, _ = values(critic, batch, key, rate(number))
        if (number + 1) % stage.policy_every:
            continue
        for name, step in steps.items():
            mine = states[name]
            follows = critic._replace(policy=mine.policy, optimiser=mine.optimiser)
            states[name], metrics = step(follows, batch, key, rate(number))
            seen[name].append({each: float(metrics[each]) for each in FOLLOWED if each in metrics})
        if (number + 1) % 100 == 0:
            print(number + 1, {name: seen[name][-1] for name in variants}, flush=True)
    return states, {name: _means(reports) for name, reports in seen.items()}


def report(evaluation: Evaluation, metrics: dict[str, dict[str, float]], updates: int) -> str:
    """Success, paired differences to the supervised policy, and how far each policy went."""
    lines = [
        f"Offline stage of {updates} updates (a policy step in every fourth) from the supervised "
        "policy; held-out starts without an operator, the same for all. Differences to the "
        "supervised policy are paired (bootstrap 95 % interval, exact McNemar). Shift, adjoint "
        "(both RMS) and the share of states in which the gate is open are means over the policy "
        "steps.\n",
        "| policy | "
        + " | ".join([*evaluation.tasks, "all"])
        + " | all - sft | interval | p | shift | adjoint | gate open |",
        "|---|" + "---|" * (len(evaluation.tasks) + 7),
    ]
    for policy in evaluation.policies:
        cells = [success(evaluation.score(policy, task)) for task in [*evaluation.tasks, "all"]]
        if policy != "sft":
            means = metrics[policy]
            cells.append(difference(evaluation.compare(policy, "sft")))
            cells += [f"{means[name]:.3f}" if name in means else "-" for name in FOLLOWED]
        else:
            cells += ["-"] * 6
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _changed(qam: QamConfig, said: str) -> QamConfig:
    """Settings as NAME=VALUE[,NAME=VALUE] changes them."""
    pairs = [pair.partition("=") for pair in said.split(",")]
    return replace(qam, **{name: ast.literal_eval(value) for name, _, value in pairs})


def _means(reports: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([r[name] for r in reports])) for name in reports[0]}


if __name__ == "__main__":
    main(sys.argv[1:])
