"""How often the scripted expert succeeds, and what a simulated second costs."""

import multiprocessing
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from lwd.actor.robot import Status
from lwd.config import ControlConfig
from lwd.config.require import require
from lwd.sim.expert import Expert
from lwd.sim.hands import ExpertNoise
from lwd.sim.robot import SimRobot
from lwd.sim.tasks import task as find_task


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One episode of the expert."""

    seed: int
    status: Status
    robot_s: float
    """Length in robot seconds."""
    cpu_s: float
    """Process time that it took."""
    substeps: tuple[float, ...] = ()
    """Score of each annotated sub-step, empty where the task has none."""


@dataclass(frozen=True, kw_only=True)
class ExpertSuccess:
    """What the expert did on a run of seeds."""

    task: str
    attempts: tuple[Attempt, ...]

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.attempts)

    @property
    def successes(self) -> int:
        """Number of episodes that ended well."""
        return sum(a.status is Status.SUCCESS for a in self.attempts)

    @property
    def invalid(self) -> int:
        """Number of episodes whose physics diverged: among the episodes, never a success."""
        return sum(a.status is Status.INVALID for a in self.attempts)

    @property
    def failed_seeds(self) -> tuple[int, ...]:
        """Seeds to look at."""
        return tuple(a.seed for a in self.attempts if a.status is not Status.SUCCESS)

    @property
    def mean_s(self) -> float:
        """Mean length in robot seconds."""
        return float(np.mean([a.robot_s for a in self.attempts]))

    @property
    def cpu_s(self) -> float:
        """Mean process time of an episode."""
        return float(np.mean([a.cpu_s for a in self.attempts]))

    @property
    def score(self) -> float:
        """Mean score (V-A): step-wise where the task has annotated sub-steps, else success."""
        stepwise = [float(np.mean(a.substeps)) for a in self.attempts if a.substeps]
        return float(np.mean(stepwise)) if stepwise else self.successes / self.episodes

    def __str__(self) -> str:
        failed = ", ".join(map(str, self.failed_seeds))
        return (
            f"{self.task}: {self.successes}/{self.episodes} succeeded, score {self.score:.3f}, "
            f"{self.mean_s:.1f} robot s and {self.cpu_s:.2f} CPU s per episode"
            + (f"; the physics of {self.invalid} diverged" if self.invalid else "")
            + (f"; look at seeds {failed}" if failed else "")
        )


def expert_success(
    task: str,
    episodes: int,
    seed: int,
    control: ControlConfig,
    *,
    held_out: bool = False,
    noise: ExpertNoise | None = None,
    workers: int = 1,
) -> ExpertSuccess:
    """Run the expert on the seeds from `seed` on, on `workers` processes.

    The result does not depend on the number of workers, but for the CPU time. Raises ConfigError
    for an unknown task and for numbers that make no sense.
    """
    find_task(task)
    for name, value in (("episodes", episodes), ("workers", workers)):
        require(value >= 1, f"{name} is {value}; at least 1 is needed.")
    seeds = range(seed, seed + episodes)
    if workers == 1:
        return ExpertSuccess(task=task, attempts=_attempt(task, seeds, control, held_out, noise))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = [
            pool.submit(_attempt, task, seeds[k::workers], control, held_out, noise)
            for k in range(workers)
        ]
        attempts = [attempt for part in parts for attempt in part.result()]
    return ExpertSuccess(task=task, attempts=tuple(sorted(attempts, key=lambda a: a.seed)))


def _attempt(
    task: str,
    seeds: Iterable[int],
    control: ControlConfig,
    held_out: bool,
    noise: ExpertNoise | None,
) -> tuple[Attempt, ...]:
    robot = SimRobot(task, control=control, held_out=held_out)
    attempts = []
    for seed in seeds:
        started = time.process_time()
        robot.reset(seed)
        expert = Expert(robot, np.random.default_rng(seed), noise=noise)
        substeps: tuple[float, ...] = ()
        while robot.status is Status.RUNNING:
            substeps = robot.apply(expert.act()[None])[-1].substeps
        spent = time.process_time() - started
        attempts.append(
            Attempt(
                seed=seed,
                status=robot.status,
                robot_s=robot.elapsed_s,
                cpu_s=spent,
                substeps=substeps,
            )
        )
    return tuple(attempts)
