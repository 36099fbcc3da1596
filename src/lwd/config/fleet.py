"""A simulated fleet: its robots, what troubles them and how well they are connected."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lwd.config.require import NAME, PLAIN
from lwd.config.robots import IMAGE_SIZES
from lwd.errors import ConfigError, unknown

Span = tuple[float, float]
"""Lowest and highest value of something that is drawn uniformly."""
STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
"""For who reads these from a file with pydantic: no other fields, no silent conversion."""


class FieldError(ConfigError):
    """A field of a nested setting is not usable; `at` is the way to it."""

    def __init__(self, at: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.at = at


def _require(name: str, value: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise FieldError((name,), f"{name} is {value}; allowed: {allowed}.")


@dataclass(frozen=True, kw_only=True)
class DisturbanceConfig:
    """What goes wrong with a robot: how often in a robot hour, drawn anew for every episode, and
    for how long."""

    gripper_stuck_per_h: float = 0.0
    """A gripper stays as it is, whatever it is told."""
    gripper_stuck_s: Span = (2.0, 6.0)
    """For how many robot seconds."""
    camera_frozen_per_h: float = 0.0
    """A camera repeats its last image; only a robot with cameras is concerned."""
    camera_frozen_s: Span = (1.0, 5.0)
    """For how many robot seconds."""
    pushes_per_h: float = 0.0
    """Somebody pushes one of the things, in any horizontal direction."""
    push_s: Span = (0.1, 0.3)
    """For how many robot seconds."""
    push_weights: Span = (0.7, 1.4)
    """Force, in weights of the thing: nothing is flung away, however light."""
    emergency_stops_per_h: float = 0.0
    """Somebody presses the button: the episode ends as interrupted."""
    power_cycles_per_h: float = 0.0
    """The power goes: the robot's process dies at once, and is started again by its supervisor."""

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name.endswith("_per_h"):
                _require(each.name, value, 0 <= value < math.inf, "0 or more in an hour")
            else:
                low, high = value
                allowed = "[lowest, highest], both above 0"
                _require(each.name, list(value), 0 < low <= high < math.inf, allowed)


@dataclass(frozen=True, kw_only=True)
class LinkConfig:
    """Quality of the link between a robot and the fleet's services."""

    delay_s: float = 0.0
    """Added to every piece of 16 KiB, each way."""
    bytes_per_s: float = 0.0
    """Bandwidth of a connection, each way; 0 is unlimited."""
    loss: float = 0.0
    """Share of packets that are lost. Only 0 can be simulated: TCP hides losses, and below it one
    needs the rights to change the machine's network."""
    outages_per_h: float = 0.0
    """How often in an hour of wall time all connections break."""
    outage_s: Span = (5.0, 30.0)
    """How long nothing can connect then."""

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for name in ("delay_s", "bytes_per_s", "outages_per_h"):
            value = getattr(self, name)
            _require(name, value, 0 <= value < math.inf, "0 or more")
        low, high = self.outage_s
        allowed = "[lowest, highest], both above 0"
        _require("outage_s", list(self.outage_s), 0 < low <= high < math.inf, allowed)
        _require(
            "loss", self.loss, self.loss == 0, "0, since packets cannot be lost on the loopback; "
            "give delay_s, bytes_per_s or outages_per_h"
        )  # fmt: skip


UNTROUBLED, PERFECT = DisturbanceConfig(), LinkConfig()


@dataclass(frozen=True, kw_only=True)
class RobotConfig:
    """One robot of a fleet."""

    name: str
    """Its own, under which it records, spools and uploads."""
    tasks: tuple[str, ...]
    """Tasks that its episodes are drawn from."""
    disturbance: str = "none"
    """Name of a profile of the fleet, or `none`."""
    link: str = "perfect"
    """Name of a link of the fleet, or `perfect`."""
    cameras: tuple[str, ...] = ()
    """Cameras whose images are kept; none costs no rendering."""
    image_size: int = 96
    """Pixels of a side."""

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        _require("name", repr(self.name), NAME.fullmatch(self.name) is not None, PLAIN)
        _require("tasks", list(self.tasks), bool(self.tasks), "at least one task")
        for name in ("tasks", "cameras"):
            value = getattr(self, name)
            _require(name, list(value), len(set(value)) == len(value), "each name once")
        allowed = f"one of {', '.join(map(str, IMAGE_SIZES))}"
        _require("image_size", self.image_size, self.image_size in IMAGE_SIZES, allowed)


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """The robots of a fleet and what they share."""

    robots: tuple[RobotConfig, ...]
    """At least one."""
    allotment: Mapping[str, int] = field(default_factory=dict)
    """How many robots each task must have; a fleet that does not add up to it is refused."""
    seed: int = 0
    """With a robot's place in the list it decides its scenes."""
    rate: Literal["compact", "full"] = "compact"
    """Control preset: 10 Hz with chunks of 10 ticks, or 30 Hz with 30."""
    split: Literal["train", "held-out"] = "train"
    """Which scenes are drawn; held-out episodes are never trained on."""
    speed: float | None = None
    """Robot seconds per second, 1 for real time; null is as fast as possible."""
    intervene: bool = True
    """Online, a simulated human takes over when a policy is stuck."""
    robots_per_process: int = 1
    """A robot whose power can go has a process of its own all the same."""
    disturbances: Mapping[str, DisturbanceConfig] = field(default_factory=dict)
    """Profiles by name."""
    links: Mapping[str, LinkConfig] = field(default_factory=dict)
    """Qualities of a link by name."""

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        _require("robots", [], bool(self.robots), "at least one robot")
        _require("seed", self.seed, self.seed >= 0, "0 or more")
        fast = self.speed is None or 0 < self.speed < math.inf
        _require("speed", self.speed, fast, "above 0, or null for as fast as possible")
        most = len(self.robots)
        fits = 1 <= self.robots_per_process <= most
        allowed = f"1 to {most}, the number of robots"
        _require("robots_per_process", self.robots_per_process, fits, allowed)
        for section, name in (("disturbances", "none"), ("links", "perfect")):
            if name in getattr(self, section):
                taken = f"{name} is what a robot has that names nothing; choose another name."
                raise FieldError((section, name), taken)
        self._check_references()
        self._check_allotment()

    def disturbance(self, robot: RobotConfig) -> DisturbanceConfig:
        """What troubles a robot."""
        return self.disturbances.get(robot.disturbance, UNTROUBLED)

    def link(self, robot: RobotConfig) -> LinkConfig:
        """How a robot is connected."""
        return self.links.get(robot.link, PERFECT)

    def _check_references(self) -> None:
        places: dict[str, int] = {}
        for place, robot in enumerate(self.robots):
            if (first := places.setdefault(robot.name, place)) != place:
                raise FieldError(
                    ("robots", place, "name"),
                    f"name is {robot.name!r}, which robots[{first}] has; each robot needs its own.",
                )
            for name, known in (
                ("disturbance", {*self.disturbances, "none"}),
                ("link", {*self.links, "perfect"}),
            ):
                if (given := getattr(robot, name)) not in known:
                    raise FieldError(("robots", place, name), str(unknown(name, given, known)))

    def _check_allotment(self) -> None:
        dealt = Counter(task for robot in self.robots for task in robot.tasks)
        for task, wanted in self.allotment.items():
            if dealt[task] != wanted:
                raise FieldError(
                    ("allotment", task),
                    f"{wanted} robots shall do {task}, and {dealt[task]} of the "
                    f"{len(self.robots)} have it among their tasks; the two must agree.",
                )
        for place, robot in enumerate(self.robots if self.allotment else ()):
            if stray := next((t for t in robot.tasks if t not in self.allotment), None):
                raise FieldError(
                    ("robots", place, "tasks"),
                    f"{stray} is not in the allotment, which gives robots to "
                    f"{', '.join(self.allotment)}.",
                )
