"""What the control loop needs of a robot, real or simulated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np

from lwd.config import ControlConfig


class Status(StrEnum):
    """Where an episode stands after a tick."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    """The task can no longer succeed: an item was lost, say."""
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    """Somebody pressed the emergency stop."""
    INVALID = "invalid"
    """The simulated physics diverged; never a success, whatever the task's predicates say."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a robot was asked to do in the episode that starts."""

    name: str
    """Task id, for example `restocking`."""
    instruction: str
    """Language command, the only task description that the policy sees."""
    time_limit_s: float
    """Episode limit in robot seconds."""
    seed: int
    """Seed of the scene; -1 where there is none."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the robot senses before a tick."""

    state: np.ndarray
    """[state] float32 in the robot's units (rad, m), see `lwd.config.StateLayout`."""
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Camera name to [height, width, 3] uint8; empty where none was asked for."""
    time: float | None = None
    """UTC seconds of the measurement; None where only the control rate tells the time."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One control tick that the robot carried out."""

    observation: Observation
    """Before the action."""
    action: np.ndarray
    """[action] float32 executed: 2 x (7 absolute joint targets in rad, gripper opening in m)."""
    status: Status
    """After the action."""
    events: tuple[str, ...] = ()
    """Names of what happened in this tick, for example `dropped:red can`."""
    substeps: tuple[float, ...] = ()
    """Score of each annotated sub-step so far (V-A); empty where the task has none."""


@runtime_checkable
class Robot(Protocol):
    """A robot that executes chunks of joint targets at a fixed rate.

    Simulated robots live in `lwd.sim`; a real one implements these four calls.
    """

    robot_id: str
    control: ControlConfig

    def reset(self, seed: int) -> Task:
        """Set the scene for a new episode and say what is to be done."""
        ...

    def observe(self) -> Observation:
        """Sense now."""
        ...

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """Execute [ticks, action] targets, one per tick; stop early when the episode ends."""
        ...

    def stop(self) -> None:
        """Bring the robot to rest; the episode is over or abandoned."""
        ...
