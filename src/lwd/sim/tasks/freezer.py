"""Freezer: open the door, put the named item inside, close the door (task 3 of V-A).

The left arm serves the door, the right arm the item, and they work at the same time. The door
opens to the left, away from the goods.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator

import mujoco
import numpy as np

from lwd.sim.bimanual import together
from lwd.sim.body import MAX_OPENING, SIDES
from lwd.sim.geometry import UP, Pose, leaning, yawed
from lwd.sim.goods import SKUS, add_goods
from lwd.sim.hands import Hands
from lwd.sim.scene import Scene
from lwd.sim.skills import pick, place, upright_pose
from lwd.sim.task import TABLE_Z, Layout, Placement, Step, Subtask, TaskSpec
from lwd.sim.things import Thing

_HALF_WIDTH, _DEPTH, _HEIGHT = 0.13, 0.20, 0.29
"""Inside of the compartment, m."""
_SHELF = 0.12
"""Height of the compartment's floor above the table: the door swings above the goods."""
_FRONT = (0.62, 0.08)
_GOAL = (0.09, -0.02, _SHELF)
"""Where to put things. The freezer's frame: origin on the table, middle of the front, x inwards."""
_HINGE = (-0.012, _HALF_WIDTH + 0.01, _SHELF + _HEIGHT / 2)
_HANDLE = (-0.05, -2 * _HALF_WIDTH + 0.02)
"""x, y of the vertical bar of the handle, from the hinge."""
_OUT = ([-0.16, -0.02, 0.04], [-0.34, -0.20, 0.04])
"""The hand's way back from the goal, in the freezer's frame."""
_SPOTS = tuple((x, y) for x in (0.40, 0.51) for y in (-0.47, -0.36, -0.25, -0.14))
_OPEN, _AJAR, _CLOSED = 0.9, 1.1, 0.1
"""Door angles: counts as opened, wide enough to reach in, counts as closed."""
_PULL_SPEED = 1.0
"""Mean speed of the door while it is opened, rad/s."""
_PARK: Pose = (np.array([0.38, 0.34, 0.98]), leaning(1.0, 0.0))
"""Where the left hand waits, beside the open door."""
_SWEEP = 0.37
"""Farther than this from the hinge a hand is out of the door's way, m."""
_PUSH = 0.21
"""Distance from the hinge at which the hand pushes the door, m."""


def furnish(spec: mujoco.MjSpec, fixture: mujoco.MjsBody) -> None:
    """Add the goods and a cabinet, open to the front, with a door on a hinge."""
    add_goods(spec)
    half, middle = _HEIGHT / 2, _HINGE[2]
    panels = (
        ((_DEPTH / 2, 0, _SHELF / 2), (_DEPTH / 2, _HALF_WIDTH + 0.01, _SHELF / 2)),
        ((_DEPTH / 2, _HALF_WIDTH + 0.005, middle), (_DEPTH / 2, 0.005, half)),
        ((_DEPTH / 2, -_HALF_WIDTH - 0.005, middle), (_DEPTH / 2, 0.005, half)),
        ((_DEPTH, 0, middle), (0.005, _HALF_WIDTH, half)),
        ((_DEPTH / 2, 0, middle + half + 0.005), (_DEPTH / 2, _HALF_WIDTH + 0.01, 0.005)),
    )
    for position, size in panels:
        fixture.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size, rgba=[0.8, 0.85, 0.9, 1]
        )
    door = fixture.add_body(name="door", pos=_HINGE)
    door.add_joint(
        name="door", axis=[0, 0, -1], range=[0, 1.5], limited=True,
        damping=[0.3, 0, 0], frictionloss=0.1, armature=0.005,
    )  # fmt: skip
    # A gap of 6 mm: contact between a door and its static parent is not filtered and would jam it.
    door.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.006, _HALF_WIDTH + 0.007, half],
        pos=[0, -_HALF_WIDTH - 0.01, 0], mass=0.8, rgba=[0.6, 0.7, 0.9, 0.6],
    )  # fmt: skip
    _add_handle(door)


def _add_handle(door: mujoco.MjsBody) -> None:
    x, y = _HANDLE
    capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
    door.add_site(name="handle", pos=[x, y, 0], group=4)
    door.add_geom(
        type=capsule, fromto=[x, y, -0.06, x, y, 0.06], size=[0.009, 0, 0], mass=0.05,
        condim=4, friction=[1, 0.01, 0.001], rgba=[0.2, 0.2, 0.2, 1],
    )  # fmt: skip
    for z in (-0.06, 0.06):
        door.add_geom(type=capsule, fromto=[0, y, z, x, y, z], size=[0.005, 0, 0], mass=0.01)


def held_out(thing: Thing, spot: int) -> bool:
    """Whether a pair of item and place on the table is kept for evaluation: one in eight."""
    return (SKUS.index(thing) + spot) % len(_SPOTS) == 0


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the pair of item and spot, five to seven other items, and the freezer's pose."""
    pairs = [(s, k) for s in SKUS for k in range(len(_SPOTS)) if held_out(s, k) == evaluation]
    target, first = pairs[rng.integers(len(pairs))]
    others = [SKUS[i] for i in rng.permutation(len(SKUS)) if SKUS[i] is not target]
    free = rng.permutation([k for k in range(len(_SPOTS)) if k != first])[: rng.integers(5, 8)]
    items = []
    for thing, spot in zip([target, *others], [first, *free], strict=False):
        x, y = np.array(_SPOTS[spot]) + rng.uniform(-0.01, 0.01, 2)
        foot = (float(x), float(y), TABLE_Z + thing.shape.height / 2)
        items.append(Placement(thing=thing, position=foot, yaw=rng.uniform(-0.35, 0.35)))
    x, y = _FRONT[0] + rng.uniform(-0.02, 0.02), _FRONT[1] + rng.uniform(-0.03, 0.03)
    fixture = (x, y, TABLE_Z, rng.uniform(-0.1, 0.1))
    goal = _in_robot_frame(fixture, _GOAL)
    return Layout(
        target=target, items=tuple(items), fixture=fixture, goal=(goal[0], goal[1], goal[2])
    )


def _in_robot_frame(
    fixture: tuple[float, float, float, float], point: tuple[float, float, float]
) -> np.ndarray:
    """A point of the freezer's frame in the robot's."""
    return np.array(fixture[:3]) + yawed(fixture[3]) @ point


def _from_front(scene: Scene, point: np.ndarray) -> np.ndarray:
    """A point of the robot's frame in the freezer's."""
    return yawed(-scene.layout.fixture[3]) @ (point - scene.layout.fixture[:3])


def inside(scene: Scene, thing: Thing) -> bool:
    """Whether an item's centre is in the compartment."""
    x, y, z = _from_front(scene, scene.position(thing))
    return bool(0.01 < x < _DEPTH and abs(y) < _HALF_WIDTH and _SHELF < z < _SHELF + _HEIGHT)


def stowed(scene: Scene, thing: Thing) -> bool:
    """Whether an item is inside, let go, and the hand is out of the door's way."""
    return inside(scene, thing) and not scene.touched(thing) and not _in_the_way(scene)


def _in_the_way(scene: Scene) -> bool:
    """Whether the right hand is where the door swings."""
    return bool(np.hypot(*(scene.hand("right")[0] - _hinge(scene))[:2]) < _SWEEP)


def closed(scene: Scene, thing: Thing) -> bool:
    """Whether the door is closed."""
    return scene.angle("door") < _CLOSED


def opened(scene: Scene) -> bool:
    """Whether the door is wide open."""
    return scene.angle("door") > _OPEN


def stored(scene: Scene) -> bool:
    """Whether the named item is inside, let go, and the door is closed."""
    target = scene.layout.target
    return inside(scene, target) and not scene.touched(target) and closed(scene, target)


def _before_door(scene: Scene, thing: Thing) -> bool:
    """Whether an item lies before the freezer, where the left hand opens the door."""
    x, y, _ = _from_front(scene, scene.position(thing))
    return bool(x < _DEPTH and abs(y) < _HALF_WIDTH + 0.02)


def _way_open(scene: Scene, thing: Thing) -> bool:
    return stowed(scene, thing) or opened(scene)


def _held(scene: Scene, thing: Thing) -> bool:
    return inside(scene, thing) or scene.lifted(thing)


def _open_and_pick(hands: Hands, thing: Thing) -> Iterator[None]:
    yield from _hand_over(hands, thing)
    if not _held(hands.scene, thing) and _before_door(hands.scene, thing):  # no room for both arms
        hands.busy = set(SIDES)
        yield from hands.home("left")
        yield from _pick_aside(hands, thing)
    yield from together(hands, _open(hands), _pick_aside(hands, thing))


def _pick_beside(hands: Hands, thing: Thing) -> Iterator[None]:
    yield from _hand_over(hands, thing)
    yield from together(hands, _park(hands), pick(hands, thing, "right"))


def _stow_beside(hands: Hands, thing: Thing) -> Iterator[None]:
    yield from _hand_over(hands, thing)
    yield from together(hands, _park(hands), _stow(hands, thing))


def _hand_over(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put down what the left hand holds where the right one can pick it."""
    if hands.scene.holder(thing) == "left":
        yield from place(hands, thing, np.array([0.45, -0.03, TABLE_Z]))


def _pick_aside(hands: Hands, thing: Thing) -> Iterator[None]:
    """Pick, then keep out of the way of the opening door."""
    scene, side = hands.scene, "right"
    if not _held(scene, thing):
        yield from pick(hands, thing, side)
    if scene.angle("door") < _OPEN and _in_the_way(scene):
        position, rotation = hands.pose(side)
        yield from hands.move(side, [(np.array([0.42, -0.24, position[2]]), rotation)], 0.4)


def _stow(hands: Hands, thing: Thing) -> Iterator[None]:
    """Bring the held item in through the open door, stand it on the shelf, and come out again."""
    scene, side = hands.scene, "right"
    inwards = yawed(scene.layout.fixture[3])
    foot = np.array(scene.layout.goal)
    if scene.holder(thing) == side:
        above, standing = upright_pose(scene, side, thing, foot + 0.035 * UP)
        before = above + inwards @ [-0.20, -0.03, 0.02]
        if hands.hasty():
            yield from hands.move(side, [(before, standing)], 0.4)
            yield from hands.grip(side, MAX_OPENING, 0.3)
            return
        yield from hands.move(side, [(before, standing), (above, standing)], 0.4)
        yield from hands.move(side, [upright_pose(scene, side, thing, foot + 0.003 * UP)], 0.15)
    yield from hands.grip(side, MAX_OPENING, 0.3)
    position, rotation = hands.pose(side)
    out = [(position + inwards @ offset, rotation) for offset in _OUT]
    yield from hands.move(side, out, 0.45)


def _hinge(scene: Scene) -> np.ndarray:
    return _in_robot_frame(scene.layout.fixture, _HINGE)


def _gripping(scene: Scene, angle: float) -> Pose:
    """Pose of a hand on the handle of the door at an angle; the wrist follows most of the way."""
    yaw = scene.layout.fixture[3]
    point = _hinge(scene) + yawed(yaw - angle) @ [*_HANDLE, 0.0]
    return point, leaning(np.deg2rad(80), yaw - 0.6 * angle)


def _open(hands: Hands) -> Iterator[None]:
    """Grasp the handle and pull the door open."""
    scene, side = hands.scene, "left"
    hands.target[7] = MAX_OPENING
    point, rotation = _gripping(scene, scene.angle("door"))
    yield from hands.move(side, [(point - 0.08 * rotation[:, 2], rotation)], 0.45)
    point, rotation = _gripping(scene, scene.angle("door"))
    yield from hands.move(side, [(point + 0.005 * rotation[:, 2], rotation)], 0.25)
    yield from hands.grip(side, 0.0, 0.3)
    yield from _pull(hands, side)


def _pull(hands: Hands, side: str) -> Iterator[None]:
    """Lead the handle around the hinge while the hand stays on it, with a smooth start and end."""
    scene = hands.scene
    start = scene.angle("door")
    ticks = max(2, round((_AJAR - start) / (_PULL_SPEED * hands.pace) * hands.rate_hz))
    for k in range(1, ticks + 1):
        if _off(scene, side) > 0.04:
            return
        part = 0.5 - 0.5 * np.cos(np.pi * k / ticks)
        hands.reach(side, *_gripping(scene, start + (_AJAR - start) * part))
        yield


def _off(scene: Scene, side: str) -> float:
    """Distance of a hand from the handle."""
    return float(np.linalg.norm(scene.hand(side)[0] - scene.data.site("handle").xpos))


def _park(hands: Hands) -> Iterator[None]:
    """Let go of the handle and wait beside the open door."""
    side = "left"
    if _off(hands.scene, side) < 0.06:
        yield from hands.grip(side, MAX_OPENING, 0.3)
        position, rotation = hands.pose(side)
        yield from hands.move(side, [(position - 0.04 * rotation[:, 2], rotation)], 0.2)
    if np.linalg.norm(hands.pose(side)[0] - _PARK[0]) > 0.02:
        yield from hands.move(side, [_PARK], 0.4)


def _close(hands: Hands, thing: Thing) -> Iterator[None]:
    """Push the door shut from outside with the closed left hand; the right one goes home."""
    scene, side = hands.scene, "left"
    hands.busy = {side}
    hands.target[7] = 0.0
    angle = scene.angle("door")
    yield from hands.move(side, [_pushing(scene, angle, 0.06)], 0.45)
    way = [_pushing(scene, a, 0.015) for a in (0.9, 0.5, 0.2, -0.06) if a < angle]
    yield from hands.move(side, way, 0.35)


def _pushing(scene: Scene, angle: float, gap: float) -> Pose:
    """Pose of a hand outside the door at an angle, `gap` in front of its hinge plane."""
    yaw = scene.layout.fixture[3]
    point = _hinge(scene) + yawed(yaw - angle) @ [-gap, -_PUSH, 0.0]
    return point, leaning(np.deg2rad(70), yaw - 0.6 * angle)


FREEZER = TaskSpec(
    name="freezer",
    time_limit_s=45.0,
    templates=(
        "put the {item} in the freezer",
        "open the freezer, put the {item} inside and close the door",
        "the {item} belongs in the freezer",
        "store the {item} in the freezer and shut the door",
    ),
    things=SKUS,
    furnish=furnish,
    draw=draw,
    subtasks=(
        Subtask(name="opened", done=opened, things=("door",)),
        Subtask(name="stored", done=stored, things=("door",)),
    ),
    needed=lambda scene: (scene.layout.target,),
    joints=("door",),
    steps=(
        Step(name="opened", done=_way_open, skill=_open_and_pick),
        Step(name="held", done=_held, skill=_pick_beside),
        Step(name="stowed", done=stowed, skill=_stow_beside),
        Step(name="closed", done=closed, skill=_close),
    ),
)
