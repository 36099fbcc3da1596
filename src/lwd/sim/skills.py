"""Skills of the scripted expert: pick and place, with items standing or lying.

A skill yields once per control tick, reads the scene as it goes and gives up early when it cannot
succeed; whoever runs it looks at the predicates and chooses again.
"""

from collections.abc import Iterator

import numpy as np

from lwd.sim.body import HOME, MAX_OPENING, SHOULDER_Y
from lwd.sim.geometry import UP, Pose, exponential, leaning, wrap
from lwd.sim.hands import SLOT, Hands
from lwd.sim.scene import Scene
from lwd.sim.task import TABLE_Z
from lwd.sim.things import Thing

_TILT = np.deg2rad(30)
_RISE = 0.015


def side_of(point: np.ndarray) -> str:
    """The arm that serves a point: always the nearer one."""
    return "left" if point[1] >= 0 else "right"


def heading(side: str, point: np.ndarray) -> float:
    """Natural yaw of a hand at a point: half way between straight ahead and out of the shoulder."""
    return 0.5 * float(np.arctan2(point[1] - SHOULDER_Y[side], point[0] - 0.1))


def pick(
    hands: Hands,
    thing: Thing,
    arm: str | None = None,
    *,
    lean: float = _TILT,
    rise: float = _RISE,
) -> Iterator[None]:
    """Grasp an item and lift it; ends with the item in the hand, or gives up.

    `arm` does it, by default the nearer one, unless a hand has the item already. The hand leans
    forward by `lean` (rad) around an item that stands, `rise` (m) above its centre.
    """
    scene = hands.scene
    side = scene.holder(thing) or arm or side_of(scene.position(thing))
    hands.busy = {side}
    if scene.holder(thing) is None:
        yield from make_ready(hands, side, thing)
        yield from hands.clear(side, scene.position(thing))
        position, rotation = grasp(scene, side, thing, lean, rise)
        hover = position - 0.10 * rotation[:, 2]
        yield from hands.move(side, [(hover + 0.08 * UP, rotation), (hover, rotation)], 0.25)
        position, rotation = grasp(scene, side, thing, lean, rise)
        position = position + hands.miss() * rotation[:, 0]
        yield from hands.move(side, [(position, rotation)], 0.15)
        yield from hands.grip(side, 0.0, 0.4)
        if scene.holder(thing) != side:
            yield from hands.grip(side, MAX_OPENING, 0.2)
            yield from hands.move(side, [(hover + 0.08 * UP, rotation)], 0.4)
            return
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position + 0.08 * UP, rotation)], 0.2)


def place(hands: Hands, thing: Thing, foot: np.ndarray) -> Iterator[None]:
    """Stand a held item on a point, let go, step back."""
    scene = hands.scene
    side = scene.holder(thing)
    if side is None:
        return
    hands.busy = {side}
    above = upright_pose(scene, side, thing, foot + 0.07 * UP)
    position, rotation = hands.pose(side)
    high = np.array([min(position[0], 0.45), position[1], max(position[2], above[0][2])])
    front = (above[0] - [0.13, 0, 0], above[1])  # come from the front, not across the neighbours
    way = [(high, rotation), front, above]
    if hands.hasty():
        yield from hands.move(side, way[:-1], 0.24)
        yield from hands.grip(side, MAX_OPENING, 0.3)
        return
    yield from hands.move(side, way, 0.24)
    if scene.holder(thing) != side:
        return
    yield from hands.move(side, [upright_pose(scene, side, thing, foot + 0.003 * UP)], 0.1)
    yield from hands.grip(side, MAX_OPENING, 0.3)
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position - 0.10 * rotation[:, 2], rotation)], 0.3)


def make_ready(hands: Hands, side: str, thing: Thing) -> Iterator[None]:
    """Empty the hand of anything but `thing`, open it, and untangle the arm."""
    for item in hands.scene.layout.items:
        if item.thing is not thing and hands.scene.holder(item.thing) == side:
            yield from place(hands, item.thing, free_spot(hands.scene, side))
    hands.busy = {side}
    hands.target[SLOT[side]][7] = MAX_OPENING
    if hands.pose(side)[0][2] < TABLE_Z or np.abs(hands.joints(side) - HOME).max() > 1.7:
        yield from hands.home(side)


def free_spot(scene: Scene, side: str) -> np.ndarray:
    """[3] the point of the table on an arm's side that is farthest from every item."""
    sign = np.sign(SHOULDER_Y[side])
    spots = [np.array([x, sign * y, TABLE_Z]) for x in (0.38, 0.44, 0.50) for y in (0.1, 0.2, 0.3)]
    stand = np.array([scene.position(item.thing)[:2] for item in scene.layout.items])
    return max(spots, key=lambda s: np.linalg.norm(stand - s[:2], axis=1).min())


def grasp(scene: Scene, side: str, thing: Thing, lean: float = _TILT, rise: float = _RISE) -> Pose:
    """Pose of the hand around an item, standing or lying."""
    centre, turn = scene.position(thing), scene.rotation(thing)
    natural = heading(side, centre)
    axis = turn[:, 2]
    if abs(axis[2]) > 0.7:
        yaw = natural if thing.shape.round else _nearest_face(turn, natural)
        return centre + rise * UP, leaning(lean, yaw)
    if not thing.shape.topped and np.cos(np.arctan2(axis[1], axis[0]) - natural) < 0:
        axis = -axis
    yaw = float(np.arctan2(axis[1], axis[0]))
    if np.cos(yaw - natural) < 0:
        yaw += np.pi
    return centre, leaning(np.deg2rad(8), wrap(yaw))


def upright_pose(scene: Scene, side: str, thing: Thing, foot: np.ndarray) -> Pose:
    """Pose of the hand that stands the item it holds upright on a point."""
    position, rotation = scene.hand(side)
    centre, axis = scene.position(thing), scene.rotation(thing)[:, 2]
    if not thing.shape.topped and axis @ _lean_axis(rotation) < 0:
        axis = -axis
    standing = _upright(rotation, axis, heading(side, foot))
    offset = rotation.T @ (centre - position)
    return foot + UP * thing.shape.height / 2 - standing @ offset, standing


def _lean_axis(rotation: np.ndarray) -> np.ndarray:
    """Direction that points up when a hand leans to put things down: back of the palm's x and z."""
    return -rotation[:, 0] * np.sin(np.pi / 4) - rotation[:, 2] * np.cos(np.pi / 4)


def _upright(rotation: np.ndarray, axis: np.ndarray, yaw: float) -> np.ndarray:
    """Rotation of the hand that brings a direction it holds upright and itself to a yaw."""
    cross, cosine = np.cross(axis, UP), float(axis @ UP)
    turn = exponential(cross / max(np.linalg.norm(cross), 1e-9) * np.arccos(np.clip(cosine, -1, 1)))
    upright = turn @ rotation
    ahead = upright[:, 2] if np.hypot(*upright[:2, 2]) > 0.1 else -upright[:, 0]
    now = np.arctan2(ahead[1], ahead[0])
    return exponential(UP * wrap(yaw - now)) @ upright


def _nearest_face(turn: np.ndarray, natural: float) -> float:
    """Yaw of the face of a box nearest to a natural yaw."""
    yaw = np.arctan2(turn[1, 0], turn[0, 0])
    return natural + (yaw - natural + np.pi / 4) % (np.pi / 2) - np.pi / 4
