"""The picture of a finished run."""

from pathlib import Path

import numpy as np

from lwd.config import STAGES
from lwd.demo.progress import Progress
from lwd.episode.payload import decode
from lwd.episode.types import Kind, Outcome
from lwd.eval import figures
from lwd.eval.results import Evaluation
from lwd.learner.diagnose.trained import load
from lwd.store.objects import Objects, episode_key
from lwd.store.rows import EpisodeRow


def draw(out: Path, now: Progress, evaluation: Evaluation, objects: Objects) -> None:
    """Write OUT/demo.png: success of the stages and of the fleet, value curves, tau and entropy."""
    scores = {stage: evaluation.score(stage) for stage in STAGES}
    online = sorted(now.of(Kind.ONLINE), key=lambda row: row.produced_at)
    story = figures.Story(
        title=f"Learning while deployed: {len({row.robot for row in online})} robots, "
        f"{len(online)} online episodes",
        stages=[
            figures.Rate(label=stage, successes=score.successes, episodes=score.episodes)
            for stage, score in scores.items()
        ],
        deployment=figures.Deployment(
            success=np.array([row.outcome == Outcome.SUCCESS for row in online], bool),
            human=np.array([row.interventions > 0 for row in online], bool),
        ),
        values=_values(out, online, objects),
        quantile=_quantile(now),
    )
    figures.draw(story, out / "demo.png")


def _values(out: Path, online: list[EpisodeRow], objects: Objects) -> list[figures.ValueCurve]:
    """Curves of the last success and the last failure without a human's help."""
    alone = [row for row in online if not row.interventions]
    chosen = {row.outcome == Outcome.SUCCESS: row for row in alone if Outcome(row.outcome).judged}
    episodes = [decode(objects.get(episode_key(row.sha256))) for row in chosen.values()]
    trained = load(out / "checkpoints")
    curves = [trained.along(episode) for episode in episodes]
    return [
        figures.ValueCurve(
            label=f"{episode.header.task}, {episode.header.outcome}",
            success=success,
            time_s=np.arange(len(curve.median)) / episode.header.rate_hz,
            value=curve.median,
            low=curve.low,
            high=curve.high,
        )
        for success, episode, curve in zip(chosen, episodes, curves, strict=True)
    ]


def _quantile(now: Progress) -> figures.Quantile:
    """tau and entropy over the updates of both RL stages."""
    reports = [report for report in now.metrics if "value/tau" in report]
    offline = max((r["update"] for r in reports if r["stage"] == "offline"), default=0)
    update = [r["update"] + (offline if r["stage"] == "online" else 0) for r in reports]
    return figures.Quantile(
        update=np.array(update),
        tau=np.array([report["value/tau"] for report in reports]),
        entropy=np.array([report["value/entropy"] for report in reports]),
        online_from=offline,
    )
