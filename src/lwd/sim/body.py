"""The robot: two 7-DoF arms with parallel grippers on a torso, made of primitives only.

Primitives render ten times faster than meshes and need no asset. Angles are rad, lengths m; the
robot base frame is the world frame: x forward, y left, z up, origin on the floor.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from functools import cache

import mujoco
import numpy as np

SIDES = ("left", "right")
SHOULDER_Y = {"left": 0.22, "right": -0.22}
HOME = np.array([0.0, -2.02, 0.0, 2.05, 0.0, 1.18, 0.0])
"""Joint angles of both arms at rest: hands 0.3 m above the table, leaning forward 30 degrees."""
MAX_OPENING = 0.09
"""Distance between the pads of an open gripper."""
MAX_SPEED = 3.0
"""Fastest change of a joint target, rad/s."""

_GEOM = mujoco.mjtGeom
_YAW, _PITCH = (0, 0, 1), (0, 1, 0)
_STRONG, _WEAK = (2000.0, 80.0, 120.0), (800.0, 30.0, 60.0)
# joint: offset from the parent, axis, range, radius, length, (kp, kv, torque limit)
_LINKS = (
    (0.00, _YAW, 2.9, 0.052, 0.14, _STRONG),
    (0.14, _PITCH, 2.2, 0.050, 0.17, _STRONG),
    (0.17, _YAW, 2.9, 0.047, 0.18, _STRONG),
    (0.18, _PITCH, 2.9, 0.045, 0.17, _STRONG),
    (0.17, _YAW, 2.9, 0.040, 0.14, _WEAK),
    (0.14, _PITCH, 2.2, 0.037, 0.06, _WEAK),
    (0.06, _YAW, 2.9, 0.035, 0.06, _WEAK),
)
JOINT_LIMIT = np.array([link[2] for link in _LINKS])
"""Joints turn this far to either side."""
_LIGHT, _DARK = (0.85, 0.85, 0.88, 1.0), (0.25, 0.25, 0.28, 1.0)


def joint_names(side: str) -> list[str]:
    """Names of the seven joints of an arm, from the shoulder to the wrist."""
    return [f"{side}_j{k + 1}" for k in range(len(_LINKS))]


def add_robot(spec: mujoco.MjSpec) -> None:
    """Add torso, arms, grippers and cameras."""
    torso = spec.worldbody.add_body(name="torso")
    torso.add_geom(
        type=_GEOM.mjGEOM_BOX, size=[0.1, 0.12, 0.45], pos=[-0.1, 0, 0.45],
        contype=0, conaffinity=0, rgba=[0.3, 0.3, 0.35, 1],
    )  # fmt: skip
    for side in SIDES:
        _add_gripper(spec, _add_arm(spec, torso, side), side)
    spec.worldbody.add_camera(
        name="head", pos=[0, 0, 1.35], xyaxes=[0, -1, 0, 0.72, 0, 0.69], fovy=75
    )


@cache
def arm_model(side: str) -> mujoco.MjModel:
    """One arm without gripper joints, for inverse kinematics: seven degrees of freedom."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    hand = _add_arm(spec, spec.worldbody.add_body(name="torso"), side)
    hand.add_site(name=f"{side}_tcp", pos=[0, 0, 0.09], group=4)
    return spec.compile()


def _add_arm(spec: mujoco.MjSpec, torso: mujoco.MjsBody, side: str) -> mujoco.MjsBody:
    """Add the seven links and return the hand's body, still empty."""
    pitch = 0.45 * np.pi / 2
    link = torso.add_body(
        name=f"{side}_shoulder",
        pos=[0, SHOULDER_Y[side], 0.85],
        quat=[np.cos(pitch), 0, np.sin(pitch), 0],
    )
    for k, (offset, axis, limit, radius, length, (kp, kv, torque)) in enumerate(_LINKS):
        name = f"{side}_j{k + 1}"
        link = link.add_body(name=name, pos=[0, 0, offset], gravcomp=1)
        link.add_joint(
            name=name, axis=axis, range=[-limit, limit], limited=True,
            damping=[1.0, 0, 0], armature=0.1,
        )  # fmt: skip
        # The wrist meets everything, the forearm only what carries bit 2 (table and floor), the
        # upper arm nothing: fewer pairs make a faster step.
        link.add_geom(
            type=_GEOM.mjGEOM_CAPSULE, fromto=[0, 0, 0, 0, 0, length], size=[radius, 0, 0],
            mass=1.0, contype=(0, 0, 0, 2, 2, 2, 1)[k], conaffinity=0,
            rgba=_DARK if k % 2 else _LIGHT,
        )  # fmt: skip
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=kp, kv=kv)
        servo.ctrlrange, servo.ctrllimited = [-limit, limit], True
        servo.forcerange, servo.forcelimited = [-torque, torque], True
    return link.add_body(name=f"{side}_hand", pos=[0, 0, 0.08], gravcomp=1)


def _add_gripper(spec: mujoco.MjSpec, hand: mujoco.MjsBody, side: str) -> None:
    """Add palm, tool centre point, wrist camera and two coupled sliding fingers."""
    hand.add_geom(type=_GEOM.mjGEOM_BOX, size=[0.03, 0.05, 0.02], mass=0.3, rgba=[0.2, 0.2, 0.2, 1])
    hand.add_site(name=f"{side}_tcp", pos=[0, 0, 0.09], group=4)
    hand.add_camera(
        name=f"{side}_wrist", pos=[0.07, 0, -0.02], xyaxes=[0, 1, 0, 1, 0, 0.35], fovy=80
    )
    for finger, sign in (("fl", 1), ("fr", -1)):
        name = f"{side}_{finger}"
        body = hand.add_body(name=name, pos=[0, 0, 0.02], gravcomp=1)
        body.add_joint(
            name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, sign, 0],
            range=[0, MAX_OPENING / 2], limited=True, damping=[5, 0, 0], armature=0.1,
        )  # fmt: skip
        body.add_geom(
            name=f"{name}_pad", type=_GEOM.mjGEOM_BOX, size=[0.012, 0.006, 0.035],
            pos=[0, sign * 0.006, 0.045], mass=0.05, condim=4, friction=[1.5, 0.02, 0.001],
            solref=[0.01, 1], priority=1, contype=5, rgba=[0.1, 0.1, 0.1, 1],
        )  # fmt: skip
    couple = spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT, name1=f"{side}_fl", name2=f"{side}_fr",
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
    )  # fmt: skip
    couple.data[:5] = [0, 1, 0, 0, 0]
    servo = spec.add_actuator(
        name=f"{side}_grip", target=f"{side}_fl", trntype=mujoco.mjtTrn.mjTRN_JOINT
    )
    servo.set_to_position(kp=1500, kv=60)
    servo.ctrlrange, servo.ctrllimited = [0, MAX_OPENING / 2], True
    servo.forcerange, servo.forcelimited = [-40, 40], True
