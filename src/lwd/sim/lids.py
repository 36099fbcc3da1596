"""Lids with a knob: their bodies, whether they are on, and the skill that moves them."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator

import mujoco
import numpy as np

from lwd.sim.geometry import UP, Pose, yawed
from lwd.sim.hands import Hands
from lwd.sim.pinching import from_above, pinch, set_down, yaw_of
from lwd.sim.scene import Scene
from lwd.sim.skills import heading
from lwd.sim.things import Shape, Thing

PLATE = 0.010
"""Thickness of a lid without its knob, m."""
_KNOB_RADIUS, _KNOB_HEIGHT = 0.013, 0.028
_SETTLED = 0.02


def lid(name: str, radius: float) -> Thing:
    """A lid; its frame is at the middle of the plate, under the knob."""
    shape = Shape(kind="lid", radius=radius, height=PLATE, round=True, topped=True)
    return Thing(name=name, shape=shape)


def add_lid(
    spec: mujoco.MjSpec, thing: Thing, *, rgba: tuple[float, ...], mass: float = 0.08
) -> mujoco.MjsBody:
    """Add a plate with a knob and a free joint; `mass` in kg."""
    cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
    surface = {"condim": 4, "friction": [1, 0.01, 0.001]}
    body = spec.worldbody.add_body(name=thing.name)
    body.add_freejoint(name=thing.name)
    body.add_geom(
        type=cylinder, size=[thing.shape.radius, PLATE / 2, 0], mass=0.7 * mass, rgba=rgba,
        **surface,
    )  # fmt: skip
    body.add_geom(
        type=cylinder, size=[_KNOB_RADIUS, _KNOB_HEIGHT / 2, 0],
        pos=[0, 0, (PLATE + _KNOB_HEIGHT) / 2], mass=0.3 * mass, rgba=[0.15, 0.15, 0.15, 1],
        **surface,
    )  # fmt: skip
    return body


def lid_on(scene: Scene, thing: Thing, rim: np.ndarray, tolerance: float) -> bool:
    """Whether a lid lies level on a rim, its middle within `tolerance` m, settled and let go."""
    offset = scene.position(thing) - rim - UP * PLATE / 2
    return bool(
        np.linalg.norm(offset[:2]) < tolerance
        and abs(offset[2]) < 0.006
        and scene.upright(thing) > 0.98
        and scene.speed(thing) < _SETTLED
        and not scene.touched(thing)
    )


def knob_grasp(scene: Scene, thing: Thing, side: str) -> Pose:
    """Pose of a hand around a lid's knob."""
    centre, axis = scene.position(thing), scene.rotation(thing)[:, 2]
    point = centre + axis * (PLATE / 2 + 0.6 * _KNOB_HEIGHT)
    return from_above(point, heading(side, centre))


def lift_lid(hands: Hands, thing: Thing, side: str, *, lift: float = 0.10) -> Iterator[None]:
    """Take a lid by its knob."""
    return pinch(
        hands, thing, side, lambda: knob_grasp(hands.scene, thing, side), opening=0.06, lift=lift
    )


def put_lid(hands: Hands, thing: Thing, rim: np.ndarray, *, over: float) -> Iterator[None]:
    """Lay a held lid on a rim, or on the table, and let go; `over` is the height of the way, m."""
    turn = yawed(yaw_of(hands.scene.rotation(thing)))
    position = rim + UP * (PLATE / 2 + 0.002)
    return set_down(hands, thing, position, turn, over=over, opening=0.06)
