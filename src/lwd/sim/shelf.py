"""The two-tier shelf of the grocery tasks: its six places, what stands on it, and keeping it so."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator, Sequence

import mujoco
import numpy as np

from lwd.sim.goods import SKUS, add_goods
from lwd.sim.hands import Hands
from lwd.sim.scene import Scene
from lwd.sim.skills import pick, place
from lwd.sim.task import TABLE_Z, Placement
from lwd.sim.things import Thing

_TIERS = ((0.0, 0.04, 0.08), (0.09, 0.05, 0.20))
"""x of the middle, half depth and height of a tier, in the shelf's frame."""
_HALF_WIDTH = 0.24
_SHELF_X = 0.62
COLUMNS = (-0.14, 0.0, 0.14)
"""y of the places of a tier, in the shelf's frame."""
PLACES = tuple((x, y, height) for x, _, height in _TIERS for y in COLUMNS)
SPOTS = tuple((0.42, y) for y in (-0.36, -0.22, -0.08, 0.08, 0.22, 0.36))
"""Places in a row on the table before the shelf."""


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
    return (SKUS.index(thing) + place) % len(PLACES) == 0


def draw_pair(rng: np.random.Generator, evaluation: bool) -> tuple[Thing, int]:
    """Draw an item and its place, a pair of one of the two splits."""
    pairs = [(s, p) for s in SKUS for p in range(len(PLACES)) if held_out(s, p) == evaluation]
    return pairs[rng.integers(len(pairs))]


def draw_shelf(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw where the shelf stands: x, y, z, yaw."""
    x, y = _SHELF_X + rng.uniform(-0.01, 0.01), rng.uniform(-0.03, 0.03)
    return (x, y, TABLE_Z, rng.uniform(-0.05, 0.05))


def on_shelf(
    place: tuple[float, float, float], shelf: tuple[float, float, float, float]
) -> tuple[float, float, float]:
    """A point of the shelf's frame in the robot's."""
    x, y, z = place
    cosine, sine = np.cos(shelf[3]), np.sin(shelf[3])
    turned = (x * cosine - y * sine, x * sine + y * cosine)
    return (shelf[0] + turned[0], shelf[1] + turned[1], shelf[2] + z)


def from_shelf(point: np.ndarray, shelf: tuple[float, float, float, float]) -> np.ndarray:
    """[3] a point of the robot's frame in the shelf's."""
    x, y, z = point - shelf[:3]
    cosine, sine = np.cos(shelf[3]), np.sin(shelf[3])
    return np.array([x * cosine + y * sine, y * cosine - x * sine, z])


def placement(
    rng: np.random.Generator, thing: Thing, foot: tuple[float, float, float]
) -> Placement:
    """Stand a thing on a point, at a yaw that varies a little."""
    x, y, z = (float(v) for v in foot)
    return Placement(
        thing=thing, position=(x, y, z + thing.shape.height / 2), yaw=rng.uniform(-0.2, 0.2)
    )


def scatter(
    rng: np.random.Generator, things: Sequence[Thing], spots: np.ndarray
) -> list[Placement]:
    """Stand things on the table, each near one of the `SPOTS`, given by their numbers."""
    items = []
    for thing, spot in zip(things, spots, strict=True):
        x, y = np.array(SPOTS[spot]) + rng.uniform(-0.015, 0.015, 2)
        items.append(placement(rng, thing, (x, y, TABLE_Z)))
    return items


def neighbours(scene: Scene) -> list[Placement]:
    """The goods that stood on the shelf from the start, but for the one to be placed."""
    items = [item for item in scene.layout.items if item.thing is not scene.layout.target]
    return [item for item in items if item.position[2] > TABLE_Z + 0.1]


def put_back(hands: Hands, item: Placement) -> Iterator[None]:
    """Put a thing where it stood at the start."""
    yield from pick(hands, item.thing)
    foot = np.array(item.position) - [0, 0, item.thing.shape.height / 2]
    yield from place(hands, item.thing, foot)


def in_the_gap(scene: Scene, thing: Thing) -> Thing | None:
    """Another item that stands where the named one belongs."""
    for item in scene.layout.items:
        offset = scene.position(item.thing) - scene.layout.goal
        if item.thing is not thing and np.linalg.norm(offset[:2]) < 0.06 and offset[2] > 0:
            return item.thing
    return None


def at_rest(scene: Scene, thing: Thing) -> bool:
    """Whether a thing stands upright, settled and let go."""
    return bool(
        scene.upright(thing) > 0.9 and scene.speed(thing) < 0.02 and not scene.touched(thing)
    )
