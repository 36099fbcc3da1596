"""A cheap synthetic robot that makes real episodes in milliseconds, and its operator."""

import math
import time

import numpy as np

from lwd.actor.operator import Operator
from lwd.actor.policy import Build
from lwd.actor.process import Rig
from lwd.actor.recorder import Recording
from lwd.actor.robot import Observation, Robot, Status, Task, Tick
from lwd.config import ControlConfig

CONTROL = ControlConfig(rate_hz=10.0, horizon=5, timestep_s=0.1)
STEP_M = 0.1
TICKS = 12
"""Of a typical episode."""


class PointRobot:
    """A point in the plane that must reach a goal about a metre away.

    State [x, y, goal x, goal y]; the action is the next position, reached at most STEP_M a tick.
    """

    def __init__(self, robot_id: str, tick_s: float):
        self.robot_id = robot_id
        self.control = CONTROL
        self._tick_s = tick_s
        self._position = self._goal = np.zeros(2)

    def reset(self, seed: int) -> Task:
        """A goal in a random direction."""
        rng = np.random.default_rng(seed)
        angle = rng.uniform(0, 2 * math.pi)
        self._position = np.zeros(2)
        self._goal = rng.uniform(0.8, 1.2) * np.array([math.cos(angle), math.sin(angle)])
        return Task(name="reach", instruction="go to the goal", time_limit_s=5.0, seed=seed)

    def observe(self) -> Observation:
        """Where the point and the goal are."""
        state = np.concatenate([self._position, self._goal]).astype(np.float32)
        return Observation(state=state)

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """Move; the episode ends within 2 cm of the goal."""
        ticks = []
        for target in chunk:
            time.sleep(self._tick_s)
            before, step = self.observe(), target - self._position
            self._position = self._position + step * min(1.0, STEP_M / max(math.hypot(*step), 1e-9))
            close = math.hypot(*(self._position - self._goal)) < 0.02
            status = Status.SUCCESS if close else Status.RUNNING
            ticks.append(Tick(observation=before, action=target, status=status))
            if close:
                break
        return ticks

    def stop(self) -> None:
        """A point rests by itself."""


class Guide:
    """Goes straight to the goal."""

    def __init__(self, robot: Robot):
        self._robot = robot

    def wants_control(self, tick: Tick | None) -> bool:
        """Always: nobody else acts."""
        return True

    def act(self) -> np.ndarray:
        """The goal."""
        return self._robot.observe().state[2:]


def point_rig(
    robot_id: str,
    tick_s: float,
    recording: Recording = Recording(),  # noqa: B008
    build: Build | None = None,
) -> Rig:
    """The synthetic robot; each tick takes `tick_s`. Its guide acts, or what `build` makes."""

    def operator(on: Robot, rng: np.random.Generator) -> Operator:
        return Guide(on)

    return Rig(
        robot=lambda: PointRobot(robot_id, tick_s),
        operator=None if build else operator,
        build=build,
        recording=recording,
    )
