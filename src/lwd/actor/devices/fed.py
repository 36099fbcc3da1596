"""A device that is pressed by other code: a page in a browser, a foot pedal, a test."""

import threading

import numpy as np

from lwd.actor.attended import Press


class FedDevice:
    """Takes presses and motions from any thread and gives them to the control loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._presses: list[Press] = []
        self._motion: np.ndarray | None = None

    def press(self, press: Press) -> None:
        """A person presses."""
        with self._lock:
            self._presses.append(press)

    def push(self, motion: np.ndarray) -> None:
        """A person moves the arm by so much [action], in one tick, besides what still waits."""
        with self._lock:
            self._motion = motion if self._motion is None else self._motion + motion

    def presses(self) -> list[Press]:
        """What has been pressed since the last call."""
        with self._lock:
            pressed, self._presses = self._presses, []
            return pressed

    def move(self, target: np.ndarray) -> np.ndarray:
        """[action] the target in force, and what a person has pushed since."""
        with self._lock:
            motion, self._motion = self._motion, None
        return target if motion is None else (target + motion).astype(np.float32)

    def close(self) -> None:
        """Nothing to let go of."""
