"""Restocking: put the named item into the gap on a two-tier shelf (task 1 of V-A)."""

from collections.abc import Iterator

import numpy as np

from lwd.sim.goods import SKUS
from lwd.sim.hands import Hands
from lwd.sim.scene import Scene
from lwd.sim.shelf import (
    PLACES,
    SPOTS,
    at_rest,
    draw_pair,
    draw_shelf,
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

_TOLERANCE = 0.04
_NEIGHBOUR_TOLERANCE = 0.03


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the pair of item and gap, two to four shelf neighbours, and four to six on the table."""
    target, gap = draw_pair(rng, evaluation)
    others = [SKUS[i] for i in rng.permutation(len(SKUS)) if SKUS[i] is not target]
    shelf = draw_shelf(rng)
    taken = rng.permutation([p for p in range(len(PLACES)) if p != gap])[: rng.integers(2, 5)]
    spots = rng.permutation(len(SPOTS))[: rng.integers(4, 7)]
    items = [placement(rng, others.pop(), on_shelf(PLACES[p], shelf)) for p in taken]
    table = [target, *(others.pop() for _ in spots[1:])]
    return Layout(
        target=target,
        items=(*items, *scatter(rng, table, spots)),
        fixture=shelf,
        goal=on_shelf(PLACES[gap], shelf),
    )


def in_gap(scene: Scene, thing: Thing) -> bool:
    """Whether an item stands upright in the gap, settled and let go."""
    offset = scene.position(thing) - scene.layout.goal - [0, 0, thing.shape.height / 2]
    near = np.linalg.norm(offset[:2]) < _TOLERANCE and abs(offset[2]) < 0.01
    return bool(near and at_rest(scene, thing))


def kept(scene: Scene, item: Placement) -> bool:
    """Whether a neighbour still stands where it stood."""
    shift = np.linalg.norm(scene.position(item.thing) - item.position)
    return bool(shift < _NEIGHBOUR_TOLERANCE and scene.upright(item.thing) > 0.9)


def restocked(scene: Scene) -> bool:
    """Whether the named item is in the gap and its neighbours stand where they stood."""
    return in_gap(scene, scene.layout.target) and all(kept(scene, n) for n in neighbours(scene))


def needed(scene: Scene) -> list[Thing]:
    """The named item and its neighbours."""
    return [scene.layout.target, *(item.thing for item in neighbours(scene))]


def _remove_intruder(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put what stands in the gap back on the table."""
    intruder = in_the_gap(hands.scene, thing)
    if intruder is not None:
        yield from pick(hands, intruder)
        side = hands.scene.holder(intruder)
        if side is not None:
            yield from place(hands, intruder, free_spot(hands.scene, side))


def _restore_neighbour(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put a neighbour that was moved back where it stood."""
    item = next(n for n in neighbours(hands.scene) if not kept(hands.scene, n))
    return put_back(hands, item)


def _gap_free(scene: Scene, thing: Thing) -> bool:
    return in_the_gap(scene, thing) is None


def _neighbours_kept(scene: Scene, thing: Thing) -> bool:
    return all(kept(scene, n) or n.thing is thing for n in neighbours(scene))


def _held(scene: Scene, thing: Thing) -> bool:
    return in_gap(scene, thing) or scene.lifted(thing)


def _put(hands: Hands, thing: Thing) -> Iterator[None]:
    return place(hands, thing, np.array(hands.scene.layout.goal))


RESTOCKING = TaskSpec(
    name="restocking",
    time_limit_s=30.0,
    templates=(
        "put the {item} on the shelf",
        "restock the {item}",
        "place the {item} in the gap on the shelf",
        "move the {item} from the table to the shelf",
    ),
    things=SKUS,
    furnish=furnish,
    draw=draw,
    subtasks=(Subtask(name="restocked", done=restocked, things=()),),
    needed=needed,
    steps=(
        Step(name="gap free", done=_gap_free, skill=_remove_intruder),
        Step(name="neighbours kept", done=_neighbours_kept, skill=_restore_neighbour),
        Step(name="held", done=_held, skill=pick),
        Step(name="placed", done=in_gap, skill=_put),
    ),
)
