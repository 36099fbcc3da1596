"""Frames and episodes: what a robot writes and everybody else reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np


class Source(IntEnum):
    """Who chose the action of a tick."""

    POLICY = 0
    HUMAN = 1
    """An operator who intervened in an autonomous episode."""
    EXPERT = 2
    """A demonstrator."""
    PLAY = 3
    """A demonstrator who explores failures on purpose."""


class Kind(StrEnum):
    """Why an episode was recorded (Table IV); `ONLINE` episodes fill B_on, the others B_off."""

    DEMO = "demo"
    ROLLOUT = "rollout"
    PLAY = "play"
    ONLINE = "online"


class Outcome(StrEnum):
    """How an episode ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    """Power, emergency stop or a killed process cut it off."""
    INVALID = "invalid"
    """The physics of a simulated robot diverged: nothing in it is to be learned or scored."""

    @property
    def judged(self) -> bool:
        """Whether it is known if the task was done; an interrupted or invalid episode has no
        verdict."""
        return self not in (Outcome.INTERRUPTED, Outcome.INVALID)


ENDS = frozenset({Outcome.SUCCESS, Outcome.FAILURE})
"""Outcomes by which the task itself ended; anything else cut the episode off."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Everything about an episode that is not a time series."""

    episode_id: str
    """Made on the robot, unique for ever: 32 lower-case hex digits."""
    robot: str
    task: str
    instruction: str
    kind: Kind
    policy_version: int
    """Version of the weights that acted; 0 where no policy did."""
    rate_hz: float
    horizon: int
    seed: int
    outcome: Outcome
    terminated: bool
    """The environment ended it: success or an unrecoverable failure."""
    truncated: bool
    """Something outside ended it: the time limit, an interruption or diverged physics."""
    started_at: float
    """UTC seconds."""
    ended_at: float
    """UTC seconds."""
    held_out: bool = False
    """The scene came from the held-out split; never trained on."""
    substeps: tuple[float, ...] = ()
    """Step-wise scores in [0, 1] (V-A), empty where the task has none."""
    normalisation_hash: str = ""
    """sha256 of the statistics the policy used; empty without a policy."""
    tokenizer_hash: str = ""
    """sha256 of the tokenizer the policy used; empty without a policy."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A whole episode of T ticks; the state after the last tick is kept for the bootstrap."""

    header: Header
    time: np.ndarray
    """[T+1] float64, UTC seconds of each observation."""
    state: np.ndarray
    """[T+1, state] float32; row T is the state after the last action."""
    action: np.ndarray
    """[T, action] float32, what was executed."""
    action_policy: np.ndarray
    """[T, action] float32, what the policy wanted; NaN where no policy was asked."""
    source: np.ndarray
    """[T] uint8 of `Source`."""
    events: tuple[tuple[str, ...], ...]
    """[T] names of what happened in each tick."""
    images: Mapping[str, tuple[bytes | None, ...]] = field(default_factory=dict)
    """Camera to [T+1] JPEG bytes, None where not kept."""

    @property
    def ticks(self) -> int:
        """Number of executed actions, T."""
        return len(self.action)

    @property
    def reward(self) -> np.ndarray:
        """[T] float32 sparse reward: 1 on the last tick of a success, else 0 (III-A)."""
        reward = np.zeros(self.ticks, np.float32)
        if self.header.outcome is Outcome.SUCCESS:
            reward[-1] = 1.0
        return reward
