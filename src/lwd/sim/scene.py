"""A task's world: the model, its physics, and what predicates and policies read from it."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from copy import copy
from functools import cache
from typing import NamedTuple

import mujoco
import numpy as np

from lwd.config import StateLayout
from lwd.sim.body import HOME, MAX_OPENING, SIDES, add_robot, joint_names
from lwd.sim.items import COLOURS, SHAPES, SKUS, Sku, add_items
from lwd.sim.task import TABLE_Z, Layout, TaskSpec

STATE = StateLayout()
ACTION = 16
"""2 arms x (7 joint targets in rad, gripper opening in m)."""
REST = np.tile(np.append(HOME, MAX_OPENING), 2)
"""[action] targets of both arms at rest."""
FINGERS = frozenset(f"{side}_{finger}" for side in SIDES for finger in ("fl", "fr"))
_SETTLE_S = 0.1
_GEOM = mujoco.mjtGeom


@cache
def compile_model(furnish: Callable[[mujoco.MjsBody], None], timestep_s: float) -> mujoco.MjModel:
    """Compile a task's model, once per process. Copy it before use: the fixture is moved in it."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    # Sleeping islands double the speed.
    spec.option.enableflags = mujoco.mjtEnableBit.mjENBL_SLEEP
    spec.visual.quality.offsamples = 0
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.92, 0.94, 0.97], rgb2=[0.70, 0.74, 0.80], width=16, height=96,
    )  # fmt: skip
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    world = spec.worldbody
    world.add_light(pos=[0, 0, 2.5], dir=[0.2, 0, -1], castshadow=False)
    world.add_geom(
        name="floor",
        type=_GEOM.mjGEOM_PLANE,
        size=[4, 4, 0.05],
        rgba=[0.55, 0.55, 0.57, 1],
        conaffinity=3,
    )
    world.add_geom(
        name="table", type=_GEOM.mjGEOM_BOX, size=[0.3, 0.6, 0.02],
        pos=[0.55, 0, TABLE_Z - 0.02], rgba=[0.8, 0.7, 0.55, 1],
        conaffinity=3,
    )  # fmt: skip
    furnish(world.add_body(name="fixture"))
    add_robot(spec)
    add_items(spec)
    return spec.compile()


class SceneMoment(NamedTuple):
    """A world at one time."""

    data: mujoco.MjData
    layout: Layout
    slots: tuple[Sku, ...]
    opened: bool


class Scene:
    """One world of a task, reset to a layout and stepped by joint targets.

    Reads come straight from the generalised positions, so they are right after a reset, a step
    or a teleport alike.
    """

    def __init__(self, task: TaskSpec, timestep_s: float) -> None:
        self.task = task
        self.model = copy(compile_model(task.furnish, timestep_s))
        self.data = mujoco.MjData(self.model)
        self.layout: Layout
        self.opened = False
        """Whether the door has been open in this episode; stays false without a door."""
        model = self.model
        names = {side: joint_names(side) for side in SIDES}
        joint = {side: [model.joint(n).id for n in names[side]] for side in SIDES}
        self._arm_q = {side: model.jnt_qposadr[joint[side]] for side in SIDES}
        self._arm_v = {side: model.jnt_dofadr[joint[side]] for side in SIDES}
        self._fingers = {side: [model.joint(f"{side}_{f}") for f in ("fl", "fr")] for side in SIDES}
        self._site = {side: model.site(f"{side}_tcp").id for side in SIDES}
        self._item_q = np.array([model.joint(s.name).qposadr[0] for s in SKUS])
        self._item_v = np.array([model.joint(s.name).dofadr[0] for s in SKUS])
        self._item_body = [model.body(s.name).id for s in SKUS]
        self._names = [model.body(k).name for k in range(model.nbody)]
        self._touches: dict[int, set[str]] | None = None
        hinges = [j for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE]
        door = [j for j in hinges if model.joint(j).name == "door"]
        self._door_q = int(model.jnt_qposadr[door[0]]) if door else None
        self._slots: list[Sku] = []

    def reset(self, layout: Layout, slots: list[Sku]) -> None:
        """Set the world to a layout. `slots` is the order of the items in the state."""
        self.layout, self._slots, self.opened = layout, slots, False
        data = self.data
        # Before the reset: with sleep, static bodies are posed once after it and then never again.
        *position, yaw = layout.fixture
        self.model.body("fixture").pos = position
        self.model.body("fixture").quat = (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        mujoco.mj_resetData(self.model, data)
        for side in SIDES:
            data.qpos[self._arm_q[side]] = HOME
            for finger in self._fingers[side]:
                data.qpos[finger.qposadr[0]] = MAX_OPENING / 2
        for sku in SKUS:  # absent items wait on the floor, behind the robot
            self.teleport(sku, (-2.0 - 0.2 * sku.index, 0.0, sku.shape.height / 2))
        for item in layout.items:
            self.teleport(item.sku, item.position, item.yaw)
        self.step(REST, round(_SETTLE_S / self.model.opt.timestep))
        data.time = 0.0

    def save(self) -> "SceneMoment":
        """The world now, for `restore`."""
        return SceneMoment(copy(self.data), self.layout, tuple(self._slots), self.opened)

    def restore(self, moment: "SceneMoment") -> None:
        """Back to a moment of the same episode: the same actions give the same states again.

        Raises ValueError for a moment of another layout, whose fixture stood elsewhere.
        """
        if moment.layout is not self.layout:
            raise ValueError("the moment is of another episode; restore it before the next reset.")
        mujoco.mj_copyData(self.data, self.model, moment.data)
        self._slots, self.opened, self._touches = list(moment.slots), moment.opened, None

    def teleport(self, sku: Sku, position: tuple[float, ...], yaw: float = 0.0) -> None:
        """Put an item's centre upright at a position, at rest."""
        q, v = self._item_q[sku.index], self._item_v[sku.index]
        self.data.qpos[q : q + 7] = (*position, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        self.data.qvel[v : v + 6] = 0.0

    def step(self, target: np.ndarray, steps: int, start: np.ndarray | None = None) -> None:
        """Step the physics while the joint targets move from `start` in a straight line."""
        goal = self._servo(target)
        first = goal if start is None else self._servo(start)
        for k in range(1, steps + 1):
            self.data.ctrl[:] = first + (goal - first) * (k / steps)
            mujoco.mj_step(self.model, self.data)
        self._touches = None
        self.opened |= self.door() > 0.9

    @staticmethod
    def _servo(target: np.ndarray) -> np.ndarray:
        """Actuator inputs for a target: a gripper's servo moves one finger, half the opening."""
        servo = np.array(target, np.float64)
        servo[7::8] /= 2
        return servo

    def joints(self, side: str) -> np.ndarray:
        """[7] joint angles of an arm."""
        return self.data.qpos[self._arm_q[side]]

    def opening(self, side: str) -> float:
        """Distance between the pads of a gripper."""
        return float(sum(self.data.qpos[f.qposadr[0]] for f in self._fingers[side]))

    def posture(self) -> np.ndarray:
        """[action] targets that would hold both arms where they are."""
        return np.concatenate([np.append(self.joints(s), self.opening(s)) for s in SIDES])

    def hand(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """Position and rotation matrix of a gripper's tool centre point."""
        site = self._site[side]
        return self.data.site_xpos[site].copy(), self.data.site_xmat[site].reshape(3, 3).copy()

    def position(self, sku: Sku) -> np.ndarray:
        """[3] centre of an item."""
        q = self._item_q[sku.index]
        return self.data.qpos[q : q + 3].copy()

    def rotation(self, sku: Sku) -> np.ndarray:
        """[3, 3] rotation of an item; the last column is its axis."""
        q, matrix = self._item_q[sku.index], np.zeros(9)
        mujoco.mju_quat2Mat(matrix, self.data.qpos[q + 3 : q + 7])
        return matrix.reshape(3, 3)

    def upright(self, sku: Sku) -> float:
        """Cosine of an item's tilt; boxes and cans have no top, so either end may be up."""
        cosine = float(self.rotation(sku)[2, 2])
        return cosine if sku.shape.topped else abs(cosine)

    def speed(self, sku: Sku) -> float:
        """Linear speed of an item, m/s."""
        v = self._item_v[sku.index]
        return float(np.linalg.norm(self.data.qvel[v : v + 3]))

    def touching(self, sku: Sku) -> set[str]:
        """Names of the bodies that touched an item in the last step; `world` for the table."""
        if self._touches is None:
            self._touches = {}
            for a, b in self.model.geom_bodyid[self.data.contact.geom].tolist():
                self._touches.setdefault(a, set()).add(self._names[b])
                self._touches.setdefault(b, set()).add(self._names[a])
        return self._touches.get(self._item_body[sku.index], set())

    def touched(self, sku: Sku) -> bool:
        """Whether a finger touches an item."""
        return not self.touching(sku).isdisjoint(FINGERS)

    def holder(self, sku: Sku) -> str | None:
        """The side whose two fingers both touch an item."""
        touching = self.touching(sku)
        return next((s for s in SIDES if {f"{s}_fl", f"{s}_fr"} <= touching), None)

    def lifted(self, sku: Sku) -> bool:
        """Whether an item is in a hand and rests on nothing."""
        return self.holder(sku) is not None and self.touching(sku) <= FINGERS

    def door(self) -> float:
        """Angle of the door, 0 closed; 0 without a door."""
        return 0.0 if self._door_q is None else abs(float(self.data.qpos[self._door_q]))

    def state(self, elapsed: float) -> np.ndarray:
        """[state] float32 in the order of `StateLayout`; `elapsed` is a fraction of the limit."""
        scalars = [elapsed, self.door(), self.opened, *self.layout.fixture, *self.layout.goal, 0, 0]
        parts = [self._proprio(side) for side in SIDES] + [self._slot(s) for s in self._slots]
        absent = np.zeros(STATE.slot * (STATE.slots - len(self._slots)))
        return np.concatenate([*parts, absent, scalars]).astype(np.float32)

    def _proprio(self, side: str) -> np.ndarray:
        pace = sum(self.data.qvel[f.dofadr[0]] for f in self._fingers[side])
        velocity = self.data.qvel[self._arm_v[side]]
        position, rotation = self.hand(side)
        fingers = [self.opening(side), pace]
        axes = rotation[:, :2].T.ravel()
        return np.concatenate([self.joints(side), velocity, fingers, position, axes])

    def _slot(self, sku: Sku) -> np.ndarray:
        shape = [float(sku.shape is s) for s in SHAPES]
        colour = [float(sku.colour == c) for c in COLOURS]
        axes = self.rotation(sku)[:, :2].T.ravel()
        return np.concatenate([self.position(sku), axes, shape, colour, [1.0]])
