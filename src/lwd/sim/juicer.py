"""The juicer: a bowl on a motor, a spout beside it and a knob in front; fixed furniture."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import math

import mujoco
import numpy as np

from lwd.sim.things import Vessel
from lwd.sim.vessels import cylinder

JUICER = Vessel(
    name="juicer", shape=cylinder("bowl", 0.064, 0.085),
    capacity_ml=300.0, mouth_radius=0.058, depth=0.080,
)  # fmt: skip
_BOWL, _MOTOR_Z = (0.05, 0.23), 0.065
"""The bowl stands on the motor. The station's frame: origin on the table before the robot."""
RIM = (*_BOWL, _MOTOR_Z + JUICER.shape.height)
SPOUT = (0.05, 0.335, 0.09)
KNOB = (-0.095, 0.23, 0.05)
KNOB_TURN, KNOB_FULL = math.radians(60), math.radians(78)


def add_juicer(fixture: mujoco.MjsBody) -> None:
    """Add motor, bowl with walls, spout and, on a panel in front, the knob."""
    box, steel = mujoco.mjtGeom.mjGEOM_BOX, [0.72, 0.74, 0.78, 1]
    fixture.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.07, _MOTOR_Z / 2, 0],
        pos=[*_BOWL, _MOTOR_Z / 2], rgba=[0.3, 0.3, 0.33, 1],
    )  # fmt: skip
    fixture.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[0.009, 0, 0], rgba=steel,
        fromto=[_BOWL[0], _BOWL[1] + 0.06, SPOUT[2], *SPOUT], contype=0, conaffinity=0,
    )  # fmt: skip
    bowl = fixture.add_body(name=JUICER.name, pos=[*_BOWL, RIM[2] - JUICER.shape.height / 2])
    half, walls = JUICER.shape.height / 2, 10
    middle = (JUICER.shape.radius + JUICER.mouth_radius) / 2
    for angle in np.linspace(0, 2 * np.pi, walls, endpoint=False):
        c, s = np.cos(angle), np.sin(angle)
        bowl.add_geom(
            type=box, size=[0.003, middle * np.tan(np.pi / walls) + 0.001, half],
            pos=[middle * c, middle * s, 0], rgba=[0.8, 0.85, 0.9, 0.5],
            quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
        )  # fmt: skip
    fixture.add_geom(
        type=box, size=[0.04, 0.045, KNOB[2] / 2], pos=[KNOB[0], KNOB[1], KNOB[2] / 2],
        rgba=[0.3, 0.3, 0.33, 1],
    )  # fmt: skip
    knob = fixture.add_body(name="knob", pos=[KNOB[0], KNOB[1], KNOB[2] + 0.021])
    knob.add_joint(
        name="knob", axis=[0, 0, -1], range=[0, 1.5], limited=True,
        damping=[0.05, 0, 0], frictionloss=0.03, armature=0.002,
    )  # fmt: skip
    # Contact with the static panel is not filtered and would jam the knob: 3 mm of air.
    knob.add_geom(
        type=box, size=[0.026, 0.009, 0.018], mass=0.03, condim=4, friction=[1, 0.02, 0.001],
        rgba=[0.85, 0.15, 0.1, 1],
    )  # fmt: skip
