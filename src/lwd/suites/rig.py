"""A robot of another simulator, ready for `lwd.actor.process`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import numpy as np

from lwd.actor.operator import Demonstration, Operator
from lwd.actor.process import Rig
from lwd.actor.recorder import Recording
from lwd.actor.robot import Robot
from lwd.config import ControlConfig
from lwd.config.require import require
from lwd.episode.types import Header, Outcome
from lwd.errors import ConfigError, unknown
from lwd.serve.client import Elsewhere, RemotePolicy, Server
from lwd.suites.gym import GymDemonstrator, GymRobot, GymTask

SUITES = ("metaworld", "ogbench", "libero")
"""Modules of this package, each with `tasks(cameras_px)` and `CONTROL`."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What a simulator offers."""

    name: str
    tasks: tuple[GymTask, ...]
    control: ControlConfig


def load(name: str, cameras_px: int = 0) -> Suite:
    """The suite `name`; with `cameras_px` above 0 its robots see square images of that size.

    Raises ConfigError for another name, or where the suite is not installed.
    """
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    require(cameras_px >= 0, f"cameras-px is {cameras_px}; 0 keeps no images.")
    try:
        module = import_module(f"lwd.suites.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"suite {name} needs {error.name}, which is not installed here: `make suites` gives "
            f"every suite a virtual environment of its own; run .suites/{name}/bin/lwd suite {name}"
        ) from error
    return Suite(name=name, tasks=module.tasks(cameras_px=cameras_px), control=module.CONTROL)


def choose(suite: Suite, names: Sequence[str]) -> tuple[GymTask, ...]:
    """Tasks by name or by the beginning of their names, without that of the suite if you like:
    `scene` and `ogbench-scene` are `ogbench-scene-1` to `-5`. All of the suite if none is named;
    ConfigError for a name that none has."""
    chosen: list[GymTask] = []
    for name in names:
        whole = f"{suite.name}-{name.removeprefix(f'{suite.name}-')}"
        found = [t for t in suite.tasks if t.name == whole or t.name.startswith(f"{whole}-")]
        if not found:
            raise unknown("task", name, [task.name for task in suite.tasks])
        chosen += found
    return tuple(chosen) or suite.tasks


def rig(
    suite: Suite,
    names: Sequence[str],
    *,
    robot_id: str,
    cameras: bool = False,
    server: Server | None = None,
    ended: Callable[[Header], None] | None = None,
) -> Rig:
    """Parts of a robot that demonstrates tasks of a suite with the suite's experts.

    With `server` a policy server drives it instead, to record rollouts. `ended` gets the header of
    each episode, also of demonstrations that failed and are not kept.
    """
    chosen, recording = choose(suite, names), Recording(ended=ended)

    def robot() -> Robot:
        return GymRobot(chosen, control=suite.control, robot_id=robot_id, cameras=cameras)

    def operator(on: Robot, rng: np.random.Generator) -> Operator:
        assert isinstance(on, GymRobot)
        return Demonstration(partial(GymDemonstrator, on, rng))

    if server is None:
        return Rig(robot=robot, operator=operator, recording=recording)
    remote = RemotePolicy(server, suite.control)
    return Rig(robot=robot, policies=lambda: Elsewhere(remote), recording=recording)


def scores(ended: Iterable[Header]) -> dict[str, tuple[int, int]]:
    """Successes and judged episodes of each task."""
    found: dict[str, list[bool]] = {}
    for about in ended:
        if about.outcome.judged:
            found.setdefault(about.task, []).append(about.outcome is Outcome.SUCCESS)
    return {task: (sum(ends), len(ends)) for task, ends in sorted(found.items())}
