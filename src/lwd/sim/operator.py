"""The human operator of Fig. 10, simulated: watches, takes over, helps, hands back."""

import numpy as np

from lwd.actor.robot import Tick
from lwd.sim.expert import Expert
from lwd.sim.hands import SHORT_S, ExpertNoise
from lwd.sim.robot import SimRobot

_EDGE_M = 0.04
"""A thing whose centre is this near to the table's edge is about to be lost."""


class SimOperator:
    """Takes over when a policy is stuck or about to lose what the task needs, and helps it on.

    Stuck means that no further step of the task's table holds after `patience_s`, or, in a task of
    more than `SHORT_S`, after an even share of its time. A person needs `reaction_s`, give or take
    30 %, before the hands are on the controls. The operator then acts until the step at hand holds
    and leaves the rest to the policy; a robot that needs help again gets it for one step more each
    time, so that an episode does not run out of time.
    """

    def __init__(
        self,
        robot: SimRobot,
        rng: np.random.Generator,
        *,
        patience_s: float = 6.0,
        reaction_s: float = 0.7,
        noise: ExpertNoise | None = None,
    ) -> None:
        self._robot, self._rng = robot, rng
        self._patience_s, self._reaction_s = patience_s, reaction_s
        self._expert = Expert(robot, rng, noise=noise)
        self._episode = -1
        self._best = 0
        self._progress_s = 0.0
        """When the last step was done, in robot seconds."""
        self._start_s: float | None = None
        """When the hands will be on the controls; None while all is well."""
        self._helped = 0
        """Times that the operator took over in this episode."""
        self._until = 0
        """Progress at which to hand back."""

    def wants_control(self, tick: Tick | None) -> bool:
        """Whether the operator acts now; to be asked once before every tick.

        `tick` is the tick before, None at the start of an episode.
        """
        now = self._robot.elapsed_s
        if tick is None or self._robot.episode != self._episode:
            self._episode, self._best, self._helped = self._robot.episode, 0, 0
            self._progress_s, self._start_s = now, None
        progress = self._robot.spec.progress(self._robot.scene)
        if progress > self._best:
            self._best, self._progress_s = progress, now
        if self._start_s is not None and now >= self._start_s:
            return self._still_needed(progress, now)
        if self._start_s is None and self._trouble(now):
            self._start_s = now + self._reaction_s * self._rng.uniform(0.7, 1.3)
            self._helped += 1
            self._until = min(progress + self._helped, len(self._robot.spec.steps))
        return False

    def act(self) -> np.ndarray:
        """[action] float32 targets for the robot's next tick."""
        return self._expert.act()

    def _still_needed(self, progress: int, now: float) -> bool:
        if progress < self._until:
            return True
        self._start_s, self._progress_s = None, now
        return False

    def _trouble(self, now: float) -> bool:
        spec, patience_s = self._robot.spec, self._patience_s
        if spec.time_limit_s > SHORT_S:
            patience_s = max(patience_s, spec.time_limit_s / len(spec.steps))
        return now - self._progress_s >= patience_s or self._near_edge()

    def _near_edge(self) -> bool:
        """Whether something needed, in nobody's hand, is about to fall off the table."""
        scene = self._robot.scene
        table = scene.model.geom("table")
        inner = table.size[:2] - _EDGE_M
        return any(
            (np.abs(scene.position(thing)[:2] - table.pos[:2]) > inner).any()
            and scene.holder(thing) is None
            for thing in self._robot.spec.needed(scene)
        )
