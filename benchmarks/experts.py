"""How often the scripted expert of every task succeeds, at both rates, on both splits.

`python -m benchmarks.experts` runs 50 seeds of every cell on one core and writes
benchmarks/results/experts.md. Cells that are done stay in benchmarks/results/experts.jsonl, so that
a run goes on after a stop, on another machine too; delete a cell's line to measure it again.
`--summary` writes the page of what there is.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path

from benchmarks.record import commit, header
from lwd.config import CONTROL
from lwd.eval.intervals import wilson
from lwd.sim.measure import expert_success
from lwd.sim.tasks import TASKS
from lwd.store.lines import Log, entries

KEPT = Path(__file__).parent / "results" / "experts.jsonl"
PAGE = KEPT.with_suffix(".md")
EPISODES, SEED = 50, 0
SPLITS = {"train": False, "held-out": True}
MARKS = (1.0, 0.5, 0.0)
"""Scores of a sub-step."""
Cell = tuple[str, str, str]
"""Task, rate, split."""


def kept() -> dict[Cell, dict]:
    """The cells that are done."""
    return {(c["task"], c["rate"], c["split"]): c for c in entries(KEPT)}


def measure() -> None:
    """The cells that are missing. The file is opened first: that drops a line that a kill cut."""
    with closing(Log(KEPT, busy=f"another process measures into {KEPT}; stop it first.")) as log:
        done = kept()
        for rate, split, task in product(reversed(CONTROL), SPLITS, TASKS):
            if (task, rate, split) not in done:
                log.append(run(task, rate, split))


def run(task: str, rate: str, split: str) -> dict:
    """What came out of a cell."""
    found = expert_success(task, EPISODES, SEED, CONTROL[rate], held_out=SPLITS[split])
    scores = Counter(score for attempt in found.attempts for score in attempt.substeps)
    print(found, rate, split, flush=True)
    return {
        "task": task,
        "rate": rate,
        "split": split,
        "successes": found.successes,
        "invalid": found.invalid,
        "failed_seeds": found.failed_seeds,
        "score": round(found.score, 3),
        "marks": [scores[mark] for mark in MARKS] if scores else None,
        "robot_s": round(found.mean_s, 1),
        "robot_s_per_cpu_s": round(found.mean_s / found.cpu_s),
        "commit": commit(),
    }


def line(cell: dict) -> str:
    """A row of the table."""
    low, high = wilson(cell["successes"], EPISODES)
    failed = ", ".join(map(str, cell["failed_seeds"])) or "-"
    marks = " / ".join(map(str, cell["marks"])) if cell["marks"] else "-"
    return (
        f"| {cell['task']} | {cell['rate']} | {cell['split']} | {cell['successes']}/{EPISODES} "
        f"[{low:.0%}, {high:.0%}] | {cell['score']:.3f} | {marks} | {cell['robot_s']:.1f} "
        f"| {cell['robot_s_per_cpu_s']} | {failed} | {cell['commit']} |"
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", action="store_true", help="only write the page")
    if not parser.parse_args(arguments).summary:
        measure()
    cells, done = list(product(TASKS, CONTROL, SPLITS)), kept()
    rows = [line(done[cell]) for cell in cells if cell in done]
    missing = [" ".join(cell) for cell in cells if cell not in done]
    page = [
        "# The scripted experts",
        "",
        header("python -m benchmarks.experts"),
        f"`lwd sim expert` with its default noise, seeds {SEED} to {SEED + EPISODES - 1}.",
        "Successes with 95 % Wilson intervals, mean score (V-A), how many sub-steps scored 1, 0.5",
        "and 0, mean length, simulated seconds per CPU second (one process, whatever else the",
        "machine did), and the commit of the cell.",
        "",
        "| task | rate | split | successes | score | 1 / 0.5 / 0 | robot s | sim s per CPU s "
        "| failed seeds | commit |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        *([f"Not measured yet: {', '.join(missing)}.", ""] if missing else []),
    ]
    PAGE.write_text("\n".join(page))
    print("\n".join(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
