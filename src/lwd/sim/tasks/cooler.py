"""Open cooler: set a carton of cans on the ledge, then the named can into its slot (task 4 of V-A).

Both arms carry the carton by its sides. The cooler is open to the front: a ledge for the carton,
behind it and higher a row of three slots.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator

import mujoco
import numpy as np

from lwd.sim.bimanual import (
    carried_by_both,
    grasp_both,
    held_at,
    lead,
    release_both,
)
from lwd.sim.geometry import UP, Pose, leaning, wrap, yawed
from lwd.sim.goods import SKUS, add_item
from lwd.sim.hands import Hands
from lwd.sim.scene import Scene
from lwd.sim.skills import pick, place, side_of
from lwd.sim.task import TABLE_Z, Layout, Placement, Step, Subtask, TaskSpec
from lwd.sim.things import Shape, Thing

_CANS = tuple(sku for sku in SKUS if sku.shape.kind == "can")
_BOTTLES = tuple(sku for sku in SKUS if sku.shape.kind == "bottle")
_LENGTH, _WIDTH, _RIM = 0.075, 0.13, 0.07
"""Half sizes of the carton's floor along x and y, and its height, m."""
_WALL = 0.004
"""Half thickness of its walls, m."""
CARTON = Thing(
    name="carton",
    shape=Shape(kind="carton", radius=_WIDTH, height=_RIM, round=False, topped=True),
)
_CELLS = tuple((x, y) for x in (-0.036, 0.036) for y in (-0.058, 0.058))
"""Where cans stand in the carton, in its frame."""
_LEDGE = 0.10
"""Height of the ledge above the table."""
_DEPTH, _HALF_WIDTH = 0.17, 0.26
"""From the front of the ledge to the slots, and half its width."""
_TIER, _TIER_DEPTH = 0.20, 0.09
"""Height and depth of the row of slots."""
SLOTS = {"right": -0.14, "middle": 0.0, "left": 0.14}
"""y of the slots in the cooler's frame, by name as the robot sees them."""
_ON_LEDGE = (0.085, 0.0, _LEDGE)
"""Where the middle of the carton's floor belongs, in the cooler's frame: its origin is on the
table, in the middle of the front, x inwards."""
_SLACK = 0.05
"""The carton may stand this far from there."""
_TOLERANCE = 0.035
"""A can may stand this far from its slot."""
_HALF_OPEN = 0.05
"""Opening of the grippers about the carton's walls: wider, they would push the cans."""


def furnish(spec: mujoco.MjSpec, fixture: mujoco.MjsBody) -> None:
    """Add cans, bottles, the carton and the cooler."""
    for item in (*_CANS, *_BOTTLES):
        add_item(spec, item)
    _add_carton(spec)
    back, side = _DEPTH + _TIER_DEPTH, (0.50, 0.66, 0.84, 1)
    panels = (
        ((_DEPTH / 2, 0, _LEDGE / 2), (_DEPTH / 2, _HALF_WIDTH, _LEDGE / 2)),
        ((_DEPTH + _TIER_DEPTH / 2, 0, _TIER / 2), (_TIER_DEPTH / 2, _HALF_WIDTH, _TIER / 2)),
        ((back + 0.006, 0, 0.17), (0.006, _HALF_WIDTH, 0.17)),
        ((back / 2, _HALF_WIDTH + 0.006, 0.08), (back / 2, 0.006, 0.08)),
        ((back / 2, -_HALF_WIDTH - 0.006, 0.08), (back / 2, 0.006, 0.08)),
    )
    for k, (position, size) in enumerate(panels):
        fixture.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size,
            rgba=side if k > 1 else (0.74, 0.84, 0.93, 1),
        )  # fmt: skip
    for y in (-0.21, -0.07, 0.07, 0.21):  # lines on the tier between the slots, only to be seen
        fixture.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=[_TIER_DEPTH / 2, 0.003, 0.001],
            pos=[_DEPTH + _TIER_DEPTH / 2, y, _TIER + 0.001],
            contype=0, conaffinity=0, rgba=[0.25, 0.4, 0.7, 1],
        )  # fmt: skip


def _add_carton(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name=CARTON.name)
    body.add_freejoint(name=CARTON.name)
    half, surface = _RIM / 2, {"condim": 4, "friction": [1, 0.01, 0.001]}
    walls = (
        ((0, 0, _WALL - half), (_LENGTH, _WIDTH, _WALL), 0.15),
        ((_LENGTH, 0, 0), (_WALL, _WIDTH, half), 0.06),
        ((-_LENGTH, 0, 0), (_WALL, _WIDTH, half), 0.06),
        ((0, _WIDTH, 0), (_LENGTH, _WALL, half), 0.06),
        ((0, -_WIDTH, 0), (_LENGTH, _WALL, half), 0.06),
    )
    for position, size, mass in walls:
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size, mass=mass,
            rgba=[0.72, 0.53, 0.32, 1], **surface,
        )  # fmt: skip


def held_out(can: Thing, cell: int, slot: int) -> bool:
    """Whether a can, its cell and its slot together are kept for evaluation: one in six."""
    return (3 * _CANS.index(can) + cell + len(_CELLS) * slot) % 6 == 0


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the can with its cell and slot, the other cans, up to two bottles, and the poses."""
    triples = [
        (can, cell, slot)
        for can in _CANS
        for cell in range(len(_CELLS))
        for slot in range(len(SLOTS))
        if held_out(can, cell, slot) == evaluation
    ]
    target, cell, slot = triples[rng.integers(len(triples))]
    x, y, yaw = rng.uniform(0.36, 0.40), rng.uniform(-0.05, 0.05), rng.uniform(-0.15, 0.15)
    carton = np.array([x, y, TABLE_Z + _RIM / 2])
    cans = [_CANS[i] for i in rng.permutation(len(_CANS)) if _CANS[i] is not target]
    cans.insert(cell, target)
    items = [Placement(thing=CARTON, position=_triple(carton), yaw=yaw)]
    for can, at in zip(cans, _CELLS, strict=True):
        offset = np.append(np.array(at) + rng.uniform(-0.004, 0.004, 2), _centre_in_carton(can))
        items.append(Placement(thing=can, position=_triple(carton + yawed(yaw) @ offset), yaw=0.0))
    fixture = (0.51 + rng.uniform(-0.01, 0.01), rng.uniform(-0.03, 0.03), TABLE_Z)
    cooler = (*fixture, rng.uniform(-0.06, 0.06))
    feet = [(_DEPTH + 0.045, y, _TIER) for y in SLOTS.values()]
    free = rng.permutation([k for k in range(len(SLOTS)) if k != slot])[: rng.integers(0, 3)]
    for bottle, k in zip(rng.permutation(len(_BOTTLES)), free, strict=False):
        stand = _in_cooler(cooler, feet[k]) + _BOTTLES[bottle].shape.height / 2 * UP
        items.append(Placement(thing=_BOTTLES[bottle], position=_triple(stand), yaw=0.0))
    return Layout(
        target=target,
        items=tuple(items),
        fixture=cooler,
        goal=_triple(_in_cooler(cooler, feet[slot])),
        words={"slot": tuple(SLOTS)[slot]},
    )


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in point)
    return (x, y, z)


def _centre_in_carton(can: Thing) -> float:
    """Height of the centre of a can that stands in the carton above the carton's centre."""
    return 2 * _WALL - _RIM / 2 + can.shape.height / 2


def _in_cooler(cooler: tuple[float, float, float, float], point: tuple[float, ...]) -> np.ndarray:
    """[3] a point of the cooler's frame in the robot's."""
    return np.array(cooler[:3]) + yawed(cooler[3]) @ point


def in_carton(scene: Scene, can: Thing) -> bool:
    """Whether a can is inside the carton."""
    inside = scene.rotation(CARTON).T @ (scene.position(can) - scene.position(CARTON))
    return bool((np.abs(inside) < (_LENGTH, _WIDTH, 0.06)).all())


def carton_on_ledge(scene: Scene) -> bool:
    """Whether the carton stands on the ledge, upright, settled and let go."""
    goal = _in_cooler(scene.layout.fixture, _ON_LEDGE) + _RIM / 2 * UP
    offset = scene.position(CARTON) - goal
    return bool(
        np.linalg.norm(offset[:2]) < _SLACK
        and abs(offset[2]) < 0.01
        and scene.upright(CARTON) > 0.98
        and scene.speed(CARTON) < 0.02
    )


def loaded(scene: Scene) -> bool:
    """Whether the carton stands on the ledge, let go, with all cans in it."""
    let_go = not scene.touched(CARTON)
    return carton_on_ledge(scene) and let_go and all(in_carton(scene, can) for can in _CANS)


def in_slot(scene: Scene, can: Thing) -> bool:
    """Whether a can stands in the named slot, upright, settled and let go."""
    offset = scene.position(can) - scene.layout.goal - can.shape.height / 2 * UP
    return bool(
        np.linalg.norm(offset[:2]) < _TOLERANCE
        and abs(offset[2]) < 0.01
        and scene.upright(can) > 0.9
        and scene.speed(can) < 0.02
        and not scene.touched(can)
    )


def served(scene: Scene) -> bool:
    """Whether the named can is in its slot, and the carton on the ledge with the other cans."""
    target = scene.layout.target
    others = all(in_carton(scene, can) for can in _CANS if can is not target)
    return carton_on_ledge(scene) and others and in_slot(scene, target)


def _stray(scene: Scene, thing: Thing) -> Thing | None:
    """A can that is neither in the carton nor on its way to the slot."""
    spared = {thing} if scene.reached else set()
    return next((c for c in _CANS if c not in spared and not in_carton(scene, c)), None)


def _cans_in(scene: Scene, thing: Thing) -> bool:
    return _stray(scene, thing) is None


def _return_can(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put a can that fell out back into the emptiest cell of the carton."""
    scene = hands.scene
    can = _stray(scene, thing)
    if can is None:
        return
    yield from pick(hands, can)
    middle = scene.position(CARTON)
    floor = [middle + scene.rotation(CARTON) @ [*at, 2 * _WALL - _RIM / 2] for at in _CELLS]
    others = np.array([scene.position(c)[:2] for c in _CANS if c is not can])
    cell = max(floor, key=lambda f: np.linalg.norm(others - f[:2], axis=1).min())
    yield from place(hands, can, cell)


def _grips(scene: Scene) -> dict[str, Pose]:
    """Where the hands grasp the walls, in the carton's frame."""
    ahead = leaning(np.deg2rad(10), 0.0)
    if abs(wrap(np.arctan2(*scene.rotation(CARTON)[1::-1, 0]))) > np.pi / 2:
        ahead = yawed(np.pi) @ ahead
    sign = np.sign(ahead[1, 1])
    rim = _RIM / 2 - 0.018
    return {
        "left": (np.array([0, sign * _WIDTH, rim]), ahead),
        "right": (np.array([0, -sign * _WIDTH, rim]), ahead),
    }


def _held(scene: Scene, thing: Thing) -> bool:
    return carton_on_ledge(scene) or carried_by_both(scene, CARTON)


def _grasp(hands: Hands, thing: Thing) -> Iterator[None]:
    return grasp_both(hands, CARTON, _grips(hands.scene), _HALF_OPEN)


def _loaded(scene: Scene, thing: Thing) -> bool:
    return carton_on_ledge(scene) and (scene.reached > 0 or not scene.touched(CARTON))


def _load(hands: Hands, thing: Thing) -> Iterator[None]:
    """Lift the carton, bring it over the ledge, set it down and let go."""
    scene = hands.scene
    if not carton_on_ledge(scene):
        grips = held_at(hands, CARTON)
        goal = _in_cooler(scene.layout.fixture, _ON_LEDGE) + (_RIM / 2 + 0.002) * UP
        turn, start = yawed(scene.layout.fixture[3]), scene.position(CARTON)
        above, up = goal + 0.05 * UP, np.array([*start[:2], goal[2] + 0.05])
        yield from lead(hands, CARTON, grips, [(up, scene.rotation(CARTON)), (above, turn)], 0.2)
        yield from lead(hands, CARTON, grips, [(goal, turn)], 0.12)
        if np.linalg.norm(scene.position(CARTON) - goal) > 0.04:
            return
    yield from release_both(hands, _HALF_OPEN, 0.14)


def _taken(scene: Scene, thing: Thing) -> bool:
    return in_slot(scene, thing) or scene.lifted(thing)


def _take(hands: Hands, thing: Thing) -> Iterator[None]:
    """Take the can out of the carton, by the arm on the slot's side."""
    side = side_of(np.array(hands.scene.layout.goal))
    return pick(hands, thing, side, lean=np.deg2rad(15))


def _put(hands: Hands, thing: Thing) -> Iterator[None]:
    return place(hands, thing, np.array(hands.scene.layout.goal))


COOLER = TaskSpec(
    name="cooler",
    time_limit_s=45.0,
    templates=(
        "load the cooler with the carton, the {item} goes to the {slot} slot",
        "set the carton on the ledge, then the {item} into the {slot} slot",
        "carton to the cooler, then stock the {slot} slot with the {item}",
        "the {item} from the carton belongs in the {slot} slot of the cooler",
    ),
    things=(*_CANS, *_BOTTLES, CARTON),
    furnish=furnish,
    draw=draw,
    subtasks=(
        Subtask(name="carton loaded", done=loaded, things=(CARTON.name,)),
        Subtask(name="can in slot", done=served, things=()),
    ),
    needed=lambda scene: (CARTON, *_CANS),
    steps=(
        Step(name="cans in", done=_cans_in, skill=_return_can),
        Step(name="carton held", done=_held, skill=_grasp),
        Step(name="carton loaded", done=_loaded, skill=_load),
        Step(name="can taken", done=_taken, skill=_take),
        Step(name="can in slot", done=in_slot, skill=_put),
    ),
)
