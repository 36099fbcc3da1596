"""The person, or the scripted expert, who acts in place of the policy."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from lwd.actor.robot import Tick


@runtime_checkable
class Demonstrator(Protocol):
    """Gives the target of the next tick from what the robot senses now."""

    def act(self) -> np.ndarray:
        """[action] target of the next tick in the robot's units."""
        ...


@runtime_checkable
class Operator(Protocol):
    """Watches a robot and takes over when it must."""

    def wants_control(self, tick: Tick | None) -> bool:
        """Asked before every tick with the one before it; None starts a new episode.

        True while the operator acts: the first True takes over, the first False hands back.
        """
        ...

    def act(self) -> np.ndarray:
        """[action] target of the next tick; only called while in control."""
        ...


class Demonstration:
    """An operator who acts in every tick: demonstrations and play.

    The demonstrator is made at the start of each episode, when the scene is set.
    """

    def __init__(self, demonstrator: Callable[[], Demonstrator]) -> None:
        self._make = demonstrator
        self._demonstrator: Demonstrator | None = None

    def wants_control(self, tick: Tick | None) -> bool:
        """Always."""
        if tick is None:
            self._demonstrator = self._make()
        return True

    def act(self) -> np.ndarray:
        """[action] target of the next tick."""
        assert self._demonstrator is not None, "wants_control(None) starts an episode"
        return self._demonstrator.act()

    @property
    def slipping(self) -> bool:
        """Whether the last action was a slip: recorded, but nothing to imitate."""
        return getattr(self._demonstrator, "slipping", False)
