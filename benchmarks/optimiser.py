"""AdamW or Muon: what is a supervised policy worth after how many updates, and what do they cost?

`python -m benchmarks.optimiser RUN [--seeds 0 1] [--episodes 50]` takes the demonstrations of a
finished run of two tasks and learns from them with the settings of `PLANS`, all else alike. All
policies act at the same held-out starts. Writes benchmarks/results/optimiser.md. RUN is only read.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax

from benchmarks.cells import difference, success
from benchmarks.finished import batches, replay
from benchmarks.record import REPOSITORY, header
from lwd.config import COMPACT, OptimiserConfig
from lwd.eval.evaluate import Starts, evaluate
from lwd.eval.results import Evaluation
from lwd.learner.recipes import fresh, nets, recipe
from lwd.learner.state import optimisers, rates, start_stage
from lwd.learner.train import fit_normaliser
from lwd.learner.update import sft_update
from lwd.models.artifact import pack

TASKS = ("restocking", "freezer")
ADAMW = OptimiserConfig(policy_lr=2e-3)
MUON = OptimiserConfig(policy="muon", policy_lr=3e-3)
PLANS = {
    "AdamW, 2,000 updates": (ADAMW, 2000),
    "AdamW, 5,000 updates": (ADAMW, 5000),
    "Muon, 2,000 updates": (MUON, 2000),
}
BASE = "AdamW, 5,000 updates"


def main(arguments: Sequence[str] = ()) -> None:
    """Train, evaluate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--episodes", type=int, default=50, help="held-out starts per task")
    options = parser.parse_args(arguments)
    found, costs = {}, {}
    for seed in options.seeds:
        policies = {}
        for plan in PLANS:
            policies[plan], costs[seed, plan] = learnt(options.run, plan, seed)
            print(seed, plan, costs[seed, plan], flush=True)
        starts = Starts(tasks=TASKS, episodes=options.episodes, seed=seed)
        found[seed] = evaluate(policies, starts, workers=2)
    command = f"python -m benchmarks.optimiser {' '.join(arguments)}"
    text = f"# What the supervised policy learns by\n\n{header(command)}\n{report(found, costs)}"
    (REPOSITORY / "benchmarks" / "results" / "optimiser.md").write_text(text)
    print(text)


def learnt(root: Path, plan: str, seed: int) -> tuple[tuple, tuple[float, float]]:
    """Published policy; its last loss and the processor time of an update, ms."""
    optimiser, updates = PLANS[plan]
    config = recipe("lwd", seed=seed).with_stage("sft", updates=updates, optimiser=optimiser)
    stage, chain = config.stage("sft"), optimisers(optimiser)
    state, rate = start_stage(fresh(config, jax.random.key(seed)), chain), rates(stage)
    step = jax.jit(partial(sft_update, nets=nets(config), optimisers=chain, stage=stage))
    spent, metrics = 0.0, {}
    with replay(root, config) as reader:
        normaliser = fit_normaliser(config, reader)
        for number, batch in enumerate(batches(reader, stage, normaliser)):
            key, began = jax.random.fold_in(jax.random.key(seed), number), time.process_time()
            state, metrics = jax.block_until_ready(step(state, batch, key, rate(number)))
            spent += (time.process_time() - began) * (number > 0)  # the first one compiles
    published = pack(state.policy, normaliser, preset="state", control=COMPACT)
    return published, (float(metrics["policy/sft_loss"]), 1e3 * spent / (updates - 1))


def report(found: dict[int, Evaluation], costs: dict[tuple[int, str], tuple[float, float]]) -> str:
    """Success by seed and plan, and paired differences to `BASE`."""
    lines = [
        "Flow matching on a run's demonstrations of two tasks, batch 256, warm-up and cosine over "
        "the updates; loss: of the last batch; processor time of an update, all threads, with "
        "whatever else the machine did. Held-out starts without an operator, the same for all "
        "policies of a seed; differences are paired (bootstrap 95 % interval, exact McNemar).\n",
        f"| seed | learns by | {' | '.join(TASKS)} | all | loss | ms "
        f"| all - ({BASE}) | interval | p |",
        "|---" * (len(TASKS) + 8) + "|",
    ]
    for seed, evaluation in found.items():
        for plan in PLANS:
            cells = [success(evaluation.score(plan, task)) for task in (*TASKS, "all")]
            loss, cost = costs[seed, plan]
            other = "- | - | -" if plan == BASE else difference(evaluation.compare(plan, BASE))
            row = " | ".join([*cells, f"{loss:.4f}", f"{cost:.0f}", other])
            lines.append(f"| {seed} | {plan} | {row} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
