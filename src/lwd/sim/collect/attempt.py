"""One attempt at an episode of the offline buffer, in a worker process."""

import ctypes
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from lwd.actor.loop import run_episode
from lwd.actor.policy import Policy
from lwd.actor.process import Rig
from lwd.actor.robot import Robot
from lwd.config import BLIND, SightConfig, control
from lwd.episode.payload import encode
from lwd.episode.types import Episode, Kind
from lwd.sim.rig import Circumstances, rig
from lwd.store import weights


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What decides an episode: the same attempt gives the same states, actions and id."""

    seed: int
    rate: str
    task: str
    kind: Kind
    number: int
    robot: str
    sight: SightConfig = BLIND
    policy: Path | None = None
    version: int = 0
    """Place of the policy among those that take turns, from 1; 0 without one."""

    @property
    def episode_id(self) -> str:
        """32 hex digits that any run of this attempt gives its episode."""
        name = f"collect/{self.seed}/{self.rate}/{self.task}/{self.kind}/{self.number}"
        return sha256(name.encode()).hexdigest()[:32]

    def draws(self, use: int) -> np.random.SeedSequence:
        """Source of random draws for one use: 0 the scene, 1 the operator."""
        words = np.frombuffer(bytes.fromhex(self.episode_id), np.uint32)
        return np.random.SeedSequence([*words.tolist(), use])


@dataclass(frozen=True, kw_only=True)
class Result:
    """An attempt carried out."""

    attempt: Attempt
    outcome: str
    seconds: float
    """Robot time."""
    cpu_s: float
    payload: bytes


Make = Callable[[Attempt], Rig]
"""Makes the rig of an attempt's task and kind; importable, so that workers find it."""


def simulated(attempt: Attempt) -> Rig:
    """Rig of a simulated robot."""
    return rig(
        attempt.kind,
        (attempt.task,),
        control(attempt.rate),
        robot_id=attempt.robot,
        circumstances=Circumstances(sight=attempt.sight),
    )


def carry_out(make: Make, attempt: Attempt) -> Result:
    """Run an attempt to its end. EpisodeError or IntegrityError where the policy is no good."""
    started = time.process_time()
    kit, robot = _kit(make, replace(attempt, seed=0, number=0, policy=None, version=0))
    policy = None if attempt.policy is None else _policy(kit, attempt)
    operator = None
    if kit.operator is not None:
        operator = kit.operator(robot, np.random.default_rng(attempt.draws(1)))
    (word,) = attempt.draws(0).generate_state(1, np.uint64)
    recording = replace(kit.recording, new_id=lambda: attempt.episode_id)
    episode = run_episode(
        robot, int(word) >> 11, policy, operator, kind=attempt.kind, recording=recording
    )
    assert episode is not None, "nothing stops it before its first tick"
    return Result(
        attempt=attempt,
        outcome=str(episode.header.outcome),
        seconds=robot_seconds(episode),
        cpu_s=time.process_time() - started,
        payload=encode(episode),
    )


def robot_seconds(episode: Episode) -> float:
    """Length of an episode on the robot's clock."""
    return episode.ticks / episode.header.rate_hz


def end_with_parent() -> None:
    """Start of a worker: it is killed when its parent dies, and leaves signals to it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


@cache
def _kit(make: Make, alike: Attempt) -> tuple[Rig, Robot]:
    """One rig and robot for all attempts of a kind at a task in a process; models compile once."""
    kit = make(alike)
    return kit, kit.robot()


def _policy(kit: Rig, attempt: Attempt) -> Policy:
    """The attempt's policy, built once in a process."""
    assert attempt.policy is not None
    assert kit.build is not None
    key = (attempt.policy, attempt.version, attempt.rate)
    if key not in _POLICIES:
        _POLICIES[key] = kit.build(*weights.load(attempt.policy), attempt.version)
    return _POLICIES[key]


_POLICIES: dict[tuple[Path, int, str], Policy] = {}
