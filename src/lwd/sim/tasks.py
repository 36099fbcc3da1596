"""The tasks of the simulated fleet."""

from lwd.errors import unknown
from lwd.sim.freezer import FREEZER
from lwd.sim.restocking import RESTOCKING
from lwd.sim.task import TaskSpec

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in (RESTOCKING, FREEZER)}


def task(name: str) -> TaskSpec:
    """Task by name."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
