"""How often the scripted expert of every task succeeds, at both rates, on both splits.

`python -m benchmarks.experts` runs 50 seeds of every cell on one core and writes
benchmarks/results/experts.md. Cells that are done stay in runs/experts, so that a run goes on after
a stop; `--summary` writes the page of what there is.
"""

import argparse
import dataclasses
import json
from collections import Counter
from itertools import product
from pathlib import Path

from benchmarks.record import commit, header
from lwd.config import CONTROL
from lwd.eval.intervals import wilson
from lwd.sim.measure import expert_success
from lwd.sim.tasks import TASKS

CELLS = Path("runs/experts")
PAGE = Path(__file__).parent / "results" / "experts.md"
EPISODES, SEED = 50, 0
SPLITS = {"train": False, "held-out": True}


def file_of(task: str, rate: str, split: str) -> Path:
    """Where a cell is kept."""
    return CELLS / f"{task}-{rate}-{split}.json"


def measure(task: str, rate: str, split: str) -> None:
    """Run the expert and keep what came out."""
    found = expert_success(task, EPISODES, SEED, CONTROL[rate], held_out=SPLITS[split])
    kept = {
        "commit": commit(),
        "successes": found.successes,
        "invalid": found.invalid,
        "failed_seeds": found.failed_seeds,
        "score": found.score,
        "robot_s": found.mean_s,
        "cpu_s": found.cpu_s,
        "attempts": [dataclasses.asdict(attempt) for attempt in found.attempts],
    }
    path = file_of(task, rate, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(kept))
    path.with_suffix(".part").rename(path)
    print(found, rate, split, flush=True)


def line(task: str, rate: str, split: str) -> str:
    """A row of the table."""
    cell = json.loads(file_of(task, rate, split).read_text())
    low, high = wilson(cell["successes"], EPISODES)
    failed = ", ".join(map(str, cell["failed_seeds"])) or "-"
    scores = Counter(score for attempt in cell["attempts"] for score in attempt["substeps"])
    marks = " / ".join(str(scores[mark]) for mark in (1.0, 0.5, 0.0)) if scores else "-"
    return (
        f"| {task} | {rate} | {split} | {cell['successes']}/{EPISODES} "
        f"[{low:.0%}, {high:.0%}] | {cell['score']:.3f} | {marks} | {cell['robot_s']:.1f} "
        f"| {cell['robot_s'] / cell['cpu_s']:.0f} | {failed} | {cell['commit']} |"
    )


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", action="store_true", help="only write the page")
    asked = parser.parse_args()
    cells = [(t, r, s) for r, s, t in product(reversed(CONTROL), SPLITS, TASKS)]
    for cell in cells:
        if not asked.summary and not file_of(*cell).exists():
            measure(*cell)
    cells = list(product(TASKS, CONTROL, SPLITS))
    rows = [line(*cell) for cell in cells if file_of(*cell).exists()]
    missing = [" ".join(cell) for cell in cells if not file_of(*cell).exists()]
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
    main()
