"""The step-wise score of the long tasks (V-A), kept by the events of an episode.

Each annotated sub-step scores 1 when it holds after the first attempt without an imperfection, 0.5
with one, or after the second attempt, and 0 when it took more attempts or never held. The score of
an episode is the mean. The paper has people judge; here the rubric is:

* An attempt at a sub-step begins when a gripper closes within 6 cm of a thing that the sub-step is
  worked on; the nearest counts. Where it needs several things, the one with most attempts decides.
  A second hand that joins the first one does not begin another attempt.
* Imperfections are what the task says of its sub-step (spilt, askew, nearly off), and any other
  object that moved more than 3 cm without being carried. Where a sub-step may be worked on several
  things, those that the task does not need are others, and once there was an attempt all but those
  attempted. What is welded together, an uncut fruit, is one thing.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from copy import deepcopy
from dataclasses import dataclass, field

import mujoco
import numpy as np

from lwd.sim.body import SIDES
from lwd.sim.hands import SLOT
from lwd.sim.liquids import Liquids
from lwd.sim.scene import Scene
from lwd.sim.task import TABLE_Z, Subtask
from lwd.sim.things import Cluster, Thing

_NEAR = 0.06
_MOVED = 0.03
_CLOSED, _OPEN = 0.035, 0.05
"""Commanded opening below which a gripper counts as closing, and above which it is open again."""
_AT_REST = 0.02


@dataclass(kw_only=True)
class Tally:
    """What has to be remembered of an episode to score it."""

    scores: list[float] = field(default_factory=list)
    """Of the sub-steps that have been done."""
    attempts: dict[str, int] = field(default_factory=dict)
    """At the sub-step at hand, by name of the thing."""
    grips: dict[str, set[str]] = field(default_factory=dict)
    """By name of the thing: the sides that closed on it and have not opened since."""
    closed: set[str] = field(default_factory=set)
    """Sides whose gripper is closed."""
    marks: dict[str, np.ndarray] = field(default_factory=dict)
    """Where each thing was last left, by name."""
    carried: set[str] = field(default_factory=set)
    """Things in a hand, on something in a hand, or still falling from one."""
    disturbed: bool = False
    """Whether another object was moved during the sub-step at hand."""
    before: Liquids = field(default_factory=Liquids)
    """Volumes at the beginning of the sub-step at hand."""


class Scorer:
    """Watches an episode of a task with sub-steps, tick by tick."""

    def __init__(self, scene: Scene) -> None:
        """Start at a reset, before the first tick."""
        self._scene = scene
        self._tally = Tally()
        self._begin()

    @property
    def scores(self) -> tuple[float, ...]:
        """Score of every sub-step as things stand; 0 for those that have not been done."""
        missing = len(self._scene.task.subtasks) - len(self._tally.scores)
        return (*self._tally.scores, *[0.0] * missing)

    def save(self) -> Tally:
        """The record now, independent of what happens next."""
        return deepcopy(self._tally)

    def restore(self, tally: Tally) -> None:
        """Back to a saved record."""
        self._tally = deepcopy(tally)

    def watch(self, target: np.ndarray) -> None:
        """Take note of a tick that ended now; `target` [action] was in force at its end."""
        scene, tally = self._scene, self._tally
        self._follow_grippers(target)
        self._follow_things()
        while len(tally.scores) < scene.reached:
            tally.scores.append(self._score(scene.task.subtasks[len(tally.scores)]))
            self._begin()

    def _score(self, subtask: Subtask) -> float:
        attempts = max(self._tally.attempts.values(), default=1)
        if attempts > 2:
            return 0.0
        flawed = self._tally.disturbed or subtask.flawed(self._scene, self._tally.before)
        return 0.5 if attempts == 2 or flawed else 1.0

    def _begin(self) -> None:
        """Start the record of the next sub-step; what is in a hand already is its first attempt."""
        tally = self._tally
        tally.attempts, tally.disturbed = {}, False
        tally.before = self._scene.liquids.copy()
        worked_on = self._worked_on()
        tally.grips = {n: sides for n, sides in tally.grips.items() if n in worked_on and sides}
        for name in worked_on:
            for side in tally.closed:
                if name not in tally.grips and self._distance(side, name) < 0.002:
                    tally.grips[name] = {side}
        tally.attempts = dict.fromkeys(tally.grips, 1)
        tally.marks = {thing.name: self._scene.position(thing) for thing in self._things()}

    def _worked_on(self) -> tuple[str, ...]:
        """Names of what the sub-step at hand is worked on; none when all are done."""
        subtasks, count = self._scene.task.subtasks, len(self._tally.scores)
        return subtasks[count].things if count < len(subtasks) else ()

    def _to_work_on(self) -> set[str]:
        """Names of those of them that the task needs."""
        needed = {thing.name for thing in self._scene.task.needed(self._scene)}
        return needed.intersection(self._worked_on())

    def _follow_grippers(self, target: np.ndarray) -> None:
        """Count the attempts that begin in this tick."""
        tally = self._tally
        for side in SIDES:
            opening = float(target[SLOT[side]][7])
            if side in tally.closed and opening > _OPEN:
                tally.closed.discard(side)
                for sides in tally.grips.values():
                    sides.discard(side)
            elif side not in tally.closed and opening < _CLOSED:
                tally.closed.add(side)
                self._close(side)

    def _close(self, side: str) -> None:
        """Begin an attempt at the nearest thing, if one is near and the other hand is not at it."""
        gaps = {name: self._distance(side, name) for name in self._worked_on()}
        name = min(gaps, key=lambda name: gaps[name], default="")
        if not gaps or gaps[name] > _NEAR:
            return
        piece = self._scene.one_piece(name)
        name = next(n for n in gaps if n in piece)
        sides = self._tally.grips.setdefault(name, set())
        if not sides:
            self._tally.attempts[name] = self._tally.attempts.get(name, 0) + 1
        sides.add(side)

    def _distance(self, side: str, name: str) -> float:
        """Distance of a gripper from a thing or a part of the furniture, surface to surface, m."""
        scene = self._scene
        thing = next((t for t in scene.task.things if t.name == name), None)
        bodies = thing.bodies if thing else (name,)
        gaps = [
            mujoco.mj_geomDistance(scene.model, scene.data, pad, geom, 1.0, None)
            for pad in (scene.model.geom(f"{side}_{finger}_pad").id for finger in ("fl", "fr"))
            for body in bodies
            for geom in _solid(scene.model, body)
        ]
        return min(gaps, default=np.inf)

    def _things(self) -> list[Thing]:
        """Things that should stay where they are; beads belong to the vessel they are in."""
        items = [item.thing for item in self._scene.layout.items]
        return [thing for thing in items if not isinstance(thing, Cluster)]

    def _follow_things(self) -> None:
        """Notice what is moved without being carried; once on the floor, it may roll."""
        scene, tally = self._scene, self._tally
        worked_on = scene.one_piece(*(tally.attempts or self._to_work_on()))
        in_hands = self._in_hands()
        tally.carried |= in_hands
        for thing in self._things():
            name, position = thing.name, scene.position(thing)
            follow = name in tally.carried or name in worked_on or position[2] < TABLE_Z - 0.1
            if name in tally.carried and name not in in_hands and self._rests(thing):
                tally.carried.discard(name)
            if follow:
                tally.marks[name] = position
            elif np.linalg.norm(position - tally.marks[name]) > _MOVED:
                tally.disturbed = True

    def _in_hands(self) -> set[str]:
        """Names of what is held, of what is welded to that, and of what rests in or on it and on
        nothing that stands."""
        touching = {thing.name: self._scene.touching(thing) for thing in self._things()}
        held = {t.name for t in self._things() if self._scene.holder(t) is not None}
        found = self._scene.one_piece(*held) & touching.keys()
        loose = {n for n, others in touching.items() if others.isdisjoint({"world", "fixture"})}
        while more := {n for n in loose - found if not touching[n].isdisjoint(found)}:
            found |= more
        return found

    def _rests(self, thing: Thing) -> bool:
        return not self._scene.touched(thing) and self._scene.speed(thing) < _AT_REST


def _solid(model: mujoco.MjModel, body: str) -> list[int]:
    """Geoms of a body that take part in collisions."""
    first, count = int(model.body(body).geomadr[0]), int(model.body(body).geomnum[0])
    return [k for k in range(first, first + count) if model.geom_contype[k]]
