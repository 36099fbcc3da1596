"""Where a hand goes to grasp: tall things from the front, small ones from above, boxes with room.

A piece that was dropped beside something tall cannot be grasped as it lay on the board: it is
grasped across the faces where fingers and palm have room. What stands around it is felt from above,
along rays.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from itertools import product

import mujoco
import numpy as np

from lwd.sim.body import SIDES
from lwd.sim.geometry import UP, Pose, leaning, wrap
from lwd.sim.pinching import across, from_above, yaw_of
from lwd.sim.scene import Scene
from lwd.sim.skills import heading
from lwd.sim.things import Thing

_FINGER, _TIP = 0.013, 0.008
"""Middle of an open pad beyond the face, and how far its tip reaches below the grasp, m."""
_PAD = (-0.012, 0.0, 0.012)
_PALM_BACK, _PALM = 0.06, ((-0.03, 0.03), (-0.05, 0.0, 0.05))
"""The palm's front is so far behind the tool centre point; its corners along the hand's x, y."""
_FLAT = float(np.deg2rad(62))
"""Lean of a hand that comes from the front; flatter, the wrist would meet the table."""
_WRIST = 2.5
"""Farthest turn of a hand that points down from straight ahead, rad."""


def from_front(scene: Scene, thing: Thing, side: str, below: float) -> Pose:
    """Pose of a hand that comes from the front, round something tall, `below` m its middle."""
    centre = scene.position(thing)
    return centre - UP * below, leaning(_FLAT, heading(side, centre))


def pinching(scene: Scene, thing: Thing, side: str) -> Pose:
    """Pose of a hand around something small, a little above its middle, a cube by its sides."""
    centre = scene.position(thing)
    natural = heading(side, centre)
    yaw = natural
    if not thing.shape.round:
        yaw = across(yaw_of(scene.rotation(thing)), natural, np.pi / 2)
    return from_above(centre + 0.003 * UP, yaw)


def roomiest(
    scene: Scene, thing: Thing, half: tuple[float, float, float], natural: float, tilt: float = 0.15
) -> tuple[int, bool]:
    """The axis of a box across which to close the jaws, and whether to come from the other side.

    `half` are its half sizes in m; of the ways with the most room, the one nearest to the yaw
    `natural`.
    """
    level = np.argsort(np.abs(scene.rotation(thing)[2]))[:2].tolist()

    def cost(way: tuple[int, bool]) -> tuple[int, float]:
        pose = across_axis(scene, thing, way, natural, tilt)
        yaw = _yaw(pose[1])
        far = 10 * (abs(yaw) > _WRIST)
        return far + crowding(scene, thing, pose, half[way[0]]), abs(wrap(yaw - natural))

    return min(product(level, (False, True)), key=cost)


def across_axis(
    scene: Scene, thing: Thing, way: tuple[int, bool], natural: float, tilt: float = 0.15
) -> Pose:
    """Pose of a hand whose jaws close along an axis of a box, in a way that `roomiest` chose."""
    axis = scene.rotation(thing)[:, way[0]]
    yaw = float(np.arctan2(axis[1], axis[0])) - np.pi / 2
    if np.cos(yaw - natural) < 0:
        yaw += np.pi
    return scene.position(thing), leaning(tilt, wrap(yaw + way[1] * np.pi))


def crowding(scene: Scene, thing: Thing, pose: Pose, half_width: float) -> int:
    """At how many points of open fingers and palm something is in the way."""
    point, rotation = pose
    count = 0
    for side, along in product((-1, 1), _PAD):
        at = point + rotation @ [along, side * (half_width + _FINGER), 0.0]
        count += int(height_at(scene, at, thing) > point[2] - _TIP)
    palm = point - _PALM_BACK * rotation[:, 2]
    for x, y in product(*_PALM):
        at = palm + rotation @ [x, y, 0.0]
        count += int(height_at(scene, at, thing) > at[2])
    return count


def height_at(scene: Scene, point: np.ndarray, thing: Thing) -> float:
    """Height of the highest surface at x, y of a point that is neither `thing` nor the robot."""
    start = np.array([point[0], point[1], point[2] + 0.3])
    hit = np.zeros(1, np.int32)
    own = scene.model.body(thing.name).id
    for _ in range(8):  # through the arm, if it is above
        gap = mujoco.mj_ray(scene.model, scene.data, start, -UP, None, 1, own, hit)
        if hit[0] < 0:
            return -np.inf
        start[2] -= gap
        name = scene.model.body(int(scene.model.geom_bodyid[hit[0]])).name
        if not name.startswith(tuple(f"{side}_" for side in SIDES)):
            return float(start[2])
        start[2] -= 1e-3
    return -np.inf


def _yaw(rotation: np.ndarray) -> float:
    """Heading of a hand that points down."""
    return float(np.arctan2(-rotation[0, 1], rotation[1, 1]))
