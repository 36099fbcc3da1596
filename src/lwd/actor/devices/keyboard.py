"""Take over with the keys of a terminal, also over ssh.

space pause    t take over    h hand back    y success    n failure    q stop
left, right    choose a dimension of the action        up, down    move it
"""

import atexit
import os
import select
import sys
import termios
import tty

import numpy as np

from lwd.actor.attended import Press
from lwd.actor.robot import Robot
from lwd.errors import ConfigError

PRESSES = {
    " ": Press.PAUSE,
    "t": Press.TAKE_OVER,
    "h": Press.HAND_BACK,
    "y": Press.SUCCESS,
    "n": Press.FAILURE,
    "q": Press.STOP,
}
UP, DOWN, RIGHT, LEFT = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D"
STEP = 0.03
"""How far a press of a key moves a dimension, in its unit (rad, m)."""


class Keyboard:
    """Reads a terminal without waiting and without echo, and leaves it as it was."""

    def __init__(self, descriptor: int, step: float = STEP) -> None:
        """ConfigError if the descriptor is no terminal."""
        if not os.isatty(descriptor):
            raise ConfigError(
                "the keyboard needs a terminal, and the input is none; start the robot in one, or "
                "choose another --device."
            )
        self._descriptor, self._step = descriptor, step
        self._before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        atexit.register(self.close)
        self._typed = ""
        self._presses: list[Press] = []
        self._moves: list[tuple[int, float]] = []
        self.dimension = 0
        """The dimension of the action that up and down move, counted on without end."""

    def presses(self) -> list[Press]:
        """What has been pressed since the last call."""
        self._read()
        pressed, self._presses = self._presses, []
        return pressed

    def move(self, target: np.ndarray) -> np.ndarray:
        """[action] the target in force, moved by the keys that were pressed since."""
        self._read()
        moved = target.astype(np.float32)
        for dimension, by in self._moves:
            moved[dimension % len(moved)] += by
        self._moves.clear()
        return moved

    def close(self) -> None:
        """Give the terminal back."""
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        atexit.unregister(self.close)

    def _read(self) -> None:
        while select.select([self._descriptor], [], [], 0)[0]:
            typed = os.read(self._descriptor, 1024)
            if not typed:
                break
            self._typed += typed.decode(errors="ignore")
        while self._typed:
            key = self._typed[: 3 if self._typed.startswith("\x1b[") else 1]
            self._typed = self._typed[len(key) :]
            self._press(key)

    def _press(self, key: str) -> None:
        if key in PRESSES:
            self._presses.append(PRESSES[key])
        elif key in (LEFT, RIGHT):
            self.dimension += 1 if key == RIGHT else -1
        elif key in (UP, DOWN):
            self._moves.append((self.dimension, self._step if key == UP else -self._step))


def keyboard(robot: Robot, where: str) -> Keyboard:
    """Plugin: the terminal that the process was started in."""
    return Keyboard(sys.stdin.fileno())
