"""Skills of precise hands: grasp a thing from above where told to, bring it to an exact pose.

`skills.pick` and `skills.place` serve goods that stand anyhow; a knife, a lid or a slice of fruit
is grasped at one place and has to arrive in one pose.
"""

from collections.abc import Callable, Iterator

import numpy as np

from lwd.sim.body import HOME, MAX_OPENING
from lwd.sim.geometry import UP, Pose, leaning, wrap, yawed
from lwd.sim.hands import SLOT, Hands
from lwd.sim.scene import Scene
from lwd.sim.skills import free_spot, place
from lwd.sim.task import TABLE_Z
from lwd.sim.things import Thing

_TWISTED = 2.3
"""Farther than this from rest, in any joint, an arm is untangled before it grasps, rad."""


def at_fixture(
    fixture: tuple[float, float, float, float], point: tuple[float, float, float]
) -> np.ndarray:
    """[3] a point of the fixture's frame in the robot's; `fixture` is x, y, z, yaw."""
    return np.array(fixture[:3]) + yawed(fixture[3]) @ point


def from_fixture(fixture: tuple[float, float, float, float], point: np.ndarray) -> np.ndarray:
    """[3] a point of the robot's frame in the fixture's."""
    return yawed(fixture[3]).T @ (point - fixture[:3])


def yaw_of(rotation: np.ndarray) -> float:
    """Heading of a body's x axis, rad."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def across(yaw: float, natural: float, period: float = np.pi) -> float:
    """The yaw nearest to a natural one among those that look the same: `yaw` + k `period`."""
    return natural + (yaw - natural + period / 2) % period - period / 2


def from_above(point: np.ndarray, yaw: float, tilt: float = 0.0) -> Pose:
    """Pose of a hand that points down at a point, its jaws closing across `yaw`."""
    return point, leaning(tilt, yaw)


def holding(scene: Scene, side: str, thing: Thing, position: np.ndarray, turn: np.ndarray) -> Pose:
    """Pose of the hand that brings the thing it holds to a position [3] and rotation [3, 3]."""
    at, hand = scene.hand(side)
    rotation = turn @ scene.rotation(thing).T @ hand
    return position - rotation @ hand.T @ (scene.position(thing) - at), rotation


def pinch(
    hands: Hands,
    thing: Thing,
    side: str,
    grasp: Callable[[], Pose],
    *,
    opening: float = MAX_OPENING,
    lift: float = 0.10,
) -> Iterator[None]:
    """Grasp a thing and lift it; ends with it in the hand, or gives up.

    `grasp` says where the tool centre point goes, and is asked again from close by; the gripper
    comes `opening` m wide, so that it fits between neighbours.
    """
    scene = hands.scene
    if scene.holder(thing) != side:
        yield from ready(hands, side, thing, opening)
        yield from hands.clear(side, scene.position(thing))
        position, rotation = grasp()
        hover = position - 0.06 * rotation[:, 2]
        yield from hands.move(side, [(hover + 0.06 * UP, rotation), (hover, rotation)], 0.35)
        position, rotation = grasp()
        position = position + hands.miss() * rotation[:, 0]
        yield from hands.move(side, [(position, rotation)], 0.15)
        yield from hands.grip(side, 0.0, 0.4)
        if scene.holder(thing) != side:
            yield from hands.grip(side, opening, 0.2)
            yield from hands.move(side, [(hover + 0.06 * UP, rotation)], 0.4)
            return
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position + lift * UP, rotation)], 0.25)


def ready(hands: Hands, side: str, thing: Thing, opening: float = MAX_OPENING) -> Iterator[None]:
    """Empty the hand of anything but `thing`, open it so wide, and untangle the arm."""
    scene = hands.scene
    for item in scene.layout.items:
        if item.thing is not thing and scene.holder(item.thing) == side:
            yield from place(hands, item.thing, free_spot(scene, side))
    hands.busy = {side}
    hands.target[SLOT[side]][7] = opening
    low = hands.pose(side)[0][2] < TABLE_Z
    if low or np.abs(_wrapped(hands.joints(side) - HOME)).max() > _TWISTED:
        yield from hands.home(side)


def _wrapped(angles: np.ndarray) -> np.ndarray:
    """Angles in [-pi, pi)."""
    return np.array([wrap(a) for a in angles])


def carry(
    hands: Hands,
    thing: Thing,
    position: np.ndarray,
    turn: np.ndarray,
    *,
    over: float,
    speed: float = 0.35,
) -> Iterator[None]:
    """Bring a held thing above a pose: up, across at a height of `over` m, down to 4 cm above."""
    scene = hands.scene
    side = scene.holder(thing)
    if side is None:
        return
    hands.busy = {side}
    above = holding(scene, side, thing, position + 0.04 * UP, turn)
    at, rotation = hands.pose(side)
    height = max(over, above[0][2], at[2])
    start = (np.append(at[:2], height), rotation)
    end = (np.append(above[0][:2], height), above[1])
    yield from hands.move(side, [start, end, above], speed)


def set_down(
    hands: Hands,
    thing: Thing,
    position: np.ndarray,
    turn: np.ndarray,
    *,
    over: float,
    opening: float = MAX_OPENING,
) -> Iterator[None]:
    """Bring a held thing to a pose, let go with the gripper `opening` m wide, and step back."""
    scene = hands.scene
    yield from carry(hands, thing, position, turn, over=over)
    side = scene.holder(thing)
    if side is None:
        return
    if not hands.hasty():
        yield from hands.move(side, [holding(scene, side, thing, position, turn)], 0.1)
    yield from hands.grip(side, opening, 0.3)
    at, rotation = hands.pose(side)
    yield from hands.move(side, [(at - 0.08 * rotation[:, 2], rotation)], 0.35)
