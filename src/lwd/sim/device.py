"""The simulator's expert in the place of a person: takes over when a policy is stuck."""

import numpy as np

from lwd.actor.attended import Press
from lwd.actor.robot import Observation, Robot, Tick
from lwd.config.require import require
from lwd.errors import ConfigError
from lwd.sim.operator import SimOperator
from lwd.sim.robot import SimRobot


class ExpertDevice:
    """Presses as `SimOperator` decides, and moves as the expert does."""

    def __init__(self, robot: SimRobot, rng: np.random.Generator) -> None:
        self._robot, self._operator = robot, SimOperator(robot, rng)
        self._correcting = False
        self._episode = -1

    def presses(self) -> list[Press]:
        """To be asked once before every tick, as a person looks once."""
        begins = self._robot.episode != self._episode
        self._correcting = self._correcting and not begins
        self._episode = self._robot.episode
        wanted = self._operator.wants_control(None if begins else self._tick())
        if wanted == self._correcting:
            return []
        self._correcting = wanted
        return [Press.TAKE_OVER if wanted else Press.HAND_BACK]

    def move(self, target: np.ndarray) -> np.ndarray:
        """[action] the expert's next target."""
        return self._operator.act()

    def close(self) -> None:
        """Nothing to let go of."""

    def _tick(self) -> Tick:
        seen = Observation(state=self._robot.target)  # the operator looks at the scene itself
        return Tick(observation=seen, action=self._robot.target, status=self._robot.status)


def expert(robot: Robot, where: str) -> ExpertDevice:
    """Plugin: `where` is the seed of the expert's draws, 0 if empty.

    ConfigError for any other seed than a whole number, and for any other robot.
    """
    inner = getattr(robot, "inner", robot)
    if not isinstance(inner, SimRobot):
        raise ConfigError(f"the expert helps simulated robots only, not {type(inner).__name__}.")
    seed = where or "0"
    require(
        seed.isdecimal(),
        f"the expert's seed is {seed[:80]!r}; expected a whole number, 0 or more, as in "
        "--device expert:7.",
    )
    return ExpertDevice(inner, np.random.default_rng(int(seed)))
