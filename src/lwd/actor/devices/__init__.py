"""What a person takes over a robot with: plugins of the entry point group `lwd.devices`.

A plugin is a function of (robot, where) that gives an `lwd.actor.attended.Device`; `where` is what
follows the colon in `--device NAME:WHERE`, empty without one. The fleet's page is always there.
"""

from importlib.metadata import entry_points

from lwd.actor.attended import Device
from lwd.actor.devices.page import page
from lwd.actor.robot import Robot
from lwd.config.guidance import PAGE
from lwd.errors import unknown

GROUP = "lwd.devices"


def device(name: str, robot: Robot) -> Device:
    """The device that `NAME` or `NAME:WHERE` names; ConfigError with all that are installed."""
    plugin, _, where = name.partition(":")
    if plugin == PAGE:
        return page(robot, where)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if plugin not in found:
        raise unknown("device", plugin, [PAGE, *found])
    return found[plugin].load()(robot, where)
