"""Misplaced-item correction: bring the named intruder back to its zone (task 2 of V-A).

Boxes, cans and bottles each have a column of the shelf, their zone; which one differs from scene to
scene. One item stands among another kind.
"""

from collections.abc import Iterator

import numpy as np

from lwd.sim.geometry import UP
from lwd.sim.goods import SHAPES, SKUS
from lwd.sim.hands import Hands
from lwd.sim.scene import Scene
from lwd.sim.shelf import (
    COLUMNS,
    PLACES,
    SPOTS,
    at_rest,
    draw_pair,
    draw_shelf,
    from_shelf,
    furnish,
    in_the_gap,
    neighbours,
    on_shelf,
    placement,
    put_back,
    scatter,
)
from lwd.sim.skills import free_spot, pick, place
from lwd.sim.task import Layout, Placement, Step, Subtask, TaskSpec
from lwd.sim.things import Thing

_ZONE = 0.06
"""Half width of a zone, m: an item's axis is to be within it."""
_GROUPS = {"box": "boxes", "can": "cans", "bottle": "bottles"}
_ZONES = ("right", "middle", "left")
"""The columns of the shelf, as the robot sees them."""


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw intruder and free place, the zones, who fills them, and one to three on the table."""
    target, free = draw_pair(rng, evaluation)
    own = free % len(COLUMNS)
    kinds = [shape.kind for shape in rng.permutation(np.array(SHAPES, object))]
    kinds.remove(target.shape.kind)
    kinds.insert(own, target.shape.kind)
    wrong = rng.choice([p for p in range(len(PLACES)) if p % len(COLUMNS) != own])
    others = [SKUS[i] for i in rng.permutation(len(SKUS)) if SKUS[i] is not target]
    shelf = draw_shelf(rng)
    items = [placement(rng, target, on_shelf(PLACES[wrong], shelf))]
    for p in (p for p in range(len(PLACES)) if p not in (free, wrong)):
        thing = next(s for s in others if s.shape.kind == kinds[p % len(COLUMNS)])
        others.remove(thing)
        items.append(placement(rng, thing, on_shelf(PLACES[p], shelf)))
    spots = rng.permutation(len(SPOTS))[: rng.integers(1, 4)]
    items += scatter(rng, others[: len(spots)], spots)
    return Layout(
        target=target,
        items=tuple(items),
        fixture=shelf,
        goal=on_shelf(PLACES[free], shelf),
        words={"group": _GROUPS[target.shape.kind], "zone": _ZONES[own]},
    )


def zone(scene: Scene, thing: Thing, point: np.ndarray) -> int | None:
    """The column of the shelf in which a thing stands when its centre is at a point."""
    foot = from_shelf(point - thing.shape.height / 2 * UP, scene.layout.fixture)
    within = np.abs(foot - PLACES) < (0.045, _ZONE, 0.01)
    return next((p % len(COLUMNS) for p, near in enumerate(within) if near.all()), None)


def corrected(scene: Scene, thing: Thing) -> bool:
    """Whether the intruder stands among its kind, settled and let go."""
    goal = np.array(scene.layout.goal) + thing.shape.height / 2 * UP
    own = zone(scene, thing, scene.position(thing)) == zone(scene, thing, goal)
    return own and at_rest(scene, thing)


def kept(scene: Scene, item: Placement) -> bool:
    """Whether another item still stands in its zone."""
    now = zone(scene, item.thing, scene.position(item.thing))
    return now == zone(scene, item.thing, np.array(item.position)) and (
        scene.upright(item.thing) > 0.9
    )


def in_order(scene: Scene) -> bool:
    """Whether everything on the shelf stands among its kind."""
    return corrected(scene, scene.layout.target) and all(kept(scene, n) for n in neighbours(scene))


def needed(scene: Scene) -> list[Thing]:
    """Everything that stood on the shelf."""
    return [scene.layout.target, *(item.thing for item in neighbours(scene))]


def _misplaced(scene: Scene, thing: Thing) -> Placement | None:
    """Another item that left its zone or stands in the place of `thing`."""
    others = [item for item in neighbours(scene) if item.thing is not thing]
    away = next((item for item in others if not kept(scene, item)), None)
    gone = in_the_gap(scene, thing)
    return away or next((item for item in scene.layout.items if item.thing is gone), None)


def _others_right(scene: Scene, thing: Thing) -> bool:
    return _misplaced(scene, thing) is None


def _put_back(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put another item back where it stood; what stood nowhere else goes to the table."""
    item = _misplaced(hands.scene, thing)
    if item is not None and item.thing is hands.scene.layout.target:
        yield from pick(hands, item.thing)
        side = hands.scene.holder(item.thing)
        if side is not None:
            yield from place(hands, item.thing, free_spot(hands.scene, side))
    elif item is not None:
        yield from put_back(hands, item)


def _held(scene: Scene, thing: Thing) -> bool:
    return corrected(scene, thing) or scene.lifted(thing)


def _put(hands: Hands, thing: Thing) -> Iterator[None]:
    return place(hands, thing, np.array(hands.scene.layout.goal))


CORRECTION = TaskSpec(
    name="correction",
    time_limit_s=30.0,
    templates=(
        "the {item} is misplaced, put it with the {group}",
        "move the {item} back to the {group} on the {zone}",
        "put the misplaced {item} in the {zone} zone of the shelf",
        "the {item} belongs with the other {group}, correct it",
        "correct the shelf: the {item} goes to the {zone} column",
    ),
    things=SKUS,
    furnish=furnish,
    draw=draw,
    subtasks=(Subtask(name="corrected", done=in_order, things=()),),
    needed=needed,
    steps=(
        Step(name="others right", done=_others_right, skill=_put_back),
        Step(name="held", done=_held, skill=pick),
        Step(name="corrected", done=corrected, skill=_put),
    ),
)
