"""What the demo asks of each robot and of the learner."""

import math
from dataclasses import dataclass

from lwd.config import DemoConfig
from lwd.episode.types import Kind


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A robot of the demo."""

    name: str
    index: int
    tasks: tuple[str, ...]
    quota: dict[Kind, int]
    """Episodes to save of each kind; online has none, it ends with the learner."""


def assignments(config: DemoConfig) -> list[Assignment]:
    """Deal tasks to robots in turn and share each task's episodes among its robots."""
    dealt = [config.tasks[index % len(config.tasks)] for index in range(config.robots)]
    return [_assignment(config, index, dealt) for index in range(config.robots)]


def episodes(fleet: list[Assignment], *kinds: Kind) -> int:
    """Episodes of these kinds that the whole fleet will save."""
    return sum(robot.quota[kind] for robot in fleet for kind in kinds)


def _assignment(config: DemoConfig, index: int, dealt: list[str]) -> Assignment:
    """A fleet smaller than the list of tasks draws all of them on every robot."""
    tasks, share = (dealt[index],), 1 / dealt.count(dealt[index])
    if config.robots < len(config.tasks):
        tasks, share = config.tasks, len(config.tasks) / config.robots
    wanted = {Kind.DEMO: config.demos, Kind.PLAY: config.play, Kind.ROLLOUT: config.rollouts}
    return Assignment(
        name=f"robot-{index:02d}",
        index=index,
        tasks=tasks,
        quota={kind: math.ceil(count * share) for kind, count in wanted.items()},
    )
