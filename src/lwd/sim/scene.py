"""A task's world: the model, its physics, and what predicates and policies read from it."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np

from lwd.config import StateLayout
from lwd.sim.body import HOME, MAX_OPENING, SIDES, add_robot, joint_names
from lwd.sim.liquids import Liquids, catcher, lip, outflow
from lwd.sim.task import TABLE_Z, Layout, TaskSpec, Variation
from lwd.sim.things import COLOURS, KINDS, Cluster, Thing, Vessel

log = logging.getLogger(__name__)
# By itself MuJoCo writes its warnings to a file in the current folder.
mujoco.set_mju_user_warning(lambda words: log.warning("physics %s", words))

STATE = StateLayout()
ACTION = 16
"""2 arms x (7 joint targets in rad, gripper opening in m)."""
REST = np.tile(np.append(HOME, MAX_OPENING), 2)
"""[action] targets of both arms at rest."""
FINGERS = frozenset(f"{side}_{finger}" for side in SIDES for finger in ("fl", "fr"))
_ALIKE = 3
"""Most things of one kind and colour in a scene."""
_VOLUME_ML = 50.0
"""Unit of a volume in the state."""
_SETTLE_S = 0.1
_REACT_S = 0.02
"""Period at which liquids flow and `TaskSpec.react` is called."""
_LARGEST = 1e6
"""Positions and speeds (m, rad) beyond this are no physics."""
_UNSTABLE = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]
_GEOM = mujoco.mjtGeom


@cache
def compile_model(
    furnish: Callable[[mujoco.MjSpec, mujoco.MjsBody], None], timestep_s: float
) -> mujoco.MjModel:
    """Compile a task's model, once per process. Copy it before use: layouts are set in it."""
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
    world.add_light(name="light", pos=[0, 0, 2.5], dir=[0.2, 0, -1], castshadow=False)
    world.add_geom(
        name="floor",
        type=_GEOM.mjGEOM_PLANE,
        size=[4, 4, 0.05],
        rgba=[0.55, 0.55, 0.57, 1],
        contype=5,
        conaffinity=3,
    )
    world.add_geom(
        name="table", type=_GEOM.mjGEOM_BOX, size=[0.3, 0.6, 0.02],
        pos=[0.55, 0, TABLE_Z - 0.02], rgba=[0.8, 0.7, 0.55, 1],
        contype=5, conaffinity=3,
    )  # fmt: skip
    fixture = world.add_body(name="fixture")
    add_robot(spec)
    furnish(spec, fixture)
    return spec.compile()


@dataclass(frozen=True, kw_only=True)
class SceneMoment:
    """A world at one time."""

    data: mujoco.MjData
    layout: Layout
    slots: tuple[Thing, ...]
    reached: int
    liquids: Liquids
    facts: dict[str, float]


class Scene:
    """One world of a task, reset to a layout and stepped by joint targets.

    Reads come straight from the generalised positions, so they are right after a reset, a step
    or a teleport alike.
    """

    def __init__(self, task: TaskSpec, timestep_s: float) -> None:
        self.task = task
        self._nominal = compile_model(task.furnish, timestep_s)
        self.model = copy(self._nominal)
        self.data = mujoco.MjData(self.model)
        self.layout: Layout
        self.reached = 0
        """Leading sub-steps that have been done in this episode, each after those before it."""
        self.liquids = Liquids()
        self.facts: dict[str, float] = {}
        """What else a task remembers of an episode: cuts made, turns counted."""
        model = self.model
        names = {side: joint_names(side) for side in SIDES}
        joint = {side: [model.joint(n).id for n in names[side]] for side in SIDES}
        self._arm_q = {side: model.jnt_qposadr[joint[side]] for side in SIDES}
        self._arm_v = {side: model.jnt_dofadr[joint[side]] for side in SIDES}
        self._fingers = {side: [model.joint(f"{side}_{f}") for f in ("fl", "fr")] for side in SIDES}
        self._site = {side: model.site(f"{side}_tcp").id for side in SIDES}
        self._names = [model.body(k).name for k in range(model.nbody)]
        self._body = {name: k for k, name in enumerate(self._names)}
        free = [j for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]
        self._free_q = {model.joint(j).name: int(model.jnt_qposadr[j]) for j in free}
        self._free_v = {model.joint(j).name: int(model.jnt_dofadr[j]) for j in free}
        self._joint_q = [int(model.joint(name).qposadr[0]) for name in task.joints]
        self._vessels = [thing for thing in task.things if isinstance(thing, Vessel)]
        self._welds = {
            k: {self._names[model.eq_obj1id[k]], self._names[model.eq_obj2id[k]]}
            for k in range(model.neq)
            if model.eq_type[k] == mujoco.mjtEq.mjEQ_WELD
        }
        self._touches: dict[int, set[str]] | None = None
        self._slots: list[Thing] = []
        self._which: dict[str, int] = {}
        self._jammed: dict[str, float] = {}

    def reset(self, layout: Layout, slots: list[Thing]) -> None:
        """Set the world to a layout. `slots` is the order of the things in the state."""
        self.layout, self._slots, self.reached = layout, slots, 0
        self._which = _number(slots, self.task.things)
        self.liquids, self.facts = Liquids(), {}
        self._jammed = {}
        data = self.data
        # Before the reset: with sleep, static bodies are posed once after it and then never again.
        self._vary(layout.variation)
        *position, yaw = layout.fixture
        self.model.body("fixture").pos = position
        self.model.body("fixture").quat = (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        mujoco.mj_resetData(self.model, data)
        for side in SIDES:
            data.qpos[self._arm_q[side]] = HOME
            for finger in self._fingers[side]:
                data.qpos[finger.qposadr[0]] = MAX_OPENING / 2
        present = {item.thing.name for item in layout.items}
        absent = [t for t in self.task.things if self.movable(t) and t.name not in present]
        for k, thing in enumerate(absent):  # they wait on the floor, behind the robot
            self.teleport(thing, (-2.0 - 0.2 * k, 0.0, thing.shape.height / 2))
        for item in layout.items:
            if self.movable(item.thing):
                self.teleport(item.thing, item.position, item.yaw)
        if self.task.prepare is not None:
            self.task.prepare(self)
        self.step(REST, round(_SETTLE_S / self.model.opt.timestep))
        self.reached = 0
        data.time = 0.0

    def _vary(self, variation: Variation) -> None:
        """Set masses, friction, light and camera, from the nominal model."""
        model, nominal = self.model, self._nominal
        # As in a new process: the constants below depend, in their last digits, on where it stood.
        model.body("fixture").pos = nominal.body("fixture").pos
        model.body("fixture").quat = nominal.body("fixture").quat
        for thing in self.task.things:
            for body in thing.bodies:
                k = self._body[body]
                model.body_mass[k] = nominal.body_mass[k] * variation.mass
                model.body_inertia[k] = nominal.body_inertia[k] * variation.mass
        model.geom_friction[:, 0] = nominal.geom_friction[:, 0] * variation.friction
        model.light("light").diffuse = nominal.light("light").diffuse * variation.light
        model.cam("head").pos = nominal.cam("head").pos + variation.camera_m
        mujoco.mj_setConst(model, self.data)

    def save(self) -> "SceneMoment":
        """The world now, for `restore`."""
        return SceneMoment(
            data=copy(self.data),
            layout=self.layout,
            slots=tuple(self._slots),
            reached=self.reached,
            liquids=self.liquids.copy(),
            facts=dict(self.facts),
        )

    def restore(self, moment: "SceneMoment") -> None:
        """Back to a moment of the same episode: the same actions give the same states again.

        Raises ValueError for a moment of another layout, whose fixture stood elsewhere.
        """
        if moment.layout is not self.layout:
            raise ValueError("the moment is of another episode; restore it before the next reset.")
        mujoco.mj_copyData(self.data, self.model, moment.data)
        self._slots, self.reached, self._touches = list(moment.slots), moment.reached, None
        self.liquids, self.facts = moment.liquids.copy(), dict(moment.facts)

    def teleport(self, thing: Thing, position: tuple[float, ...], yaw: float = 0.0) -> None:
        """Put a thing's centre upright at a position, at rest."""
        q, v = self._free_q[thing.name], self._free_v[thing.name]
        self.data.qpos[q : q + 7] = (*position, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        self.data.qvel[v : v + 6] = 0.0

    def step(self, target: np.ndarray, steps: int, start: np.ndarray | None = None) -> None:
        """Step the physics while the joint targets move from `start` in a straight line."""
        goal = self._servo(target)
        first = goal if start is None else self._servo(start)
        timestep = self.model.opt.timestep
        period = max(1, round(_REACT_S / timestep))
        for k in range(1, steps + 1):
            self.data.ctrl[:] = first + (goal - first) * (k / steps)
            mujoco.mj_step(self.model, self.data)
            if k % period == 0 or k == steps:
                self._touches = None
                self._react(((k - 1) % period + 1) * timestep)
        subtasks = self.task.subtasks
        while self.reached < len(subtasks) and subtasks[self.reached].done(self):
            self.reached += 1

    def _react(self, seconds: float) -> None:
        """Let liquids run and the task do what contact physics does not."""
        for vessel in self._vessels:
            if ml := self.liquids.volume(vessel):
                rotation = self.rotation(vessel)
                tilt = float(np.arccos(np.clip(rotation[2, 2], -1, 1)))
                if flow := outflow(vessel, ml, tilt):
                    others = [v for v in self._vessels if v is not vessel]
                    poses = [(v, self.position(v), self.rotation(v)) for v in others]
                    into = catcher(lip(vessel, self.position(vessel), rotation), poses)
                    self.liquids.pour(vessel, into, flow * seconds)
        if self.task.react is not None:
            self.task.react(self, seconds)

    def _servo(self, target: np.ndarray) -> np.ndarray:
        """Actuator inputs for a target: a gripper's servo moves one finger, half the opening."""
        servo = np.array(target, np.float64)
        servo[7::8] /= 2
        for side, held in self._jammed.items():
            servo[8 * SIDES.index(side) + 7] = held
        return servo

    def jam(self, side: str, *, stuck: bool) -> None:
        """A gripper's servo keeps its input, deaf to targets, until freed or the next reset."""
        if stuck:
            self._jammed.setdefault(side, float(self.data.ctrl[8 * SIDES.index(side) + 7]))
        else:
            self._jammed.pop(side, None)

    def push(self, thing: Thing, weights: np.ndarray) -> None:
        """A [3] force on a thing, in the table's frame, until the next push or reset; in weights of
        the thing and what is welded to it."""
        mass = sum(self.model.body_mass[self._body[name]] for name in self.one_piece(thing.name))
        force = weights * mass * -self.model.opt.gravity[2]
        self.data.xfrc_applied[self._body[thing.name], :3] = force

    def movable(self, thing: Thing) -> bool:
        """Whether a thing is one body that nothing fastens."""
        return thing.name in self._free_q

    def one_piece(self, *bodies: str) -> set[str]:
        """Names of bodies and of those that welds hold together with them now."""
        pairs = [ends for k, ends in self._welds.items() if self.data.eq_active[k]]
        found = set(bodies)
        while more := {n for ends in pairs if found & ends for n in ends} - found:
            found |= more
        return found

    @property
    def diverged(self) -> bool:
        """Whether the physics became unstable since the reset; then no state means anything."""
        if any(self.data.warning[k].number for k in _UNSTABLE):
            return True
        moving = np.concatenate([self.data.qpos, self.data.qvel])
        return not bool((np.abs(moving) < _LARGEST).all())

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

    def position(self, thing: Thing) -> np.ndarray:
        """[3] centre of a thing; of several bodies, their mean."""
        if len(thing.bodies) == 1:
            return self._position(thing.bodies[0])
        return np.mean([self._position(body) for body in thing.bodies], 0)

    def _position(self, body: str) -> np.ndarray:
        q = self._free_q.get(body)
        return self.data.body(body).xpos.copy() if q is None else self.data.qpos[q : q + 3].copy()

    def rotation(self, thing: Thing) -> np.ndarray:
        """[3, 3] rotation of a thing; the last column is its axis. Beads have none."""
        if isinstance(thing, Cluster):
            return np.eye(3)
        q, matrix = self._free_q.get(thing.name), np.zeros(9)
        if q is None:
            return self.data.body(thing.name).xmat.reshape(3, 3).copy()
        mujoco.mju_quat2Mat(matrix, self.data.qpos[q + 3 : q + 7])
        return matrix.reshape(3, 3)

    def upright(self, thing: Thing) -> float:
        """Cosine of a thing's tilt; boxes and cans have no top, so either end may be up."""
        cosine = float(self.rotation(thing)[2, 2])
        return cosine if thing.shape.topped else abs(cosine)

    def speed(self, thing: Thing) -> float:
        """Linear speed of a thing, m/s; of several bodies, the fastest; 0 for a fixed one."""
        addresses = [self._free_v[body] for body in thing.bodies if body in self._free_v]
        speeds = (float(np.linalg.norm(self.data.qvel[v : v + 3])) for v in addresses)
        return max(speeds, default=0.0)

    def touching(self, thing: Thing) -> set[str]:
        """Names of the bodies that touched a thing in the last step; `world` for the table."""
        return self.touching_body(*thing.bodies)

    def touching_body(self, *bodies: str) -> set[str]:
        """Names of the bodies that touched one of `bodies` in the last step."""
        if self._touches is None:
            self._touches = {}
            for a, b in self.model.geom_bodyid[self.data.contact.geom].tolist():
                self._touches.setdefault(a, set()).add(self._names[b])
                self._touches.setdefault(b, set()).add(self._names[a])
        return set().union(*(self._touches.get(self._body[body], ()) for body in bodies))

    def touched(self, thing: Thing) -> bool:
        """Whether a finger touches a thing."""
        return not self.touching(thing).isdisjoint(FINGERS)

    def holder(self, thing: Thing) -> str | None:
        """The side whose two fingers both touch a thing."""
        touching = self.touching(thing)
        return next((s for s in SIDES if {f"{s}_fl", f"{s}_fr"} <= touching), None)

    def lifted(self, thing: Thing) -> bool:
        """Whether a thing is in a hand and rests on nothing."""
        return self.holder(thing) is not None and self.touching(thing) <= FINGERS

    def angle(self, joint: str) -> float:
        """Angle of one of the task's doors, lids and knobs, rad, 0 closed."""
        return abs(float(self.data.qpos[self._joint_q[self.task.joints.index(joint)]]))

    def state(self, elapsed: float) -> np.ndarray:
        """[state] float32 in the order of `StateLayout`; `elapsed` is a fraction of the limit."""
        joints = [self.angle(name) for name in self.task.joints]
        done = [float(k < self.reached) for k in range(STATE.done)]
        scalars = [
            *(elapsed, *joints, *[0.0] * (2 - len(joints))),
            *(*self.layout.fixture, *self.layout.goal, *done),
        ]
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

    def _slot(self, thing: Thing) -> np.ndarray:
        axes = self.rotation(thing)[:, :2].T.ravel()
        holds = self.liquids.ml.get(thing.name, 0.0) / _VOLUME_ML
        kind = [float(thing.shape.kind == kind) for kind in KINDS]
        colour = [float(thing.colour == c) for c in COLOURS]
        which = [float(self._which[thing.name] == k) for k in range(_ALIKE)]
        touching = self.touching(thing)
        held = [float({f"{s}_fl", f"{s}_fr"} <= touching) for s in SIDES]
        return np.concatenate(
            [self.position(thing), axes, [holds], kind, colour, which, held, [1.0]]
        )


def _number(slots: list[Thing], things: Iterable[Thing]) -> dict[str, int]:
    """Which one a thing is among those present of the same kind and colour, by its name."""
    counts: Counter[tuple[str, str]] = Counter()
    numbers = {}
    for thing in things:
        if thing in slots:
            looks = thing.shape.kind, thing.colour
            numbers[thing.name] = counts[looks]
            counts[looks] += 1
    return numbers
