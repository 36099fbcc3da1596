"""The page: scores, successes and cycle times of every stage, paired differences, sub-steps."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.pilot.starts import Start, read
from benchmarks.pilot.study import PLAN
from benchmarks.record import header
from lwd.config import STAGES
from lwd.episode.types import Outcome
from lwd.eval.intervals import wilson
from lwd.sim.tasks import TASKS

PAIRS = (("offline", "sft"), ("online", "offline"), ("online", "sft"))
DRAWS = 10_000
"""Of the bootstrap."""
Kept = dict[tuple[int, str, int, str], Start]
"""Attempts by seed of the study, task, start and stage."""


def page(runs: Path, seeds: Sequence[int]) -> str:
    """The results of all seeds that have any."""
    found = {seed: read(runs / f"seed-{seed}") for seed in seeds}
    kept = {(seed, a.task, a.seed, a.policy): a for seed in seeds for a in found[seed][0]}
    others = {seed: number for seed, (_, number) in found.items() if number}
    tasks = [task for task in TASKS if any(key[1] == task for key in kept)]
    groups = [(task, [task]) for task in tasks]
    groups += [(f"all {len(tasks)}", tasks)] if len(tasks) > 1 else []
    return "\n".join(
        [
            "# The pilot study: one policy, all tasks\n",
            *_made(runs, seeds),
            *_stages(kept, groups),
            *_differences(kept, groups),
            *_substeps(kept, tasks),
            *_seeds(kept, seeds),
            *_policies(kept, seeds, others),
        ]
    )


def _made(runs: Path, seeds: Sequence[int]) -> list[str]:
    """What the seeds were made with, as they say it themselves."""
    files = {seed: runs / f"seed-{seed}" / PLAN for seed in seeds}
    made = {seed: json.loads(f.read_bytes()) for seed, f in files.items() if f.exists()}
    commands = dict.fromkeys(plan["command"] for plan in made.values())
    rows = [
        f"| {seed} | {plan['scale']:g} | "
        + " | ".join(str(plan["updates"].get(stage, "-")) for stage in STAGES)
        for seed, plan in made.items()
    ]
    return [
        header("`, `".join(commands) or "not recorded"),
        "The command is the one that the seeds were begun with; date, commit and machine are those",
        "of this page. Offline buffer: Table IV at a scale, its demonstrations and play shared by",
        "all seeds. Online: the paper's fleet. What each seed is made with:",
        "",
        "| seed | scale | " + " | ".join(f"updates, {stage}" for stage in STAGES) + " |",
        "|---|---|" + "---|" * len(STAGES),
        *[f"{row} |" for row in rows],
        "",
    ]


def _stages(kept: Kept, groups: list[tuple[str, list[str]]]) -> list[str]:
    lines = [
        "Score (V-A): the mean over sub-steps of 1, 0.5 or 0 for the long tasks, success for the",
        "short ones; with the bootstrap 95 % interval over starts. Success with Wilson's. Cycle",
        "time over successes and failures, these at the task's limit, with its standard error.",
        "A start is invalid when the physics diverged. It stays among the starts, here and below,",
        "as a failure: the score of the sub-steps before, and the task's limit as its cycle time.",
        "",
        "| task | stage | starts | invalid | score | success | cycle time, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, tasks in groups:
        for stage in STAGES:
            if found := [a for key, a in kept.items() if key[1] in tasks and key[3] == stage]:
                lines.append(f"| {name} | {stage} | {_summary(found)} |")
    return [*lines, ""]


def _summary(found: list[Start]) -> str:
    scores = np.array([a.score for a in found])
    low, high = interval(scores)
    done = sum(a.success for a in found)
    from_, to = wilson(done, len(found))
    cycle = np.array([a.cycle_s for a in found])
    error = cycle.std(ddof=1) / np.sqrt(len(cycle)) if len(cycle) > 1 else 0.0
    invalid = sum(a.outcome is Outcome.INVALID for a in found)
    return (
        f"{len(found)} | {invalid} | {scores.mean():.3f} [{low:.2f}, {high:.2f}] | "
        f"{done / len(found):.0%} [{from_:.0%}, {to:.0%}] | {cycle.mean():.1f} ± {error:.1f}"
    )


def interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap of a mean, 95 %."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (DRAWS, len(values))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _differences(kept: Kept, groups: list[tuple[str, list[str]]]) -> list[str]:
    """Of scores, on the starts that both stages had."""
    rows = []
    for first, second in PAIRS:
        for name, tasks in groups:
            pairs = [
                (found, kept[*key[:3], second])
                for key, found in kept.items()
                if key[1] in tasks and key[3] == first and (*key[:3], second) in kept
            ]
            if pairs:
                gains = np.array([a.score - b.score for a, b in pairs])
                low, high = interval(gains)
                faster = np.mean([a.cycle_s - b.cycle_s for a, b in pairs])
                rows.append(
                    f"| {first} - {second} | {name} | {len(pairs)} | {gains.mean():+.3f} | "
                    f"[{low:+.3f}, {high:+.3f}] | {faster:+.1f} |"
                )
    head = [
        "Paired differences of the score on the same starts, bootstrap 95 % interval:\n",
        "| comparison | task | starts | difference | interval | cycle time, s |",
        "|---|---|---|---|---|---|",
    ]
    return [*head, *rows, ""] if rows else []


def _substeps(kept: Kept, tasks: list[str]) -> list[str]:
    """Where the long tasks get stuck."""
    lines = [
        "Sub-steps of the long tasks: mean score of each; in brackets the share of starts in",
        "which it was done at all with a score above 0.",
        "",
    ]
    for task in tasks:
        names = [subtask.name for subtask in TASKS[task].subtasks] if TASKS[task].scored else []
        if not names:
            continue
        lines += [f"| {task} | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
        for stage in STAGES:
            found = [a.substeps for key, a in kept.items() if key[1] == task and key[3] == stage]
            if found:
                each = np.array(found)
                means, shares = each.mean(0), (each > 0).mean(0)
                cells = [f"{m:.2f} ({s:.0%})" for m, s in zip(means, shares, strict=True)]
                lines.append(f"| {stage} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _seeds(kept: Kept, seeds: Sequence[int]) -> list[str]:
    """Mean score over tasks, seed by seed."""
    lines = ["Mean score over all starts, by seed:\n", "| seed | " + " | ".join(STAGES) + " |"]
    lines.append("|---|" + "---|" * len(STAGES))
    for seed in seeds:
        cells = []
        for stage in STAGES:
            scores = [a.score for key, a in kept.items() if key[0] == seed and key[3] == stage]
            cells.append(f"{np.mean(scores):.3f} of {len(scores)}" if scores else "-")
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _policies(kept: Kept, seeds: Sequence[int], others: dict[int, int]) -> list[str]:
    """Who acted, and what evaluated it."""
    lines = [
        "The first digits of the SHA-256 of every policy, and the commits that evaluated it:\n",
        "| seed | stage | starts | policy | commits |",
        "|---|---|---|---|---|",
    ]
    for seed, stage in product(seeds, STAGES):
        if found := [a for key, a in kept.items() if key[0] == seed and key[3] == stage]:
            commits = ", ".join(dict.fromkeys(a.commit for a in found))
            lines.append(
                f"| {seed} | {stage} | {len(found)} | {found[0].sha256[:10]} | {commits} |"
            )
    ignored = [
        f"Seed {seed}: {number} starts do not count, they are not of the policies that are there.\n"
        for seed, number in others.items()
    ]
    return [*lines, "", *ignored]
