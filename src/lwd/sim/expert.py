"""The scripted expert: works on the first step of a task that does not hold, from any state."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lwd.sim.items import Sku
from lwd.sim.robot import SimRobot
from lwd.sim.skills import SLOT, ExpertNoise, Hands
from lwd.sim.task import Step


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Deliberate mistakes, for play data. Probabilities per episode."""

    offset_grasp: float = 0.0
    """Grasp two to four centimetres beside the item."""
    early_release: float = 0.0
    """Let go above the goal."""
    wrong_item: float = 0.0
    """Work on another item than the one named."""


class Expert:
    """Closed-loop expert and demonstrator.

    It reads predicates, not a clock, so it can start in any state and take over from anybody: when
    the robot's targets are not the ones it gave, it plans anew from where the arms are.
    """

    def __init__(
        self,
        robot: SimRobot,
        rng: np.random.Generator,
        *,
        noise: ExpertNoise | None = None,
        faults: Faults | None = None,
    ) -> None:
        self._robot, self._rng = robot, rng
        self._noise, self._faults = noise or ExpertNoise(), faults or Faults()
        self._episode = -1
        self._hands: Hands
        self._item: Sku
        self._skill: Iterator[None] = iter(())

    def act(self) -> np.ndarray:
        """[action] float32 targets for the robot's next tick."""
        if self._episode != self._robot.episode:
            self._begin()
        if not np.array_equal(self._hands.target.astype(np.float32), self._robot.target):
            self._take_over()
        for _ in range(3):  # a skill that ends at once did nothing: try what comes next
            if next(self._skill, StopIteration) is not StopIteration:
                break
            self._skill = self._choose()
        self._hands.retire()
        self._hands.target = self._hands.target.astype(np.float32).astype(np.float64)
        return self._hands.target.astype(np.float32)

    def _begin(self) -> None:
        """Draw this episode's pace and faults."""
        robot, rng, faults = self._robot, self._rng, self._faults
        self._episode = robot.episode
        items = [item.sku for item in robot.scene.layout.items]
        self._item = robot.scene.layout.target
        if rng.random() < faults.wrong_item:
            others = [sku for sku in items if sku is not self._item]
            self._item = others[rng.integers(len(others))]
        astray = rng.random() < faults.offset_grasp
        self._hands = Hands(
            scene=robot.scene,
            rate_hz=robot.control.rate_hz,
            rng=rng,
            noise=self._noise,
            offset_m=astray * rng.uniform(0.02, 0.04),
            hasty=bool(rng.random() < faults.early_release),
            pace=rng.uniform(*self._noise.pace),
        )
        self._skill = iter(())

    def _take_over(self) -> None:
        """Drop the plan and start from the arms' posture, with the grippers as they were told."""
        target = self._robot.scene.posture()
        for arm in SLOT.values():
            target[arm][7] = self._robot.target[arm][7]
        self._hands.target, self._hands.busy = target, set()
        self._skill = iter(())

    def _choose(self) -> Iterator[None]:
        step = self.step()
        if step is None:
            self._hands.busy = set()
            return iter(())
        return step.skill(self._hands, self._item)

    def step(self) -> Step | None:
        """The first step that does not hold for the item worked on; None when all hold."""
        spec, scene = self._robot.spec, self._robot.scene
        return next((s for s in spec.steps if not s.done(scene, self._item)), None)
