"""Motions of the scripted expert: reach, grip, pick, place. Each yields once per control tick.

A skill reads the scene as it goes and gives up early when it cannot succeed; whoever runs it
looks at the predicates and chooses again.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import mujoco
import numpy as np

from lwd.sim.body import HOME, MAX_OPENING, MAX_SPEED, SHOULDER_Y, SIDES
from lwd.sim.ik import ArmKinematics
from lwd.sim.items import Sku
from lwd.sim.scene import REST, Scene
from lwd.sim.task import TABLE_Z

Pose = tuple[np.ndarray, np.ndarray]
"""Position [3] and rotation matrix [3, 3] of a tool centre point."""
UP = np.array([0.0, 0.0, 1.0])
SLOT = {"left": slice(0, 8), "right": slice(8, 16)}
"""Part of an action that belongs to an arm."""
_TILT = np.deg2rad(30)
_SAFE_Z = 0.93
_TABLE_EDGE = 0.12
"""x at which a low hand is surely in front of the table."""
_TURN_SPEED = 1.6
_HOME_SPEED = 1.2


@dataclass(frozen=True, kw_only=True)
class ExpertNoise:
    """How one demonstration differs from the next."""

    pace: tuple[float, float] = (0.7, 1.3)
    """Range of the speed factor, drawn once per episode."""
    jitter_m: tuple[float, float] = (0.005, 0.010)
    """Range of the displacement of a way point that touches nothing."""
    pause: float = 0.1
    """Probability of a pause before a motion."""
    pause_s: tuple[float, float] = (0.2, 0.5)


NO_NOISE = ExpertNoise(pace=(1.0, 1.0), jitter_m=(0.0, 0.0), pause=0.0)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Deliberate mistakes, as probabilities, for play data."""

    offset_grasp: float = 0.0
    """Per grasp: reach two to six centimetres short of the item or beyond."""
    early_release: float = 0.0
    """Per placing: let go on the way."""
    wrong_item: float = 0.0
    """Per episode: serve another item first, then the one named."""


@dataclass(kw_only=True)
class Hands:
    """Both arms as the skills command them."""

    scene: Scene
    rate_hz: float
    rng: np.random.Generator
    noise: ExpertNoise = NO_NOISE
    faults: Faults = field(default_factory=Faults)
    target: np.ndarray = field(default_factory=REST.copy)
    """[action] the targets of the next tick."""
    busy: set[str] = field(default_factory=set)
    """Sides that a skill moves; the others go home."""
    pace: float = 1.0

    def __post_init__(self) -> None:
        self._arms = {side: ArmKinematics(side) for side in SIDES}

    def joints(self, side: str) -> np.ndarray:
        """[7] commanded joint angles."""
        return self.target[SLOT[side]][:7]

    def pose(self, side: str) -> Pose:
        """Commanded pose of a tool centre point."""
        return self._arms[side].pose(self.joints(side))

    def retire(self) -> None:
        """Move the arms that no skill uses one tick towards rest."""
        for side in set(SIDES) - self.busy:
            self.target[SLOT[side]] = _towards(
                self.target[SLOT[side]], np.append(HOME, MAX_OPENING), _HOME_SPEED / self.rate_hz
            )

    def move(self, side: str, way: Sequence[Pose], speed: float) -> Iterator[None]:
        """Move a hand along way points: smooth start and stop, no halt between, m/s."""
        if self.rng.random() < self.noise.pause:
            yield from self.wait(self.rng.uniform(*self.noise.pause_s))
        way = [self.pose(side), *((p + self._jitter(), r) for p, r in way[:-1]), way[-1]]
        speed *= self.pace
        spans = [
            max(
                float(np.linalg.norm(q - p)) / speed, _angle(r, s) / (_TURN_SPEED * self.pace), 1e-3
            )
            for (p, r), (q, s) in pairwise(way)
        ]
        knots = np.concatenate([[0.0], np.cumsum(spans)])
        ticks = max(2, int(np.ceil(knots[-1] * self.rate_hz)))
        for k in range(1, ticks + 1):
            at = knots[-1] * _smooth(k / ticks)
            position = _hermite(knots, np.array([p for p, _ in way]), at)
            leg = min(int(np.searchsorted(knots, at, side="right")), len(spans)) - 1
            part = (at - knots[leg]) / spans[leg]
            self.reach(side, position, _blend(way[leg][1], way[leg + 1][1], part))
            yield
        yield from self._arrive(side, way[-1][0])

    def home(self, side: str) -> Iterator[None]:
        """Raise a hand if it is low, then bring the arm to rest through joint space."""
        position, rotation = self.pose(side)
        if position[2] < TABLE_Z:  # it may be under the table: come out towards the robot first
            position = np.append(_TABLE_EDGE, position[1:])
            yield from self.move(side, [(position, rotation)], 0.3)
        if position[2] < _SAFE_Z:
            raised = np.append(position[:2], _SAFE_Z)
            yield from self.move(side, [(raised, rotation)], 0.3)
        rest = np.append(HOME, self.target[SLOT[side]][7])
        while np.abs(self.target[SLOT[side]] - rest).max() > 1e-3:
            step = _HOME_SPEED / self.rate_hz
            self.target[SLOT[side]] = _towards(self.target[SLOT[side]], rest, step)
            yield

    def grip(self, side: str, opening: float, seconds: float) -> Iterator[None]:
        """Open or close a gripper and wait."""
        self.target[SLOT[side]][7] = opening
        yield from self.wait(seconds)

    def wait(self, seconds: float) -> Iterator[None]:
        """Hold still."""
        for _ in range(max(1, round(seconds * self.rate_hz))):
            yield

    def clear(self, side: str, point: np.ndarray, radius: float = 0.22) -> Iterator[None]:
        """Wait until the other hand, on its way home, has left the neighbourhood of a point."""
        other = SIDES[1 - SIDES.index(side)]
        for _ in range(round(3 * self.rate_hz)):
            if np.linalg.norm(self.scene.hand(other)[0] - point) > radius:
                return
            yield

    def _arrive(self, side: str, position: np.ndarray) -> Iterator[None]:
        """Wait, briefly, until the hand is where it was told to be."""
        for _ in range(round(0.3 * self.rate_hz)):
            if np.linalg.norm(self.scene.hand(side)[0] - position) < 0.004:
                return
            yield

    def reach(self, side: str, position: np.ndarray, rotation: np.ndarray) -> None:
        """Command a hand's pose for the next tick."""
        joints = self.joints(side)
        wanted = self._arms[side].solve(joints, position, rotation)
        self.target[SLOT[side]][:7] = _towards(joints, wanted, 0.9 * MAX_SPEED / self.rate_hz)

    def miss(self) -> float:
        """How far off the item to grasp, m: 0 but for a deliberate mistake."""
        missed = self.rng.random() < self.faults.offset_grasp
        return missed * self.rng.uniform(0.02, 0.06) * self.rng.choice([-1, 1])

    def hasty(self) -> bool:
        """Whether to let go too early."""
        return bool(self.rng.random() < self.faults.early_release)

    def _jitter(self) -> np.ndarray:
        direction = self.rng.normal(size=3)
        return direction / np.linalg.norm(direction) * self.rng.uniform(*self.noise.jitter_m)


def side_of(point: np.ndarray) -> str:
    """The arm that serves a point: always the nearer one."""
    return "left" if point[1] >= 0 else "right"


def heading(side: str, point: np.ndarray) -> float:
    """Natural yaw of a hand at a point: half way between straight ahead and out of the shoulder."""
    return 0.5 * float(np.arctan2(point[1] - SHOULDER_Y[side], point[0] - 0.1))


def leaning(tilt: float, yaw: float) -> np.ndarray:
    """Rotation of a hand that points down, leaning forward by `tilt` in the direction `yaw`."""
    z = np.array([np.sin(tilt) * np.cos(yaw), np.sin(tilt) * np.sin(yaw), -np.cos(tilt)])
    y = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    return np.stack([np.cross(y, z), y, z], axis=1)


def pick(hands: Hands, sku: Sku, arm: str | None = None) -> Iterator[None]:
    """Grasp an item and lift it; ends with the item in the hand, or gives up.

    `arm` does it, by default the nearer one, unless a hand has the item already.
    """
    scene = hands.scene
    side = scene.holder(sku) or arm or side_of(scene.position(sku))
    hands.busy = {side}
    if scene.holder(sku) is None:
        yield from make_ready(hands, side, sku)
        yield from hands.clear(side, scene.position(sku))
        position, rotation = grasp(scene, side, sku)
        hover = position - 0.10 * rotation[:, 2]
        yield from hands.move(side, [(hover + 0.08 * UP, rotation), (hover, rotation)], 0.25)
        position, rotation = grasp(scene, side, sku)
        position = position + hands.miss() * rotation[:, 0]
        yield from hands.move(side, [(position, rotation)], 0.15)
        yield from hands.grip(side, 0.0, 0.4)
        if scene.holder(sku) != side:
            yield from hands.grip(side, MAX_OPENING, 0.2)
            yield from hands.move(side, [(hover + 0.08 * UP, rotation)], 0.4)
            return
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position + 0.08 * UP, rotation)], 0.2)


def place(hands: Hands, sku: Sku, foot: np.ndarray) -> Iterator[None]:
    """Stand a held item on a point, let go, step back."""
    scene = hands.scene
    side = scene.holder(sku)
    if side is None:
        return
    hands.busy = {side}
    above = upright_pose(scene, side, sku, foot + 0.07 * UP)
    position, rotation = hands.pose(side)
    high = np.array([min(position[0], 0.45), position[1], max(position[2], above[0][2])])
    front = (above[0] - [0.13, 0, 0], above[1])  # come from the front, not across the neighbours
    way = [(high, rotation), front, above]
    if hands.hasty():
        yield from hands.move(side, way[:-1], 0.24)
        yield from hands.grip(side, MAX_OPENING, 0.3)
        return
    yield from hands.move(side, way, 0.24)
    if scene.holder(sku) != side:
        return
    yield from hands.move(side, [upright_pose(scene, side, sku, foot + 0.003 * UP)], 0.1)
    yield from hands.grip(side, MAX_OPENING, 0.3)
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position - 0.10 * rotation[:, 2], rotation)], 0.3)


def make_ready(hands: Hands, side: str, sku: Sku) -> Iterator[None]:
    """Empty the hand of anything but `sku`, open it, and untangle the arm."""
    for item in hands.scene.layout.items:
        if item.sku is not sku and hands.scene.holder(item.sku) == side:
            yield from place(hands, item.sku, free_spot(hands.scene, side))
    hands.busy = {side}
    hands.target[SLOT[side]][7] = MAX_OPENING
    if hands.pose(side)[0][2] < TABLE_Z or np.abs(hands.joints(side) - HOME).max() > 1.7:
        yield from hands.home(side)


def free_spot(scene: Scene, side: str) -> np.ndarray:
    """[3] the point of the table on an arm's side that is farthest from every item."""
    sign = np.sign(SHOULDER_Y[side])
    spots = [np.array([x, sign * y, TABLE_Z]) for x in (0.38, 0.44, 0.50) for y in (0.1, 0.2, 0.3)]
    stand = np.array([scene.position(item.sku)[:2] for item in scene.layout.items])
    return max(spots, key=lambda s: np.linalg.norm(stand - s[:2], axis=1).min())


def grasp(scene: Scene, side: str, sku: Sku) -> Pose:
    """Pose of the hand around an item, standing or lying."""
    centre, turn = scene.position(sku), scene.rotation(sku)
    natural = heading(side, centre)
    axis = turn[:, 2]
    if abs(axis[2]) > 0.7:
        yaw = natural if sku.shape.round else _nearest_face(turn, natural)
        return centre + 0.015 * UP, leaning(_TILT, yaw)
    if not sku.shape.topped and np.cos(np.arctan2(axis[1], axis[0]) - natural) < 0:
        axis = -axis
    yaw = float(np.arctan2(axis[1], axis[0]))
    if np.cos(yaw - natural) < 0:
        yaw += np.pi
    return centre, leaning(np.deg2rad(8), _wrap(yaw))


def upright_pose(scene: Scene, side: str, sku: Sku, foot: np.ndarray) -> Pose:
    """Pose of the hand that stands the item it holds upright on a point."""
    position, rotation = scene.hand(side)
    centre, axis = scene.position(sku), scene.rotation(sku)[:, 2]
    if not sku.shape.topped and axis @ _lean_axis(rotation) < 0:
        axis = -axis
    standing = _upright(rotation, axis, heading(side, foot))
    offset = rotation.T @ (centre - position)
    return foot + UP * sku.shape.height / 2 - standing @ offset, standing


def _lean_axis(rotation: np.ndarray) -> np.ndarray:
    """Direction that points up when a hand leans to put things down: back of the palm's x and z."""
    return -rotation[:, 0] * np.sin(np.pi / 4) - rotation[:, 2] * np.cos(np.pi / 4)


def _upright(rotation: np.ndarray, axis: np.ndarray, yaw: float) -> np.ndarray:
    """Rotation of the hand that brings a direction it holds upright and itself to a yaw."""
    cross, cosine = np.cross(axis, UP), float(axis @ UP)
    turn = _exponential(
        cross / max(np.linalg.norm(cross), 1e-9) * np.arccos(np.clip(cosine, -1, 1))
    )
    upright = turn @ rotation
    ahead = upright[:, 2] if np.hypot(*upright[:2, 2]) > 0.1 else -upright[:, 0]
    now = np.arctan2(ahead[1], ahead[0])
    return _exponential(UP * _wrap(yaw - now)) @ upright


def _nearest_face(turn: np.ndarray, natural: float) -> float:
    """Yaw of the face of a box nearest to a natural yaw."""
    yaw = np.arctan2(turn[1, 0], turn[0, 0])
    return natural + (yaw - natural + np.pi / 4) % (np.pi / 2) - np.pi / 4


def _wrap(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def _towards(now: np.ndarray, goal: np.ndarray, step: float) -> np.ndarray:
    """Move in a straight line so that no entry changes by more than `step`."""
    gap = goal - now
    return now + gap * min(1.0, step / max(float(np.abs(gap).max()), 1e-9))


def _smooth(part: float) -> float:
    return part * part * (3 - 2 * part)


def _hermite(knots: np.ndarray, points: np.ndarray, at: float) -> np.ndarray:
    """Cubic through points at knots, with finite-difference tangents, at rest at both ends."""
    tangents = np.gradient(points, knots, axis=0)
    k = min(int(np.searchsorted(knots, at, side="right")), len(knots) - 1) - 1
    width = knots[k + 1] - knots[k]
    s = (at - knots[k]) / width
    a, b = points[k], points[k + 1]
    rise, fall = tangents[k] * width, tangents[k + 1] * width
    return (
        (2 * s**3 - 3 * s**2 + 1) * a
        + (s**3 - 2 * s**2 + s) * rise
        + (3 * s**2 - 2 * s**3) * b
        + (s**3 - s**2) * fall
    )


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two rotations."""
    return float(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


def _blend(a: np.ndarray, b: np.ndarray, part: float) -> np.ndarray:
    """Rotation part of the way from a to b."""
    quaternion, velocity = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, (b @ a.T).ravel())
    mujoco.mju_quat2Vel(velocity, quaternion, 1.0)
    return _exponential(velocity * part) @ a


def _exponential(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector."""
    quaternion, matrix = np.array([1.0, 0, 0, 0]), np.zeros(9)
    mujoco.mju_quatIntegrate(quaternion, np.asarray(vector, np.float64), 1.0)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)
