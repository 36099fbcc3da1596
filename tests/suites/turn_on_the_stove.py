"""Two episodes of a LIBERO task whose policy does nothing; in one, the knob turns by itself.

Run in the suite's own environment by `test_episode.py`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from lwd.actor.loop import run_episode
from lwd.actor.robot import Observation
from lwd.episode.payload import encode
from lwd.episode.types import Kind
from lwd.suites import GymRobot, choose, load

TURNED_RAD = 1.0


class Hold:
    """A policy that holds the hand where it is."""

    version, normalisation_hash, tokenizer_hash = 1, "", ""

    def __init__(self, robot: GymRobot, *, turns: bool) -> None:
        self._robot, self._turns, self._chunks = robot, turns, 0

    def reset(self, seed: int) -> None:
        self._chunks = 0

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        self._chunks += 1
        if self._turns and self._chunks == 2:
            physics = self._robot.environment.simulation.env.sim
            physics.data.set_joint_qpos("flat_stove_1_button", TURNED_RAD)
            physics.forward()
        return np.zeros((self._robot.control.horizon, 7))


suite = load("libero", cameras_px=128)
(task,) = choose(suite, ["libero-goal-7"])
robot = GymRobot(
    [replace(task, time_limit_s=2.0)], control=suite.control, robot_id="l0", cameras=True
)
for name in ("no", "yes"):
    policy = Hold(robot, turns=name == "yes")
    episode = run_episode(robot, 0, policy, None, kind=Kind.ROLLOUT)
    assert episode is not None
    (Path(sys.argv[1]) / f"{name}.arrow").write_bytes(encode(episode))
robot.close()
