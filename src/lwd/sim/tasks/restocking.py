"""Restocking: put the named item into the gap on a two-tier shelf (task 1 of V-A)."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator

import mujoco
import numpy as np

from lwd.sim.goods import SKUS, add_goods
from lwd.sim.hands import Hands
from lwd.sim.scene import Scene
from lwd.sim.skills import free_spot, pick, place
from lwd.sim.task import TABLE_Z, Layout, Placement, Step, Subtask, TaskSpec
from lwd.sim.things import Thing

_TIERS = ((0.0, 0.04, 0.08), (0.09, 0.05, 0.20))
"""x of the middle, half depth and height of a tier, in the shelf's frame."""
_HALF_WIDTH = 0.24
_SHELF_X = 0.62
_PLACES = tuple((x, y, height) for x, _, height in _TIERS for y in (-0.14, 0.0, 0.14))
_SPOTS = tuple((0.42, y) for y in (-0.36, -0.22, -0.08, 0.08, 0.22, 0.36))
_TOLERANCE = 0.04
_NEIGHBOUR_TOLERANCE = 0.03


def furnish(spec: mujoco.MjSpec, fixture: mujoco.MjsBody) -> None:
    """Add the goods and two steps, the higher one behind, with a panel that keeps goods on it."""
    add_goods(spec)
    for x, depth, height in _TIERS:
        fixture.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=[depth, _HALF_WIDTH, height / 2],
            pos=[x, 0, height / 2], rgba=[0.55, 0.55, 0.65, 1],
        )  # fmt: skip
    x, depth, height = _TIERS[-1]
    fixture.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.005, _HALF_WIDTH, (height + 0.1) / 2],
        pos=[x + depth + 0.005, 0, (height + 0.1) / 2], rgba=[0.45, 0.45, 0.55, 1],
    )  # fmt: skip


def held_out(thing: Thing, place: int) -> bool:
    """Whether a pair is kept for evaluation: each SKU at one of the six places."""
    return (SKUS.index(thing) + place) % len(_PLACES) == 0


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the pair of item and gap, two to four shelf neighbours, and four to six on the table."""
    pairs = [(s, p) for s in SKUS for p in range(len(_PLACES)) if held_out(s, p) == evaluation]
    target, gap = pairs[rng.integers(len(pairs))]
    others = [SKUS[i] for i in rng.permutation(len(SKUS)) if SKUS[i] is not target]
    shelf = (_SHELF_X + rng.uniform(-0.01, 0.01), rng.uniform(-0.03, 0.03), TABLE_Z)
    yaw = rng.uniform(-0.05, 0.05)
    taken = rng.permutation([p for p in range(len(_PLACES)) if p != gap])[: rng.integers(2, 5)]
    spots = rng.permutation(len(_SPOTS))[: rng.integers(4, 7)]
    items = [
        _placement(others.pop(), _on_shelf(_PLACES[p], shelf, yaw), rng.uniform(-0.2, 0.2))
        for p in taken
    ]
    for k, spot in enumerate(spots):
        x, y = np.array(_SPOTS[spot]) + rng.uniform(-0.015, 0.015, 2)
        thing = target if k == 0 else others.pop()
        items.append(_placement(thing, (x, y, TABLE_Z), rng.uniform(-0.2, 0.2)))
    goal = _on_shelf(_PLACES[gap], shelf, yaw)
    return Layout(target=target, items=tuple(items), fixture=(*shelf, yaw), goal=goal)


def _on_shelf(
    place: tuple[float, float, float], shelf: tuple[float, float, float], yaw: float
) -> tuple[float, float, float]:
    """A place of the shelf in the robot's frame."""
    x, y, z = place
    turned = (x * np.cos(yaw) - y * np.sin(yaw), x * np.sin(yaw) + y * np.cos(yaw), z)
    return (shelf[0] + turned[0], shelf[1] + turned[1], shelf[2] + turned[2])


def _placement(thing: Thing, foot: tuple[float, float, float], yaw: float) -> Placement:
    x, y, z = (float(v) for v in foot)
    return Placement(thing=thing, position=(x, y, z + thing.shape.height / 2), yaw=yaw)


def in_gap(scene: Scene, thing: Thing) -> bool:
    """Whether an item stands upright in the gap, settled and let go."""
    offset = scene.position(thing) - scene.layout.goal - [0, 0, thing.shape.height / 2]
    return bool(
        np.linalg.norm(offset[:2]) < _TOLERANCE
        and abs(offset[2]) < 0.01
        and scene.upright(thing) > 0.9
        and scene.speed(thing) < 0.02
        and not scene.touched(thing)
    )


def neighbours(scene: Scene) -> list[Placement]:
    """The goods that stood on the shelf from the start."""
    return [item for item in scene.layout.items if item.position[2] > TABLE_Z + 0.1]


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


def _intruder(scene: Scene, thing: Thing) -> Thing | None:
    """Another item that stands in the gap."""
    for item in scene.layout.items:
        offset = scene.position(item.thing) - scene.layout.goal
        if item.thing is not thing and np.linalg.norm(offset[:2]) < 0.06 and offset[2] > 0:
            return item.thing
    return None


def _remove_intruder(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put what stands in the gap back on the table."""
    intruder = _intruder(hands.scene, thing)
    if intruder is not None:
        yield from pick(hands, intruder)
        side = hands.scene.holder(intruder)
        if side is not None:
            yield from place(hands, intruder, free_spot(hands.scene, side))


def _restore_neighbour(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put a neighbour that was moved back where it stood."""
    item = next(n for n in neighbours(hands.scene) if not kept(hands.scene, n))
    yield from pick(hands, item.thing)
    foot = np.array(item.position) - [0, 0, item.thing.shape.height / 2]
    yield from place(hands, item.thing, foot)


def _gap_free(scene: Scene, thing: Thing) -> bool:
    return _intruder(scene, thing) is None


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
