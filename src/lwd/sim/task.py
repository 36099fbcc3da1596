"""What a task is: a fixture to build, layouts to draw, predicates to read and steps to take."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from lwd.sim.items import Sku

if TYPE_CHECKING:
    from lwd.sim.hands import Hands
    from lwd.sim.scene import Scene

TABLE_Z = 0.70
"""Height of the table top, m."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an item stands at reset."""

    sku: Sku
    position: tuple[float, float, float]
    """Centre of the item, m."""
    yaw: float
    """rad."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Everything about a scene that a seed decides."""

    target: Sku
    """The item that the instruction names."""
    items: tuple[Placement, ...]
    """All items present, the target among them; the others of `SKUS` are absent."""
    fixture: tuple[float, float, float, float]
    """x, y, z, yaw of the task's furniture."""
    goal: tuple[float, float, float]
    """Where the item's foot is to stand, m."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A row of a task's table: what shall hold, and what to do until it does."""

    name: str
    done: Callable[["Scene", Sku], bool]
    """Whether the step holds for an item, from any state."""
    skill: Callable[["Hands", Sku], Iterator[None]]
    """Works towards it, one control tick per item yielded; may give up early."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A task of the simulated fleet; `lwd.sim.tasks.TASKS` lists them."""

    name: str
    time_limit_s: float
    templates: tuple[str, ...]
    """Wordings of the instruction; `{item}` stands for the SKU."""
    furnish: Callable[[mujoco.MjsBody], None]
    """Adds the furniture to the body `fixture`, which stands where the layout says."""
    draw: Callable[[np.random.Generator, bool], Layout]
    """Draws a layout, from the held-out split if asked; the two splits share none."""
    success: Callable[["Scene"], bool]
    failure: Callable[["Scene"], bool]
    """Whether the task can no longer succeed."""
    steps: tuple[Step, ...]
    """In order: the first that does not hold is the one to work on."""

    def progress(self, scene: "Scene") -> int:
        """Number of leading steps that hold for the named item."""
        for count, step in enumerate(self.steps):
            if not step.done(scene, scene.layout.target):
                return count
        return len(self.steps)
