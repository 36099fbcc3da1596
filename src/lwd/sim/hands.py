"""Both arms as the expert commands them: way points, grippers, rest, noise and faults.

Motions are iterators that set the next tick's targets and yield once per control tick.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from lwd.sim.body import HOME, MAX_OPENING, MAX_SPEED, SIDES
from lwd.sim.geometry import Pose, angle_between, blend, hermite, smooth, towards
from lwd.sim.ik import ArmKinematics
from lwd.sim.scene import REST, Scene
from lwd.sim.task import TABLE_Z

SLOT = {"left": slice(0, 8), "right": slice(8, 16)}
"""Part of an action that belongs to an arm."""
_SAFE_Z = 0.93
_TABLE_EDGE = 0.12
"""x at which a low hand is surely in front of the table."""
_TURN_SPEED = 1.6
_HOME_SPEED = 1.2


SHORT_S = 45.0
"""Time limit of the longest of the short tasks."""


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
    slips_hz: float = 0.0
    """Slips of the busy arms per second; what follows shows how to recover. In a task of more than
    `SHORT_S` they are rarer by the square of its length: what is spilled there stays spilled, and
    a demonstration with many slips seldom succeeds."""
    slip_s: tuple[float, float] = (0.3, 0.6)
    slip_rad_s: float = 0.5
    """Deviation of the joint speeds of a slip."""
    slip_opens: float = 0.2
    """Probability that a slip opens the gripper."""


NO_NOISE = ExpertNoise(pace=(1.0, 1.0), jitter_m=(0.0, 0.0), pause=0.0)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Deliberate mistakes, as probabilities, for play data."""

    offset_grasp: float = 0.0
    """Per grasp: reach two to six centimetres short of the item or beyond."""
    early_release: float = 0.0
    """Per placing: let go on the way."""
    wrong_item: float = 0.0
    """Per episode: serve another item first, then the one named. Of the long tasks only shoes and
    tea have a choice; juice and cocktail are made of what was named."""


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
        for side in (side for side in SIDES if side not in self.busy):
            self.target[SLOT[side]] = towards(
                self.target[SLOT[side]], np.append(HOME, MAX_OPENING), _HOME_SPEED / self.rate_hz
            )

    def move(self, side: str, way: Sequence[Pose], speed: float) -> Iterator[None]:
        """Move a hand along way points: smooth start and stop, no halt between, m/s."""
        for pose in self.along(self.pose(side), way, speed):
            if pose is not None:
                self.reach(side, *pose)
            yield
        yield from self._arrive(side, way[-1][0])

    def along(self, start: Pose, way: Sequence[Pose], speed: float) -> Iterator[Pose | None]:
        """Poses on the way from a start through way points, one per tick; None in a pause."""
        if self.rng.random() < self.noise.pause:
            yield from self.wait(self.rng.uniform(*self.noise.pause_s))
        way = [start, *((p + self._jitter(), r) for p, r in way[:-1]), way[-1]]
        speed *= self.pace
        spans = [
            max(
                float(np.linalg.norm(q - p)) / speed,
                angle_between(r, s) / (_TURN_SPEED * self.pace),
                1e-3,
            )
            for (p, r), (q, s) in pairwise(way)
        ]
        knots = np.concatenate([[0.0], np.cumsum(spans)])
        ticks = max(2, int(np.ceil(knots[-1] * self.rate_hz)))
        for k in range(1, ticks + 1):
            at = knots[-1] * smooth(k / ticks)
            position = hermite(knots, np.array([p for p, _ in way]), at)
            leg = min(int(np.searchsorted(knots, at, side="right")), len(spans)) - 1
            part = (at - knots[leg]) / spans[leg]
            yield position, blend(way[leg][1], way[leg + 1][1], part)

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
            self.target[SLOT[side]] = towards(self.target[SLOT[side]], rest, step)
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
        self.target[SLOT[side]][:7] = towards(joints, wanted, 0.9 * MAX_SPEED / self.rate_hz)

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
