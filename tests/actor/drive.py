"""A robot process of its own for tests that kill it: python drive.py ROOT KIND EPISODES.

TICK_S in the environment is the wall time of a tick; STUCK_IN is the number of the episode in
which the robot hangs for ever; INTERRUPTED is what becomes of an episode that a kill cut off.
"""

import logging
import os
import sys
import threading
from pathlib import Path

from actor.point import Expert, PointRobot
from lwd.actor.operator import Demonstration
from lwd.actor.process import Rig, main
from lwd.config import ActorConfig, PlaneConfig


class Noting(PointRobot):
    """Writes down every seed that it gets, and when it hangs."""

    def __init__(self, root: Path, tick_s: float, stuck_in: int):
        super().__init__("r0", tick_s=tick_s)
        self._notes, self._stuck_in = root / "notes.txt", stuck_in

    def reset(self, seed: int):
        self._note(f"seed {seed}")
        return super().reset(seed)

    def apply(self, chunk):
        if len(self.seeds) == self._stuck_in and len(self.commands) % 5 == 3:
            self._note(f"stuck {self._stuck_in}")
            threading.Event().wait()
        return super().apply(chunk)

    def _note(self, line: str) -> None:
        with self._notes.open("a") as file:
            file.write(f"{line}\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    folder = Path(sys.argv[1])
    robot = Noting(
        folder, float(os.environ.get("TICK_S", "0")), int(os.environ.get("STUCK_IN", "0"))
    )
    main(
        ActorConfig(
            robot="r0",
            kind=sys.argv[2],
            episodes=int(sys.argv[3]),
            seed=5,
            interrupted=os.environ.get("INTERRUPTED", "keep"),
        ),
        PlaneConfig(root=folder),
        Rig(
            robot=lambda: robot,
            operator=lambda robot, rng: Demonstration(lambda: Expert(robot)),
        ),
    )
