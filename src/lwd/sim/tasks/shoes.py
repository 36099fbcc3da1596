"""Pack shoes: the named pair into the shoebox, the lid closed, the box on the rack (task 8 of V-A).

The shoes lie head to tail in the box. Either arm packs, one opens and closes the lid by its knob,
both carry the closed box by its handles.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import math
from collections.abc import Iterator

import mujoco
import numpy as np

from lwd.sim.bimanual import carried_by_both, grasp_both, held_at, lead, release_both
from lwd.sim.footwear import (
    HANDLE,
    LID,
    PAIRS,
    RACK_DEPTH,
    RACK_HEIGHT,
    SHOEBOX,
    add_rack,
    add_shoe,
    add_shoebox,
)
from lwd.sim.geometry import UP, leaning, wrap, yawed
from lwd.sim.hands import Hands
from lwd.sim.liquids import Liquids
from lwd.sim.packing import WIDE, box_frame, clear_lid, inside, on_lid, pack, pair_of, swing
from lwd.sim.pinching import yaw_of
from lwd.sim.scene import Scene
from lwd.sim.task import TABLE_Z, Layout, Placement, Step, Subtask, TaskSpec
from lwd.sim.things import Thing

_OPEN, _CLOSED = math.radians(100), math.radians(8)
"""Lid angles that count as open and as closed."""
_ASKEW = (math.radians(15), math.radians(30))
"""Shoes this far from head to tail are flawed, or not packed."""
_SHIFT, _TURN = (0.02, 0.03), (math.radians(7), math.radians(10))
"""A box this far from its bay, m, or turned so far, is flawed, or not on the rack."""
_SPOTS = ((0.43, 0.28), (0.43, 0.46))
"""Where shoes lie on the left of the table; mirrored on the right."""
_ARRANGEMENTS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Which spot the named pair has on the left and on the right."""
BAYS = {"left": 0.13, "right": -0.13}
"""y of the rack's bays in its frame, by name as the robot sees them."""
_HALF_OPEN = 0.036
"""Opening of a gripper about a handle, m."""


def furnish(spec: mujoco.MjSpec, fixture: mujoco.MjsBody) -> None:
    """Add shoes, shoebox and rack."""
    for pair in PAIRS.values():
        for shoe in pair:
            add_shoe(spec, shoe)
    add_shoebox(spec)
    add_rack(fixture)


def held_out(colour: str, arrangement: int) -> bool:
    """Whether a pair of shoes and where it lies are kept for evaluation together: one in four."""
    return (list(PAIRS).index(colour) + arrangement) % len(_ARRANGEMENTS) == 0


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the pair and where it lies, another pair beside it, the box, the rack and its bay."""
    cases = [
        (colour, k)
        for colour in PAIRS
        for k in range(len(_ARRANGEMENTS))
        if held_out(colour, k) == evaluation
    ]
    colour, arrangement = cases[rng.integers(len(cases))]
    other = rng.choice([c for c in PAIRS if c != colour])
    items = [_box_placement(rng)]
    flip = rng.integers(2)
    for k, (spot, sign) in enumerate(zip(_ARRANGEMENTS[arrangement], (1, -1), strict=True)):
        for thing, at in ((PAIRS[colour][k], spot), (PAIRS[other][k], 1 - spot)):
            x, y = _SPOTS[at] + rng.uniform(-0.01, 0.01, 2)
            yaw = np.pi * ((k + flip) % 2) + rng.uniform(-0.8, 0.8)
            position = (float(x), float(sign * y), TABLE_Z + thing.shape.height / 2)
            items.append(Placement(thing=thing, position=position, yaw=float(wrap(yaw))))
    rack = (0.575 + rng.uniform(-0.01, 0.01), rng.uniform(-0.02, 0.02), TABLE_Z)
    fixture = (*rack, rng.uniform(-0.05, 0.05))
    bay = tuple(BAYS)[rng.integers(len(BAYS))]
    x, y, z = np.array(rack) + yawed(fixture[3]) @ [RACK_DEPTH / 2, BAYS[bay], RACK_HEIGHT]
    return Layout(
        target=PAIRS[colour][0],
        items=tuple(items),
        fixture=fixture,
        goal=(float(x), float(y), float(z)),
        words={"pair": f"{colour} shoes", "bay": bay},
    )


def _box_placement(rng: np.random.Generator) -> Placement:
    x, y = 0.39 + rng.uniform(-0.01, 0.01), rng.uniform(-0.02, 0.02)
    height = TABLE_Z + SHOEBOX.shape.height / 2
    return Placement(thing=SHOEBOX, position=(x, y, height), yaw=rng.uniform(-0.1, 0.1))


def _named(scene: Scene) -> tuple[Thing, ...]:
    return pair_of(scene, scene.layout.target)


def apart(scene: Scene, pair: tuple[Thing, ...]) -> float:
    """How far the shoes of a pair are from lying head to tail, rad."""
    first, second = (yaw_of(scene.rotation(shoe)) for shoe in pair)
    return abs(wrap(first - second - np.pi))


def packed(scene: Scene, thing: Thing) -> bool:
    """Whether both shoes of the pair of a thing are in the box, head to tail."""
    pair = pair_of(scene, thing)
    return all(inside(scene, shoe) for shoe in pair) and apart(scene, pair) < _ASKEW[1]


def opened(scene: Scene) -> bool:
    """Whether the lid is wide open."""
    return scene.angle("lid") > _OPEN


def closed(scene: Scene) -> bool:
    """Whether the lid is closed."""
    return scene.angle("lid") < _CLOSED


def first_in(scene: Scene) -> bool:
    """Whether a shoe of the named pair lies in the box."""
    return any(inside(scene, shoe) and scene.speed(shoe) < 0.02 for shoe in _named(scene))


def both_in(scene: Scene) -> bool:
    """Whether the named pair lies in the box, head to tail."""
    still = all(scene.speed(shoe) < 0.02 for shoe in _named(scene))
    return still and packed(scene, scene.layout.target)


def lifted(scene: Scene) -> bool:
    """Whether both hands hold the box clear of the table."""
    rise = scene.position(SHOEBOX)[2] - SHOEBOX.shape.height / 2 - TABLE_Z
    return bool(rise > 0.03) and carried_by_both(scene, SHOEBOX)


def rack_error(scene: Scene) -> tuple[float, float]:
    """Distance of the box's foot from its bay, m, and its turn from the rack's, rad."""
    position, rotation = box_frame(scene)
    foot = position - SHOEBOX.shape.height / 2 * UP
    turn = abs(wrap(yaw_of(rotation) - scene.layout.fixture[3]))
    return float(np.linalg.norm(foot - scene.layout.goal)), turn


def on_rack(scene: Scene) -> bool:
    """Whether the box stands in its bay within 3 cm and 10 degrees, settled and let go."""
    distance, turn = rack_error(scene)
    near = distance < _SHIFT[1] and turn < _TURN[1] and scene.upright(SHOEBOX) > 0.98
    return near and scene.speed(SHOEBOX) < 0.02 and not scene.touched(SHOEBOX)


def stored(scene: Scene) -> bool:
    """Whether the box stands in its bay, closed, with the named pair in it."""
    return on_rack(scene) and closed(scene) and packed(scene, scene.layout.target)


def _askew(scene: Scene, before: Liquids) -> bool:
    return apart(scene, _named(scene)) > _ASKEW[0]


def _off_centre(scene: Scene, before: Liquids) -> bool:
    distance, turn = rack_error(scene)
    return distance > _SHIFT[0] or turn > _TURN[0]


def _open(hands: Hands, thing: Thing) -> Iterator[None]:
    return clear_lid(hands) if on_lid(hands.scene) else swing(hands, WIDE)


def _close(hands: Hands, thing: Thing) -> Iterator[None]:
    return swing(hands, 0.0)


def _lift(hands: Hands, thing: Thing) -> Iterator[None]:
    """Take the box by both handles and lift it."""
    scene = hands.scene
    x, y, z = HANDLE
    ahead = leaning(math.radians(10), 0.0)
    grips = {"left": (np.array([x, y, z]), ahead), "right": (np.array([x, -y, z]), ahead)}
    yield from grasp_both(hands, SHOEBOX, grips, _HALF_OPEN)
    position, rotation = box_frame(scene)
    up = (position + 0.06 * UP, rotation)
    yield from lead(hands, SHOEBOX, held_at(hands, SHOEBOX), [up], 0.15)


def _shelve(hands: Hands, thing: Thing) -> Iterator[None]:
    """Bring the box over its bay, set it down and let go."""
    scene = hands.scene
    grips, (start, rotation) = held_at(hands, SHOEBOX), box_frame(scene)
    goal = np.array(scene.layout.goal) + (SHOEBOX.shape.height / 2 + 0.002) * UP
    turn, height = yawed(scene.layout.fixture[3]), goal[2] + 0.05
    way = [(np.append(start[:2], height), rotation), (np.append(goal[:2], height), turn)]
    yield from lead(hands, SHOEBOX, grips, way, 0.2)
    yield from lead(hands, SHOEBOX, grips, [(goal, turn)], 0.12)
    if np.linalg.norm(scene.position(SHOEBOX) - goal) < 0.04:
        yield from release_both(hands, _HALF_OPEN, 0.14)


def _open_or_packed(scene: Scene, thing: Thing) -> bool:
    return opened(scene) or packed(scene, thing)


def _first_in(scene: Scene, thing: Thing) -> bool:
    return any(inside(scene, shoe) for shoe in pair_of(scene, thing))


def _closed(scene: Scene, thing: Thing) -> bool:
    return closed(scene)


def _held(scene: Scene, thing: Thing) -> bool:
    return on_rack(scene) or lifted(scene)


def _shelved(scene: Scene, thing: Thing) -> bool:
    return on_rack(scene)


_EITHER = tuple(shoe.name for pair in PAIRS.values() for shoe in pair)

SHOES = TaskSpec(
    name="shoes",
    time_limit_s=120.0,
    templates=(
        "pack the {pair} into the shoebox and put it in the {bay} bay",
        "put the {pair} in the box and that in the {bay} bay",
        "the {pair} belong in the shoebox, the box in the {bay} bay",
        "box up the {pair} and shelve it on the {bay} of the rack",
    ),
    things=(*(shoe for pair in PAIRS.values() for shoe in pair), SHOEBOX),
    furnish=furnish,
    draw=draw,
    subtasks=(
        Subtask(name="lid open", done=opened, things=(LID,)),
        Subtask(name="first shoe in", done=first_in, things=_EITHER),
        Subtask(name="second shoe in", done=both_in, things=_EITHER, flawed=_askew),
        Subtask(name="lid closed", done=closed, things=(LID,)),
        Subtask(name="box lifted", done=lifted, things=(SHOEBOX.name,)),
        Subtask(name="box on rack", done=stored, things=(SHOEBOX.name,), flawed=_off_centre),
    ),
    needed=lambda scene: (SHOEBOX, *_named(scene)),
    joints=("lid",),
    steps=(
        Step(name="lid open", done=_open_or_packed, skill=_open),
        Step(name="first shoe in", done=_first_in, skill=pack),
        Step(name="second shoe in", done=packed, skill=pack),
        Step(name="lid closed", done=_closed, skill=_close),
        Step(name="box held", done=_held, skill=_lift),
        Step(name="box on rack", done=_shelved, skill=_shelve),
    ),
    scored=True,
)
