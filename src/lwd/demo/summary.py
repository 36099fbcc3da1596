"""What a run came to: success, accounting, latencies; summary.json and the closing table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from lwd.config import STAGES
from lwd.demo.progress import (
    Progress,
    episode_latencies,
    model_latencies,
    percentiles,
    produced,
)
from lwd.episode.types import Outcome
from lwd.eval.results import Evaluation, Score
from lwd.store.disk import written_aside


def accounting(root: Path, now: Progress) -> dict[str, int]:
    """Every episode that a robot saved against every one that the snapshots hold.

    An id and a payload are there once by the catalog's keys. `doubled` does not lean on them: a
    robot ends one episode at a time, so two of the same second are one recording under two ids.
    """
    saved = produced(root)
    members = {row.episode_id for row in now.episodes}
    recordings = {(row.robot, row.produced_at) for row in now.episodes}
    return {
        "produced": len(saved),
        "acknowledged": now.acknowledged,
        "in_snapshot": len(members),
        "lost": len(saved - members),
        "invalid": len({r.episode_id for r in now.episodes if r.outcome == Outcome.INVALID}),
        "doubled": len(now.episodes) - len(recordings),
    }


def summarise(root: Path, now: Progress, evaluation: Evaluation, seconds: float) -> dict[str, Any]:
    """The contents of summary.json."""
    success = {
        stage: {
            task: {
                "successes": score.successes,
                "episodes": score.episodes,
                "low": score.low,
                "high": score.high,
            }
            for task in evaluation.tasks
            for score in (evaluation.score(stage, task),)
        }
        for stage in STAGES
    }
    return {
        "success": success,
        "episodes": accounting(root, now),
        "latency_s": {
            "episode_to_learner": percentiles(episode_latencies(now)),
            "model_to_actor": percentiles(model_latencies(now)),
        },
        "weights": {"published": len(now.weights), "loaded": len(now.loads)},
        "seconds": round(seconds, 1),
    }


def write(path: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json, whole or not at all."""
    with written_aside(path) as file:
        file.write(json.dumps(summary, indent=2).encode() + b"\n")


def table(evaluation: Evaluation) -> Table:
    """Success of the three policies on the same held-out starts, with Wilson 95 % intervals, and
    the mean step-wise score (V-A) of tasks that have sub-steps."""
    shown = Table(title="held-out success, same starts", title_justify="left")
    for column in ("task", "starts", *STAGES):
        shown.add_column(column, justify="left" if column == "task" else "right")
    for task in [*evaluation.tasks, "all"] if len(evaluation.tasks) > 1 else evaluation.tasks:
        scores = [evaluation.score(stage, task) for stage in STAGES]
        stepwise = task != "all" and evaluation.of(STAGES[0], task)[0].substeps
        shown.add_row(
            task, str(scores[0].episodes), *(_cell(each, bool(stepwise)) for each in scores)
        )
    return shown


def _cell(score: Score, stepwise: bool) -> str:
    success = f"{score.rate:.0%} [{score.low:.0%}, {score.high:.0%}]"
    return f"{success}\nscore {score.score:.2f}" if stepwise else success


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """Accounting and latencies as a reader wants them."""
    counts, latency, weights = summary["episodes"], summary["latency_s"], summary["weights"]
    lines = [
        "episodes: " + ", ".join(f"{count} {name}" for name, count in counts.items()),
        f"weights: {weights['published']} published, {weights['loaded']} loads by robots",
    ]
    for name, spread in latency.items():
        measured = (
            f"P50 {spread['p50']:.1f} s, P99 {spread['p99']:.1f} s" if spread["count"] else "-"
        )
        lines.append(f"{name.replace('_', ' ')}: {measured} over {spread['count']}")
    return lines
