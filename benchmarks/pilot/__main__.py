"""`python -m benchmarks.pilot [--seeds 0 1 2] [--until online] [--starts 50]`: what is missing.

The offline buffer of Table IV is made once; for each seed three stages are trained, and each is
evaluated on held-out starts. Everything that is done is kept under runs/pilot, down to the single
start: the same command goes on after a stop, and one with more seeds, a later stage or more starts
adds to what is there. The page is benchmarks/results/pilot.md; `--summary` only writes that.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pilot import report
from benchmarks.pilot.study import Plan, study
from benchmarks.record import REPOSITORY
from lwd.config import STAGES
from lwd.sim.tasks import TASKS


def main(arguments: Sequence[str] = ()) -> None:
    """Do what is missing, then write the page."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    for noisy in ("absl", "alembic", "httpx", "jax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--until", choices=STAGES, default="online", help="last stage to do")
    parser.add_argument("--starts", type=int, default=50, help="held-out starts of each task")
    parser.add_argument("--scale", type=float, default=0.05, help="of the hours of Table IV")
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "pilot")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--summary", action="store_true", help="only write the page")
    asked = parser.parse_args(arguments)
    plan = Plan(
        runs=asked.runs.absolute(),
        tasks=tuple(asked.tasks),
        starts=asked.starts,
        until=asked.until,
        scale=asked.scale,
        workers=asked.workers,
        command=f"python -m benchmarks.pilot {' '.join(arguments)}".strip(),
    )
    for seed in [] if asked.summary else asked.seeds:
        study(plan, seed)
    page = report.page(plan.runs, asked.seeds)
    (REPOSITORY / "benchmarks" / "results" / "pilot.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(sys.argv[1:])
