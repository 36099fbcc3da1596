"""`lwd diagnose critic`: a checkpoint's critic on episodes that it was not trained on."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lwd.actor.loop import run_episode
from lwd.actor.recorder import Recording
from lwd.config import DiagnosisConfig, LearnerConfig, PlaneConfig
from lwd.episode.payload import decode
from lwd.episode.types import Episode, Kind, Outcome
from lwd.errors import ConfigError
from lwd.eval import true_ranking
from lwd.eval.evaluate import Starts
from lwd.eval.true_ranking import TrueRanking
from lwd.learner.diagnose.report import Diagnosis, as_json, diagnose
from lwd.learner.diagnose.trained import Trained, load
from lwd.learner.recipes import losses
from lwd.models.artifact import FlowPolicy, pack
from lwd.sim.robot import SimRobot
from lwd.store.catalog import Catalog
from lwd.store.disk import written_aside
from lwd.store.objects import Objects, episode_key
from lwd.store.rows import EpisodeRow

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A diagnosis with where its episodes came from."""

    episodes_from: str
    """One sentence: which episodes, and whether anything was trained on them."""
    trained_on: bool
    """Whether the critic may have been trained on them: then calibration flatters it."""
    diagnosis: Diagnosis
    true_ranking: TrueRanking | None
    """Where the simulator was asked."""


def examine(plane: PlaneConfig, otherwise: LearnerConfig, wanted: DiagnosisConfig) -> Examined:
    """Load the checkpoint, get the episodes, measure.

    `otherwise` are the settings of a checkpoint that does not know its own. Raises ConfigError if
    nothing has trained its Q.
    """
    trained = load(plane.root / "checkpoints", step=wanted.checkpoint, otherwise=otherwise)
    _require_q(trained)
    at = f"{trained.at.stage} update {trained.at.update}"
    if wanted.source == "fresh":
        episodes = fresh(trained, wanted)
        told = (
            f"{len(episodes)} fresh episodes of the policy of {at} in held-out scenes of the "
            f"simulator (seed {wanted.seed}), without an operator; nothing was trained on them"
        )
    else:
        episodes = recorded(plane, wanted, images=bool(trained.cameras))
        told = _provenance(episodes, wanted)
    log.info("diagnose episodes=%d source=%s", len(episodes), wanted.source)
    found = diagnose(trained, episodes, samples=wanted.samples, seed=wanted.seed)
    return Examined(
        episodes_from=told,
        trained_on=wanted.source == "recorded",
        diagnosis=found,
        true_ranking=_simulated(trained, wanted) if wanted.simulate else None,
    )


def fresh(trained: Trained, wanted: DiagnosisConfig) -> list[Episode]:
    """Episodes of the checkpoint's policy from held-out scenes, collected now."""
    policy, robot = _policy(trained), _robots(trained)
    robots = {task: robot(task) for task in wanted.tasks}
    found = []
    for task, seed in _starts(trained, wanted, wanted.episodes).scenes():
        episode = run_episode(
            robots[task],
            seed,
            policy,
            None,
            kind=Kind.ROLLOUT,
            recording=Recording(held_out=True),
        )
        assert episode is not None, "nothing stops it before its first tick"
        found.append(episode)
    return found


def recorded(plane: PlaneConfig, wanted: DiagnosisConfig, *, images: bool = False) -> list[Episode]:
    """The newest episodes of each task in the catalog: held-out ones, or online ones; with their
    `images` for networks that see."""
    with Catalog(plane.catalog) as catalog:
        rows = catalog.snapshot_episodes(catalog.snapshot_version())
    held_out = wanted.source == "held-out"
    usable = [
        row
        for row in sorted(rows, key=lambda row: row.produced_at)
        if Outcome(row.outcome).judged
        and row.held_out == held_out
        and (held_out or row.kind == Kind.ONLINE)
    ]
    chosen: list[EpisodeRow] = []
    for task in wanted.tasks:
        chosen += [row for row in usable if row.task == task][-wanted.episodes :]
    if not chosen:
        kind = "held-out" if held_out else "online"
        raise ConfigError(
            f"the catalog has no finished {kind} episode of {', '.join(wanted.tasks)} among "
            f"{len(rows)}; use --source fresh, which collects them in the simulator."
        )
    objects = Objects(plane.objects)
    return [decode(objects.get(episode_key(row.sha256)), images=images) for row in chosen]


def write(examined: Examined, folder: Path) -> list[Path]:
    """FOLDER/critic.json and FOLDER/critic.png, each whole or absent."""
    from lwd.eval.critic_figure import draw

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder} is not usable: {error.strerror}.") from error
    paths = [folder / "critic.json", folder / "critic.png"]
    with written_aside(paths[0]) as file:
        file.write(json.dumps(to_json(examined), indent=1).encode() + b"\n")
    draw(examined, paths[1])
    return paths


def to_json(examined: Examined) -> dict[str, Any]:
    """What critic.json holds; numbers that are not defined are null."""
    return as_json(examined)


def _require_q(trained: Trained) -> None:
    """An untrained Q is 0 everywhere and would be answered with ties."""
    config, at = trained.config, trained.at
    learned = losses(config.recipe)
    judging = [n for n in config.stages if learned[n].learns_q and config.stage(n).updates]
    if any(name in judging for name in at.begun(config.stages)):
        return
    then = (
        f"Stage {judging[0]} does: train on."
        if judging
        else "No stage of this recipe does: examine a run of one that learns Q, such as lwd or iql."
    )
    raise ConfigError(
        f"nothing has trained the Q of this checkpoint: it is at update {at.update} of stage "
        f"{at.stage} of recipe {config.recipe}, and no update so far learned Q. {then}"
    )


def _simulated(trained: Trained, wanted: DiagnosisConfig) -> TrueRanking:
    trials = true_ranking.try_chunks(
        trained,
        _policy(trained),
        _starts(trained, wanted, wanted.simulated_episodes),
        true_ranking.Effort(),
        robot=_robots(trained),
    )
    return true_ranking.agreement(trials)


def _starts(trained: Trained, wanted: DiagnosisConfig, episodes: int) -> Starts:
    return Starts(tasks=wanted.tasks, episodes=episodes, seed=wanted.seed, control=trained.control)


def _robots(trained: Trained) -> Callable[[str], SimRobot]:
    robot = partial(SimRobot, control=trained.control, held_out=True, cameras=trained.cameras)
    size = trained.image_size
    return robot if size is None else partial(robot, image_size=size)


def _policy(trained: Trained) -> FlowPolicy:
    """What a robot would load: the policy with its own way of acting."""
    artifact = pack(
        trained.networks.policy,
        trained.normaliser,
        preset=trained.config.preset,
        control=trained.control,
        acting=trained.acting,
    )
    return FlowPolicy(*artifact, 1, control=trained.control)


def _provenance(episodes: Sequence[Episode], wanted: DiagnosisConfig) -> str:
    if wanted.source == "held-out":
        return (
            f"{len(episodes)} newest held-out episodes of the catalog; nothing was trained on them"
        )
    return (
        f"{len(episodes)} newest online episodes of the catalog; the critic was probably trained "
        f"on them, so its calibration looks better than it is"
    )
