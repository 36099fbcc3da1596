"""Outcomes of an evaluation, start by start, and what they add up to."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lwd.episode.types import Outcome
from lwd.errors import unknown
from lwd.eval import intervals
from lwd.eval.intervals import Comparison
from lwd.store.disk import written_aside


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One policy at one start."""

    policy: str
    task: str
    seed: int
    outcome: Outcome
    ticks: int
    cycle_s: float
    """Robot seconds to success; the task's time limit for everything else (V-A)."""
    substeps: tuple[float, ...] = ()
    """Score of each annotated sub-step, empty where the task has none."""

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.outcome is Outcome.SUCCESS

    @property
    def score(self) -> float:
        """The mean over sub-steps, or success alone where the task has none (V-A)."""
        return float(np.mean(self.substeps)) if self.substeps else float(self.success)


AttemptT = TypeVar("AttemptT", bound=Attempt)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A policy's attempts at one task, or at all of them."""

    policy: str
    task: str
    """Task name, or `all`."""
    episodes: int
    successes: int
    low: float
    """Wilson 95 % interval of the success rate."""
    high: float
    score: float
    """Mean score: step-wise for the tasks with sub-steps."""
    score_error: float
    """Standard error of the mean score."""
    cycle_s: float
    """Mean cycle time."""
    cycle_error_s: float
    """Standard error of the mean cycle time."""
    invalid: int = 0
    """Episodes whose physics diverged: among the episodes, never among the successes."""

    @property
    def rate(self) -> float:
        """Success rate."""
        return self.successes / self.episodes


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Every attempt of an evaluation, in the order policy, task, start."""

    attempts: tuple[Attempt, ...]

    @property
    def policies(self) -> list[str]:
        """Names in the order of the evaluation."""
        return list(dict.fromkeys(attempt.policy for attempt in self.attempts))

    @property
    def tasks(self) -> list[str]:
        """Names in the order of the evaluation."""
        return list(dict.fromkeys(attempt.task for attempt in self.attempts))

    def of(self, policy: str, task: str = "all") -> list[Attempt]:
        """Attempts of a policy at one task or all; ConfigError for a name that was not there."""
        if policy not in self.policies:
            raise unknown("policy", policy, self.policies)
        if task not in (*self.tasks, "all"):
            raise unknown("task", task, (*self.tasks, "all"))
        return [a for a in self.attempts if a.policy == policy and task in (a.task, "all")]

    def score(self, policy: str, task: str = "all") -> Score:
        """Success rate with its interval, score and cycle time."""
        attempts = self.of(policy, task)
        successes = sum(attempt.success for attempt in attempts)
        low, high = intervals.wilson(successes, len(attempts))
        score, score_error = _mean([attempt.score for attempt in attempts])
        cycle_s, cycle_error_s = _mean([attempt.cycle_s for attempt in attempts])
        return Score(
            policy=policy,
            task=task,
            episodes=len(attempts),
            successes=successes,
            low=low,
            high=high,
            score=score,
            score_error=score_error,
            cycle_s=cycle_s,
            cycle_error_s=cycle_error_s,
            invalid=sum(attempt.outcome is Outcome.INVALID for attempt in attempts),
        )

    def scores(self) -> list[Score]:
        """Every policy at every task, then over all tasks where there are several."""
        tasks = [*self.tasks, "all"] if len(self.tasks) > 1 else self.tasks
        return [self.score(policy, task) for policy in self.policies for task in tasks]

    def compare(self, first: str, second: str, task: str = "all") -> Comparison:
        """Paired comparison of two policies on the same starts."""
        successes = [
            {(attempt.task, attempt.seed): attempt.success for attempt in self.of(policy, task)}
            for policy in (first, second)
        ]
        starts = sorted(successes[0].keys() & successes[1].keys())
        return intervals.compare(*(np.array([found[s] for s in starts]) for found in successes))

    def save(self, path: Path) -> None:
        """Write every attempt as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as file:
            file.write(json.dumps([asdict(a) for a in self.attempts], indent=1).encode())


def load(path: Path) -> Evaluation:
    """What `Evaluation.save` wrote."""
    return from_dicts(json.loads(path.read_bytes()))


def _mean(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error, 0 for a single value."""
    spread = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(spread)


def from_dicts(attempts: Iterable[dict]) -> Evaluation:
    """Evaluation of attempts as `dataclasses.asdict` gives them."""
    return Evaluation(attempts=tuple(from_dict(Attempt, fields) for fields in attempts))


def from_dict(kind: type[AttemptT], fields: Mapping[str, Any]) -> AttemptT:
    """An attempt, or a kind of it with more fields, as `dataclasses.asdict` gives it."""
    outcome, substeps = Outcome(fields["outcome"]), tuple(fields.get("substeps", ()))
    return kind(**{**fields, "outcome": outcome, "substeps": substeps})
