"""Does the trust gate help? One critic, policies extracted from it with and without the gate.

`python -m benchmarks.trust_gate RUN [--gates off 0 2] [--updates 1000] [--episodes 40]` starts from
the supervised policy of a finished run and learns its offline stage again. V and Q do not depend on
the policy, so all variants follow the same critic, update by update, on the same batches with the
same noise; only the gate differs. All policies are evaluated on the same held-out starts. Writes
benchmarks/results/trust_gate.md. RUN's catalog and checkpoints are only read.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.finished import replay
from benchmarks.record import REPOSITORY, header
from lwd.config import LearnerConfig, StageConfig
from lwd.eval.evaluate import Starts, evaluate
from lwd.eval.results import Evaluation
from lwd.learner import feed
from lwd.learner.diagnose.trained import load
from lwd.learner.recipes import fresh, nets, recipe
from lwd.learner.state import TrainState, optimisers, rates, start_stage
from lwd.learner.update import critic_update, extract_policy
from lwd.models.artifact import pack
from lwd.models.inputs.preparation import Preparation
from lwd.models.sharding import mesh
from lwd.replay.reader import Reader

OFF = "off"
FOLLOWED = ("policy/gate_open", "policy/gain", "policy/shift", "policy/adjoint")


def main(arguments: Sequence[str] = ()) -> None:
    """Train, evaluate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--gates", nargs="+", default=[OFF, "0", "2"])
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=40, help="held-out starts per task")
    parser.add_argument("--seed", type=int, default=1, help="of the starts")
    options = parser.parse_args(arguments)
    config = recipe("lwd")
    config = config.with_stage("offline", updates=options.updates)
    policies, metrics = extracted(options.run, config, options.gates)
    starts = Starts(tasks=("restocking", "freezer"), episodes=options.episodes, seed=options.seed)
    print("trained; evaluating", flush=True)
    evaluation = evaluate(policies, starts)
    command = f"python -m benchmarks.trust_gate {' '.join(arguments)}"
    text = header(command) + "\n" + report(evaluation, metrics, options.updates)
    (REPOSITORY / "benchmarks" / "results" / "trust_gate.md").write_text(text)
    print(text)


def extracted(root: Path, config: LearnerConfig, gates: Sequence[str]) -> tuple[dict, dict]:
    """Policies by name (`sft`, then one for each gate), and the mean of their metrics."""
    trained = load(root / "checkpoints", otherwise=config)
    stage = config.stage("offline")
    state = fresh(config, jax.random.key(config.seed))
    sft = trained.networks.reference
    state = start_stage(state._replace(policy=sft, reference=sft), optimisers(stage.optimiser))
    with replay(root, config) as reader:
        states, metrics = _learn(config, stage, state, trained.normaliser, reader, gates)
    artifact = partial(pack, preset=config.preset, control=config.control)
    found = {"sft": artifact(sft, trained.normaliser)}
    for gate, learnt in states.items():
        found[_name(gate)] = artifact(learnt.policy, trained.normaliser)
    return found, metrics


def _learn(
    config: LearnerConfig,
    stage: StageConfig,
    critic: TrainState,
    normaliser: Preparation,
    reader: Reader,
    gates: Sequence[str],
) -> tuple[dict[str, TrainState], dict[str, dict[str, float]]]:
    """The offline stage with one critic and a policy for each gate."""
    functions, chain, over = nets(config), optimisers(stage.optimiser), mesh()
    values = jax.jit(partial(critic_update, nets=functions, optimisers=chain, stage=stage))
    steps = {gate: _policy_step(config, stage, gate) for gate in gates}
    states, seen = dict.fromkeys(gates, critic), {gate: [] for gate in gates}
    rate, seed = rates(stage), jax.random.fold_in(jax.random.key(config.seed), 2)
    for number in range(stage.updates):
        rows = reader.sample(number, stage.mixture, stage.batch, n_step=stage.divl.n_step)
        batch = feed.transitions(rows, normaliser, over)
        key = jax.random.fold_in(seed, number)
        critic, _ = values(critic, batch, key, rate(number))
        if (number + 1) % stage.policy_every:
            continue
        for gate, step in steps.items():
            mine = states[gate]
            follows = critic._replace(policy=mine.policy, optimiser=mine.optimiser)
            states[gate], metrics = step(follows, batch, key, rate(number))
            seen[gate].append({name: float(metrics[name]) for name in FOLLOWED if name in metrics})
        if (number + 1) % 100 == 0:
            print(number + 1, {gate: seen[gate][-1] for gate in gates}, flush=True)
    return states, {gate: _means(reports) for gate, reports in seen.items()}


def _policy_step(config: LearnerConfig, stage: StageConfig, gate: str):
    """Jitted policy half of Algorithm 2 with a gate."""
    threshold = None if gate == OFF else float(gate)
    gated = replace(stage, qam=replace(stage.qam, gate=threshold))
    functions, chain = nets(config), optimisers(stage.optimiser)

    def step(state, batch, key, at):
        new, metrics = extract_policy(state, batch, key, at, functions, chain, gated)
        finite = jnp.stack([jnp.isfinite(metric) for metric in metrics.values()]).all()
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state), metrics

    return jax.jit(step)


def report(evaluation: Evaluation, metrics: dict[str, dict[str, float]], updates: int) -> str:
    """Success, paired differences to the policy without a gate, and what the gates did."""
    lines = [
        "# The trust gate: the same critic, followed everywhere or only where it is credible\n",
        f"Offline stage of {updates} updates (a policy step in every fourth) from the supervised "
        "policy; held-out starts without an operator, the same for all. `gate t`: the adjoint is "
        "kept only in states where the head that gains least gains more than t standard "
        "deviations between the heads.\n",
        "| policy | " + " | ".join([*evaluation.tasks, "all"]) + " |",
        "|---|" + "---|" * (len(evaluation.tasks) + 1),
    ]
    for policy in evaluation.policies:
        scores = [evaluation.score(policy, task) for task in [*evaluation.tasks, "all"]]
        cells = [f"{s.rate:.1%} [{s.low:.0%}, {s.high:.0%}] of {s.episodes}" for s in scores]
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    lines.append("\nPaired differences (bootstrap 95 % interval over starts, exact McNemar):\n")
    lines.append("| comparison | task | difference | interval | p |\n|---|---|---|---|---|")
    for first, second in _pairs(evaluation.policies):
        for task in [*evaluation.tasks, "all"]:
            c = evaluation.compare(first, second, task)
            lines.append(
                f"| {first} - {second} | {task} | {c.difference:+.1%} | "
                f"[{c.low:+.1%}, {c.high:+.1%}] | {c.p_value:.3g} |"
            )
    lines.append("\nMeans over the stage's policy steps:\n")
    lines.append("| gate | states open | least gain of a step along dQ/da | RMS shift | adjoint |")
    lines.append("|---|---|---|---|---|")
    for gate, means in metrics.items():
        cells = [f"{means[name]:.3f}" if name in means else "-" for name in FOLLOWED]
        lines.append(f"| {gate} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _pairs(policies: Sequence[str]) -> list[tuple[str, str]]:
    rest = [policy for policy in policies if policy != "sft"]
    ungated = [policy for policy in rest if policy == _name(OFF)]
    return [(policy, "sft") for policy in rest] + [
        (policy, ungated[0]) for policy in rest if ungated and policy != ungated[0]
    ]


def _name(gate: str) -> str:
    return "no gate" if gate == OFF else f"gate {gate}"


def _means(reports: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([r[name] for r in reports])) for name in reports[0]}


if __name__ == "__main__":
    main(sys.argv[1:])
