"""The scripted expert: works on the first step of a task that does not hold, from any state."""

from collections.abc import Iterator

import numpy as np

from lwd.sim.body import MAX_OPENING
from lwd.sim.hands import SHORT_S, SLOT, ExpertNoise, Faults, Hands
from lwd.sim.robot import SimRobot
from lwd.sim.scene import ACTION
from lwd.sim.task import Step
from lwd.sim.things import Thing


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
        self._item: Thing
        self._skill: Iterator[None] = iter(())
        self._slip_ticks, self._slip_step = 0, np.zeros(ACTION)
        self.slipping = False
        """Whether the last action was a slip."""

    def act(self) -> np.ndarray:
        """[action] float32 targets for the robot's next tick."""
        if self._episode != self._robot.episode:
            self._begin()
        self.slipping = self._slips()
        if self.slipping:
            return self._slip()
        if not np.array_equal(self._hands.target, self._robot.target):
            self._take_over()
        for _ in range(3):  # a skill that ends at once did nothing: try what comes next
            if _advance(self._skill):
                break
            self._skill = self._choose()
        self._hands.retire()
        action = self._hands.target.astype(np.float32)
        self._hands.target = action.astype(np.float64)
        return action

    def step(self) -> Step | None:
        """The first step that does not hold for the item worked on; None when all hold."""
        spec, scene = self._robot.spec, self._robot.scene
        return next((s for s in spec.steps if not s.done(scene, self._item)), None)

    def _slips(self) -> bool:
        """Whether a slip goes on or begins now; after it the expert plans anew."""
        noise, rate_hz = self._noise, self._robot.control.rate_hz
        slips_hz = noise.slips_hz * min(1.0, SHORT_S / self._robot.spec.time_limit_s) ** 2
        if self._slip_ticks == 0 and self._rng.random() < slips_hz / rate_hz:
            self._slip_ticks = round(self._rng.uniform(*noise.slip_s) * rate_hz)
            self._slip_step = np.zeros(ACTION)
            for side in sorted(self._hands.busy):
                speed = self._rng.normal(scale=noise.slip_rad_s, size=8)
                speed[7] = rate_hz * MAX_OPENING * (self._rng.random() < noise.slip_opens)
                self._slip_step[SLOT[side]] = speed / rate_hz
        return self._slip_ticks > 0

    def _slip(self) -> np.ndarray:
        self._slip_ticks -= 1
        return (self._robot.target + self._slip_step).astype(np.float32)

    def _begin(self) -> None:
        """Draw this episode's pace and the item to start with."""
        robot, rng = self._robot, self._rng
        self._episode, self._slip_ticks = robot.episode, 0
        self._item = robot.scene.layout.target
        if rng.random() < self._faults.wrong_item:
            items = [item.thing for item in robot.scene.layout.items]
            self._item = items[rng.integers(len(items))]
        self._hands = Hands(
            scene=robot.scene,
            rate_hz=robot.control.rate_hz,
            rng=rng,
            noise=self._noise,
            faults=self._faults,
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
        if step is None:  # a wrong item is served; now the one that was named
            self._item = self._robot.scene.layout.target
            step = self.step()
        if step is None:
            self._hands.busy = set()
            return iter(())
        return step.skill(self._hands, self._item)


def _advance(skill: Iterator[None]) -> bool:
    """Let a skill set the next tick's targets; false when it has ended."""
    return next(skill, _ENDED) is not _ENDED


_ENDED = object()
