"""The tasks of the simulated fleet."""

from lwd.errors import unknown
from lwd.sim.task import TaskSpec
from lwd.sim.tasks.cocktail import COCKTAIL
from lwd.sim.tasks.cooler import COOLER
from lwd.sim.tasks.correction import CORRECTION
from lwd.sim.tasks.freezer import FREEZER
from lwd.sim.tasks.juice import JUICE
from lwd.sim.tasks.restocking import RESTOCKING
from lwd.sim.tasks.shoes import SHOES
from lwd.sim.tasks.tea import TEA

_ALL = (
    RESTOCKING,
    CORRECTION,
    FREEZER,
    COOLER,
    TEA,
    JUICE,
    COCKTAIL,
    SHOES,
)
TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in _ALL}


def task(name: str) -> TaskSpec:
    """Task by name."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
