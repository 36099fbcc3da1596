"""A tiny robot for tests: a point in the plane that must reach a goal."""

import time
from collections.abc import Mapping

import numpy as np

from lwd.actor.robot import Observation, Status, Task, Tick
from lwd.config import ControlConfig

CONTROL = ControlConfig(rate_hz=10.0, horizon=5, timestep_s=0.1)
STEP = 0.1
"""Longest step of a tick, m."""


class PointRobot:
    """State [x, y, goal x, goal y]; the action is the next position, reached at most STEP a tick.

    Success within 2 cm of the goal, failure more than 2 m from the origin.
    """

    substeps: tuple[float, ...] = ()
    """Scores that every tick reports."""

    def __init__(self, robot_id="point-0", *, tick_s=0.0, camera=False, time_limit_s=5.0):
        self.robot_id = robot_id
        self.control = CONTROL
        self.stopped = 0
        self.seeds: list[int] = []
        self.commands: list[int] = []
        self._tick_s, self._camera, self._time_limit_s = tick_s, camera, time_limit_s
        self._position = self._goal = np.zeros(2)

    def reset(self, seed: int) -> Task:
        self.seeds.append(seed)
        rng = np.random.default_rng(seed)
        self._position = np.zeros(2)
        angle = rng.uniform(0, 2 * np.pi)
        self._goal = rng.uniform(0.8, 1.2) * np.array([np.cos(angle), np.sin(angle)])
        return Task(
            name="reach", instruction="go there", time_limit_s=self._time_limit_s, seed=seed
        )

    def observe(self) -> Observation:
        image = np.full((8, 8, 3), 128, np.uint8)
        return Observation(
            state=np.concatenate([self._position, self._goal]).astype(np.float32),
            images={"top": image} if self._camera else {},
        )

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        self.commands.append(len(chunk))
        ticks = []
        for target in chunk:
            time.sleep(self._tick_s)
            before = self.observe()
            step = target - self._position
            self._position = self._position + step * min(1.0, STEP / max(np.hypot(*step), 1e-9))
            ticks.append(
                Tick(
                    observation=before,
                    action=target,
                    status=self._status(),
                    events=("moved",),
                    substeps=self.substeps,
                )
            )
            if ticks[-1].status is not Status.RUNNING:
                break
        return ticks

    def stop(self) -> None:
        self.stopped += 1

    def _status(self) -> Status:
        if np.hypot(*(self._position - self._goal)) < 0.02:
            return Status.SUCCESS
        return Status.FAILURE if np.hypot(*self._position) > 2 else Status.RUNNING


class PointPolicy:
    """Goes `gain` of the way to the goal in every chunk: 1 succeeds, 0 stays, -2 fails."""

    normalisation_hash = "a" * 64
    tokenizer_hash = "b" * 64

    def __init__(self, gain: float = 1.0, version: int = 1):
        self.gain, self.version = gain, version
        self.seeds: list[int] = []
        self.planned = 0

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        assert instruction == "go there"
        self.planned += 1
        here, goal = observation.state[:2], observation.state[2:]
        target = here + self.gain * (goal - here)
        return np.repeat(target[None], CONTROL.horizon, axis=0)


def build(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], version: int):
    """A PointPolicy of its one tensor."""
    if metadata.get("robot") != "point":
        raise ValueError(f"weights are for robot {metadata.get('robot')!r}, not 'point'.")
    return PointPolicy(float(tensors["gain"][0]), version)


class Expert:
    """Goes to the goal."""

    def __init__(self, robot: PointRobot):
        self._robot = robot

    def act(self) -> np.ndarray:
        return self._robot.observe().state[2:]


class Intervening:
    """Takes over for the ticks in `ticks`, counted from the start of the episode."""

    def __init__(self, robot: PointRobot, ticks: range):
        self._expert, self._ticks, self._now = Expert(robot), ticks, -1
        self.started = 0

    def wants_control(self, tick: Tick | None) -> bool:
        if tick is None:
            self._now, self.started = -1, self.started + 1
        self._now += 1
        return self._now in self._ticks

    def act(self) -> np.ndarray:
        return self._expert.act()
