"""A buffer of the tiny robot, for workers and for a process that is to be killed."""

import sys
from pathlib import Path

import numpy as np

from actor.point import Expert, PointPolicy, PointRobot
from lwd.actor.operator import Demonstration
from lwd.actor.process import Rig
from lwd.actor.robot import Status
from lwd.config.collection import CollectConfig
from lwd.episode.types import Kind
from lwd.sim.collect.attempt import Attempt
from lwd.sim.collect.run import collect
from lwd.store import weights

SCALE = 0.0004
"""Of the hours of restocking and freezer: 21 s of demonstrations, 15 s of successes and so on."""


class Idle:
    """Explores what comes of doing nothing, every other time."""

    def __init__(self, robot, rng):
        self._expert, self._idle = Expert(robot), rng.random() < 0.5

    def act(self):
        return np.zeros(2, np.float32) if self._idle else self._expert.act()


def make(attempt: Attempt) -> Rig:
    """Rig of the tiny robot; tea diverges."""

    def operator(robot, rng):
        play = attempt.kind is Kind.PLAY
        return Demonstration(lambda: Idle(robot, rng) if play else Expert(robot))

    rollout = attempt.kind is Kind.ROLLOUT
    robot = Diverging if attempt.task == "tea" else PointRobot
    return Rig(
        robot=lambda: robot(attempt.robot),
        operator=None if rollout else operator,
        build=build if rollout else None,
    )


class Diverging(PointRobot):
    """Its physics never holds."""

    def _status(self):
        return Status.INVALID


def build(tensors, metadata, version):
    return PointPolicy(gain=float(tensors["gain"][0]), version=version)


def policies(folder: Path) -> tuple[Path, ...]:
    """Files of a policy that goes to the goal and one that flees it."""
    paths = folder / "goes.safetensors", folder / "flees.safetensors"
    for path, gain in zip(paths, (1.0, -2.5), strict=True):
        tensors = {"gain": np.full(1, gain, np.float32)}
        path.write_bytes(weights.encode(tensors, {"robot": "point"}))
    return paths


def config(root: Path, **changes) -> CollectConfig:
    """Settings of the buffer in a folder."""
    given = {"scale": SCALE, "tasks": ("freezer", "restocking"), "workers": 1}
    return CollectConfig(root=root, policies=policies(root), **(given | changes))


if __name__ == "__main__":
    collect(config(Path(sys.argv[1])), make=make)
