"""Take over with a gamepad, by the joystick interface of Linux.

A hand back   B pause   X take over   Y success   Back failure   Start stop
The axes move the dimensions of the action, one each; LB and RB choose the arm (eight dimensions).
"""

import os
import struct

import numpy as np

from lwd.actor.attended import Press
from lwd.actor.robot import Robot
from lwd.errors import ConfigError

BUTTONS = {
    0: Press.HAND_BACK,
    1: Press.PAUSE,
    2: Press.TAKE_OVER,
    3: Press.SUCCESS,
    6: Press.FAILURE,
    7: Press.STOP,
}
"""By the numbers that Linux gives an Xbox controller's buttons."""
LEFT_ARM, RIGHT_ARM = 4, 5
ARM = 8
"""Dimensions that the axes reach at once."""
EVENT = struct.Struct("<IhBB")
"""struct js_event: time, value, type, number (linux/joystick.h)."""
BUTTON, AXIS, INITIAL = 0x01, 0x02, 0x80
FULL = 32767.0
DEAD = 0.12
"""Part of an axis around its middle that counts as the middle."""
SPEED = 0.6
"""Change per second at the end of an axis, in the dimension's unit (rad, m)."""
DEVICE = "/dev/input/js0"


class Gamepad:
    """Reads a joystick device without waiting."""

    def __init__(self, path: str, rate_hz: float, speed: float = SPEED) -> None:
        """ConfigError if the device cannot be opened."""
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(
                f"gamepad {path} cannot be opened: {error.strerror}. Plug one in, see that this "
                "user may read it (group input), or name another: gamepad:/dev/input/js1."
            ) from error
        self._step = speed / rate_hz
        self._bytes = b""
        self._presses: list[Press] = []
        self._axes = np.zeros(ARM, np.float32)
        self.first = 0
        """The action's dimension that the first axis moves."""

    def presses(self) -> list[Press]:
        """What has been pressed since the last call."""
        self._read()
        pressed, self._presses = self._presses, []
        return pressed

    def move(self, target: np.ndarray) -> np.ndarray:
        """[action] the target in force, moved as far as the axes say."""
        self._read()
        moved = target.astype(np.float32)
        reach = moved[self.first : self.first + ARM]
        reach += self._step * self._axes[: len(reach)]
        return moved

    def close(self) -> None:
        """Close the device."""
        os.close(self._descriptor)

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._descriptor, 64 * EVENT.size)
            except BlockingIOError:
                break
            if not read:
                break
            self._bytes += read
        whole = len(self._bytes) // EVENT.size * EVENT.size
        for _, value, kind, number in EVENT.iter_unpack(self._bytes[:whole]):
            self._take(value, kind, number)
        self._bytes = self._bytes[whole:]

    def _take(self, value: int, kind: int, number: int) -> None:
        if kind & ~INITIAL == AXIS and number < ARM:
            share = value / FULL
            self._axes[number] = share if abs(share) > DEAD else 0.0
        elif kind == BUTTON and value == 1:
            if number in BUTTONS:
                self._presses.append(BUTTONS[number])
            elif number in (LEFT_ARM, RIGHT_ARM):
                self.first = ARM * (number - LEFT_ARM)


def gamepad(robot: Robot, where: str) -> Gamepad:
    """Plugin: the device at `where`."""
    return Gamepad(where or DEVICE, robot.control.rate_hz)
