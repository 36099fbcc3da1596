"""Does deployment improve the policy? The demo's whole ring over several seeds, paired by start.

`python -m benchmarks.improvement [--seeds 0 1 2] [--episodes 100]` runs `lwd demo` once for each
seed (data, initial parameters and held-out starts all change with it), with more data and updates
than the demo's default, and writes benchmarks/results/improvement.md. A seed that has finished is
not run again: an interrupted benchmark goes on.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.cells import difference, success
from benchmarks.record import REPOSITORY, header
from lwd.config import STAGES
from lwd.eval.results import Attempt, Evaluation, load

BUDGET = {
    "demos": 300,
    "rollouts": 250,
    "offline-updates": 1600,
    "online-updates": 1600,
}
"""What differs from the demo's default."""
PAIRS = (("offline", "sft"), ("online", "offline"), ("online", "sft"))


def main(arguments: Sequence[str] = ()) -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=100, help="held-out starts per task")
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "improvement")
    options = parser.parse_args(arguments)
    command = f"python -m benchmarks.improvement {' '.join(arguments)}".strip()
    for seed in options.seeds:
        _run(options.runs / f"seed-{seed}", seed, options.episodes, command)
    text = report(options.runs, options.seeds)
    (REPOSITORY / "benchmarks" / "results" / "improvement.md").write_text(text)
    print(text)


def report(runs: Path, seeds: Sequence[int]) -> str:
    """Success of each stage, and paired differences on the same starts over all seeds."""
    found = {seed: load(runs / f"seed-{seed}" / "evaluation.json") for seed in seeds}
    pooled = Evaluation(attempts=tuple(a for seed in seeds for a in _marked(found[seed], seed)))
    summaries = [json.loads((runs / f"seed-{s}" / "summary.json").read_text()) for s in seeds]
    records = [(runs / f"seed-{seed}" / "record.md").read_text() for seed in seeds]
    lines = ["# Success after SFT, offline RL and online RL\n", *records]
    budget = ", ".join(f"{value} {name}" for name, value in BUDGET.items())
    lines.append(f"Seeds {', '.join(map(str, seeds))}; {budget}; demos and rollouts per task.")
    lines.append("Held-out starts without an operator, the same for all policies of a seed.\n")
    lines.append("| seed | task | " + " | ".join(STAGES) + " |\n|---|---|---|---|---|")
    for seed, evaluation in [*found.items(), ("all", pooled)]:
        for task in [*evaluation.tasks, "all"]:
            cells = [success(evaluation.score(stage, task)) for stage in STAGES]
            lines.append(f"| {seed} | {task} | " + " | ".join(cells) + " |")
    lines.append("\nPaired differences over all seeds (bootstrap 95 % interval, exact McNemar):\n")
    lines.append("| comparison | task | difference | interval | p |\n|---|---|---|---|---|")
    for first, second in PAIRS:
        for task in [*pooled.tasks, "all"]:
            cells = difference(pooled.compare(first, second, task))
            lines.append(f"| {first} - {second} | {task} | {cells} |")
    lines.append("\nThe runs: " + "; ".join(_account(s) for s in summaries) + ".\n")
    return "\n".join(lines)


def _run(out: Path, seed: int, episodes: int, command: str) -> None:
    if (out / "summary.json").exists():
        return
    budget = [word for name, value in BUDGET.items() for word in (f"--{name}", value)]
    demo = ["demo", "--out", out, "--seed", seed, "--plain", *budget]
    demo += ["--evaluation-episodes", episodes]
    subprocess.run([sys.executable, "-m", "lwd", *map(str, demo)], check=True)
    (out / "record.md").write_text(header(command))


def _marked(evaluation: Evaluation, seed: int) -> list[Attempt]:
    """Attempts whose start cannot be mistaken for one of another seed's run."""
    return [replace(a, seed=(seed << 53) + a.seed) for a in evaluation.attempts]


def _account(summary: dict) -> str:
    counts = summary["episodes"]
    return (
        f"{counts['produced']} episodes, {counts['lost']} lost, {counts['doubled']} doubled, "
        f"{summary['weights']['published']} weights, {summary['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
