"""What a task is: things and furniture, layouts to draw, sub-steps to judge and steps to take."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from lwd.sim.liquids import Liquids
from lwd.sim.things import Thing, Vessel

if TYPE_CHECKING:
    from lwd.sim.hands import Hands
    from lwd.sim.scene import Scene

TABLE_Z = 0.70
"""Height of the table top, m."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a thing stands at reset."""

    thing: Thing
    position: tuple[float, float, float]
    """Its centre, m."""
    yaw: float
    """rad."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What differs from scene to scene beside the layout; 1 and 0 are the nominal world."""

    mass: float = 1.0
    """Factor on the masses of all things."""
    friction: float = 1.0
    """Factor on the sliding friction of all things and the finger pads."""
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on the light's red, green and blue."""
    camera_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Displacement of the head camera."""


def draw_variation(rng: np.random.Generator) -> Variation:
    """Draw how a scene differs from the nominal one."""
    return Variation(
        mass=rng.uniform(0.8, 1.2),
        friction=rng.uniform(0.85, 1.15),
        light=tuple(rng.uniform(0.8, 1.2, 3).tolist()),
        camera_m=tuple(rng.uniform(-0.01, 0.01, 3).tolist()),
    )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Everything about a scene that a seed decides."""

    target: Thing
    """The thing that the instruction names first."""
    items: tuple[Placement, ...]
    """All things present, the target among them; the task's other things are absent."""
    fixture: tuple[float, float, float, float]
    """x, y, z, yaw of the task's furniture."""
    goal: tuple[float, float, float]
    """Where the foot of the target is to stand in the end, m."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What fills the fields of the instruction; `item` is the target's name."""
    variation: Variation = field(default_factory=Variation)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A row of the expert's table: what shall hold, and what to do until it does."""

    name: str
    done: Callable[["Scene", Thing], bool]
    """Whether the step holds for a thing, from any state."""
    skill: Callable[["Hands", Thing], Iterator[None]]
    """Works towards it, one control tick per item yielded; may give up early."""


def flawless(scene: "Scene", before: Liquids) -> bool:
    """No minor imperfection."""
    return False


def spilt(*vessels: Vessel) -> Callable[["Scene", Liquids], bool]:
    """The imperfection that more than a tenth of what ran out of a vessel missed."""
    return lambda scene, before: any(scene.liquids.missed(v, before) > 0.1 for v in vessels)


@dataclass(frozen=True, kw_only=True)
class Subtask:
    """An annotated sub-step (V-A). It counts from the tick at which it and all before it held."""

    name: str
    done: Callable[["Scene"], bool]
    things: tuple[str, ...]
    """Names of the bodies on which it is worked: a gripper that closes on one is an attempt."""
    flawed: Callable[["Scene", Liquids], bool] = flawless
    """Whether it was done with a minor imperfection, asked when it is done; given the volumes at
    its beginning too."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A task of the simulated fleet; `lwd.sim.tasks.TASKS` lists them."""

    name: str
    time_limit_s: float
    templates: tuple[str, ...]
    """Wordings of the instruction; `{item}` and the layout's words are filled in."""
    things: tuple[Thing, ...]
    """All things that a layout may use, in the order of their bodies."""
    furnish: Callable[[mujoco.MjSpec, mujoco.MjsBody], None]
    """Adds the things to the model, and the furniture to the body `fixture`, which stands where
    the layout says."""
    draw: Callable[[np.random.Generator, bool], Layout]
    """Draws a layout, from the held-out split if asked; the two splits share none."""
    subtasks: tuple[Subtask, ...]
    """What is to be done, in order, at most eight; with the last of them the task is."""
    needed: Callable[["Scene"], Iterable[Thing]]
    """Things without which the task cannot succeed: one that falls off the table ends it."""
    steps: tuple[Step, ...]
    """In order: the first that does not hold is the one to work on."""
    joints: tuple[str, ...] = ()
    """Doors, lids and knobs whose angles are in the state, at most two."""
    prepare: Callable[["Scene"], None] | None = None
    """Sets what a layout does not: volumes, beads, welds. Called at the end of a reset."""
    react: Callable[["Scene", float], None] | None = None
    """What contact physics does not simulate; called with the seconds since the last call."""
    scored: bool = False
    """Whether the score is the mean over sub-steps instead of success alone (V-A)."""

    def progress(self, scene: "Scene") -> int:
        """Number of leading steps that hold for the named thing."""
        for count, step in enumerate(self.steps):
            if not step.done(scene, scene.layout.target):
                return count
        return len(self.steps)

    def lost(self, scene: "Scene") -> bool:
        """Whether a thing that the task needs fell off the table."""
        return any(scene.position(thing)[2] < TABLE_Z - 0.1 for thing in self.needed(scene))
