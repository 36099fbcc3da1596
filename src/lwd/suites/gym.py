"""Any Gymnasium environment as a `lwd.actor.robot.Robot`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import numpy as np

from lwd.actor.robot import Observation, Status, Task, Tick
from lwd.config import ControlConfig
from lwd.errors import ConfigError

Info = Mapping[str, Any]
Images = Mapping[str, np.ndarray]


@runtime_checkable
class Environment(Protocol):
    """What is used of `gymnasium.Env`."""

    @property
    def action_space(self) -> Any:
        """A `gymnasium.spaces.Box` of one dimension."""
        ...

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; observation and info."""
        ...

    def step(self, action: np.ndarray) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One tick; observation, reward, terminated, truncated, info."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@runtime_checkable
class Expert(Protocol):
    """A scripted policy that comes with a suite; made anew for every episode."""

    def act(self, observation: Any, info: Info) -> np.ndarray:
        """[action] in the environment's units."""
        ...


def flat(environment: Any, observation: Any, info: Info) -> np.ndarray:
    """[state] of an observation that is an array."""
    return np.asarray(observation, np.float32).ravel()


def no_images(environment: Any, observation: Any, info: Info) -> Images:
    """Of an environment that is not looked at."""
    return {}


@dataclass(frozen=True, kw_only=True)
class GymTask:
    """A task that a Gymnasium environment sets."""

    name: str
    instruction: str
    """The language command; most environments have none of their own."""
    make: Callable[[], Any]
    """Makes the `Environment`; called once."""
    time_limit_s: float
    """Robot seconds; the environment's own limit is a time-out as well."""
    body: str = ""
    """Tasks that name different ones have states or actions of different sizes."""
    succeeded: Callable[[Info], bool] = lambda info: bool(info.get("success", False))
    """Whether the task is done, by the info of a tick."""
    state: Callable[[Any, Any, Info], np.ndarray] = flat
    """[state] of environment, observation and info."""
    images: Callable[[Any, Any, Info], Images] = no_images
    """Camera to [height, width, 3] uint8; called where images are kept, not at every tick."""
    expert: Callable[[Any, np.random.Generator], Expert] | None = None
    """Makes who demonstrates one episode, from the environment."""


class GymRobot:
    """A robot that carries out actions in Gymnasium environments, one tick per step.

    Actions are cut to the bounds of the action space. `terminated` without success is a failure;
    numbers that are not finite end the episode as invalid. Each reset draws one of `tasks` from the
    seed; their states and actions have the same sizes. Raises ConfigError where they do not.
    """

    def __init__(
        self,
        tasks: Sequence[GymTask],
        *,
        control: ControlConfig,
        robot_id: str,
        cameras: bool = False,
    ) -> None:
        if not tasks:
            raise ConfigError(f"robot {robot_id} has no tasks; give at least one.")
        first = tasks[0]
        if other := next((task for task in tasks if task.body != first.body), None):
            raise ConfigError(
                f"{first.name} is for the body {first.body!r}, {other.name} for {other.body!r}; "
                "give tasks of one body to one robot."
            )
        self.control, self.robot_id = control, robot_id
        self._tasks, self._cameras = tuple(tasks), cameras
        self._environments: dict[str, Any] = {}
        self._sizes: tuple[int, int] | None = None
        self.task: GymTask
        self.raw: tuple[Any, Info]
        """Observation and info of the environment, as they came."""
        self._observation: Observation | None = None
        self._tick = 0
        self._status = Status.RUNNING

    def reset(self, seed: int) -> Task:
        """Draw a task and start an episode of it."""
        rng = np.random.default_rng(seed)
        self.task = self._tasks[rng.integers(len(self._tasks))]
        if self.task.name not in self._environments:
            self._environments[self.task.name] = self.task.make()
        self.raw = self.environment.reset(seed=int(rng.integers(2**31)))
        self._status, self._observation, self._tick = Status.RUNNING, None, 0
        self._check_sizes()
        return Task(
            name=self.task.name,
            instruction=self.task.instruction,
            time_limit_s=self.task.time_limit_s,
            seed=seed,
        )

    @property
    def environment(self) -> Any:
        """The `Environment` of the running episode."""
        return self._environments[self.task.name]

    def observe(self) -> Observation:
        """The state now, with images if the robot was made to look."""
        if self._observation is None:
            images = self.task.images(self.environment, *self.raw) if self._cameras else {}
            self._observation = Observation(state=self._state(), images=images)
        return self._observation

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """Execute [ticks, action]; ValueError on a wrong shape or a number that is not finite.

        An observation has images where `observe` was asked for it, and once a horizon from the
        reset on: nobody keeps more.
        """
        chunk = np.asarray(chunk, np.float32)
        low, high = self._bounds
        if chunk.ndim != 2 or chunk.shape[1:] != low.shape or not np.isfinite(chunk).all():
            raise ValueError(
                f"chunk has shape {chunk.shape} and {np.sum(~np.isfinite(chunk))} non-finite "
                f"numbers; {self.task.name} expects finite [ticks, {len(low)}]."
            )
        ticks: list[Tick] = []
        for action in np.clip(chunk, low, high):
            if self._status is not Status.RUNNING:
                break
            ticks.append(self._step(action))
        return ticks

    def stop(self) -> None:
        """Nothing moves between steps."""

    def close(self) -> None:
        """Free the environments."""
        while self._environments:
            self._environments.popitem()[1].close()

    def _step(self, action: np.ndarray) -> Tick:
        before = self._sensed()
        observation, _, terminated, truncated, info = self.environment.step(action)
        sane = np.isfinite(self.task.state(self.environment, observation, info)).all()
        self._tick += 1
        # After a divergence the sensors keep their last sane reading.
        self._observation = None if sane else before
        if sane:
            self.raw = observation, info
        self._status = self._judged(bool(sane), terminated, truncated, info)
        return Tick(observation=before, action=action, status=self._status)

    def _sensed(self) -> Observation:
        """What is known before a tick."""
        if self._observation is None and self._tick % self.control.horizon:
            return Observation(state=self._state())
        return self.observe()

    def _state(self) -> np.ndarray:
        return self.task.state(self.environment, *self.raw)

    def _judged(self, sane: bool, terminated: bool, truncated: bool, info: Info) -> Status:
        if not sane:
            return Status.INVALID
        if self.task.succeeded(info):
            return Status.SUCCESS
        if terminated:
            return Status.FAILURE
        return Status.TIMEOUT if truncated else Status.RUNNING

    @property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        space = self.environment.action_space
        return np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)

    def _check_sizes(self) -> None:
        """A robot has one body: all of its tasks must agree on the sizes of state and action."""
        low, _ = self._bounds
        sizes = (len(self._state()), len(low))
        if low.ndim != 1:
            raise ConfigError(
                f"{self.task.name} takes actions of shape {low.shape}; expected one dimension."
            )
        if self._sizes not in (None, sizes):
            raise ConfigError(
                f"{self.task.name} has (state, action) of {sizes}, the tasks before it of "
                f"{self._sizes}; give tasks of one body to one robot."
            )
        self._sizes = sizes


class GymDemonstrator:
    """`lwd.actor.operator.Demonstrator`: the expert of the episode that the robot is in."""

    def __init__(self, robot: GymRobot, rng: np.random.Generator) -> None:
        self._robot, self._rng = robot, rng

    @cached_property
    def _expert(self) -> Expert:
        task = self._robot.task
        if task.expert is None:
            raise ConfigError(
                f"{task.name} comes without an expert; record rollouts of a policy instead."
            )
        return task.expert(self._robot.environment, self._rng)

    def act(self) -> np.ndarray:
        """[action] of the next tick."""
        return np.asarray(self._expert.act(*self._robot.raw), np.float32)
