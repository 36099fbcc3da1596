"""Take over from the fleet's page, wherever the person is: `lwd dashboard` says it to the metadata
service, and the robot asks there for orders.

The robot trusts its own clock: a person who corrects and has not been heard of for `SILENCE_S`,
whatever broke, pauses it. Speeds hold for `HOLD_S` and are at most those of the robot's steering.
"""

import base64
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import simplejpeg

from lwd.actor.attended import Mode, Press, View
from lwd.actor.metronome import Metronome
from lwd.actor.robot import Robot
from lwd.errors import ConfigError, LwdError
from lwd.store.backoff import Backoff
from lwd.store.seats import MAX_NAME, MAX_PICTURE, Live, Orders

log = logging.getLogger(__name__)

SILENCE_S = 1.0
"""Silence of a person who corrects after which the robot pauses."""
HOLD_S = 0.35
"""Time that a speed holds without another word: some three words of the page."""
WAIT_S = 5.0
"""Longest wait of a request for orders."""
LEAST_S = 0.03
"""Time between two requests."""
PICTURE_S = 0.1
"""Time between two pictures."""
_PAUSES = Backoff(first_s=0.5, limit_s=10.0)
"""After requests that failed."""
QUALITY = 70
STEP = 0.3
"""Fastest change of a dimension per second, in its unit (rad, m), where the robot says nothing."""


@runtime_checkable
class Line(Protocol):
    """The way to the service; `lwd.store.client.ServiceClient` is one."""

    def orders(self, live: Live, wait_s: float) -> Orders:
        """Show the robot, and wait at most so long for orders."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


@runtime_checkable
class Steering(Protocol):
    """How a person moves a robot, and sees it."""

    axes: Sequence[str]
    """Names, `GROUP: MOTION` where they belong to one hand."""

    def steer(self, target: np.ndarray, speeds: np.ndarray, seconds: float) -> np.ndarray:
        """[action] the target in force, moved along [axes] speeds from -1 to 1."""
        ...

    def facts(self) -> dict[str, str]:
        """What is measured, in words."""
        ...

    def picture(self) -> np.ndarray | None:
        """[height, width, 3] uint8 of the robot now; None where nobody can see it."""
        ...

    def close(self) -> None:
        """Nobody looks any more."""
        ...


@runtime_checkable
class Steerable(Protocol):
    """A robot that says itself how it is steered; simulated ones do."""

    def steering(self) -> Steering:
        """How a person moves it."""
        ...


class Joints:
    """Every dimension of the action by itself, for robots that say nothing else."""

    def __init__(self, actions: int) -> None:
        self.axes: Sequence[str] = [f"dimension {k + 1}" for k in range(actions)]

    def steer(self, target: np.ndarray, speeds: np.ndarray, seconds: float) -> np.ndarray:
        """[action] moved along [axes] speeds."""
        return (target + STEP * seconds * speeds).astype(np.float32)

    def facts(self) -> dict[str, str]:
        """Nothing that the picture does not show."""
        return {}

    def picture(self) -> np.ndarray | None:
        """None: the robot's cameras see it, or nobody."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""


class PageDevice:
    """A device whose person sits at the fleet's page; `connect` begins to ask for orders."""

    def __init__(
        self,
        robot_id: str,
        steering: Steering,
        rate_hz: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._robot_id, self._steering, self._clock = robot_id, steering, clock
        self._period_s = 1 / rate_hz
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._live = Live(robot=robot_id, life=secrets.token_hex(8), axes=tuple(steering.axes))
        self._mode = Mode.AUTONOMOUS
        self._orders = Orders()
        self._ordered_at = clock()
        self._pending: list[tuple[int, str, str]] = []
        self._received, self._taken = 0, 0
        self._metronome = Metronome(self._period_s, 1, clock=clock, sleep=self._closed.wait)
        self._pictured_at = 0.0
        self.person = ""
        """Who pressed last."""

    def connect(self, line: Line) -> None:
        """Ask for orders from now on, in a thread of its own, which hangs up at the end."""
        threading.Thread(target=self._ask, args=[line], name="page", daemon=True).start()

    def presses(self) -> list[Press]:
        """What has been pressed since the last call, and a pause when the person is lost."""
        with self._lock:
            pending, self._pending = self._pending, []
        for number, _, person in pending:
            self._taken, self.person = number, person
        pressed = [Press(press) for _, press, _ in pending]
        if self._mode is Mode.CORRECTING and not pressed and self._silent_s() > SILENCE_S:
            log.warning("nobody heard, pausing robot=%s person=%s", self._robot_id, self.person)
            self.person = f"the robot, which lost {self.person}"
            pressed.append(Press.PAUSE)
        return pressed

    def move(self, target: np.ndarray) -> np.ndarray:
        """[action] the target in force, moved as the person wants. Keeps real time, which a person
        needs and a simulated robot does not."""
        self._metronome.wait()
        with self._lock:
            motion = self._orders.motion
        speeds = np.zeros(len(self._steering.axes), np.float32)
        if len(motion) == len(speeds) and self._silent_s() < HOLD_S:
            speeds[:] = np.clip(motion, -1, 1)
        return np.asarray(self._steering.steer(target, speeds, self._period_s), np.float32)

    def show(self, view: View) -> None:
        """Keep what the next request shows; a picture only while somebody looks."""
        self._mode = view.mode
        watched, now = self._orders.watched, self._clock()
        if watched and now - self._pictured_at >= PICTURE_S:
            self._pictured_at = now
            facts, picture = self._steering.facts(), _jpeg(self._seen(view))
        elif watched:
            facts, picture = self._live.facts, self._live.picture
        else:
            self._steering.close()
            facts, picture = {}, ""
        self._live = Live(
            robot=self._robot_id,
            life=self._live.life,
            heard=self._taken,
            mode=view.mode,
            task=view.task.name[:MAX_NAME],
            instruction=" ".join(view.task.instruction.split()),
            seconds=view.seconds,
            axes=self._live.axes,
            facts=facts,
            picture=picture,
        )

    def close(self) -> None:
        """Ask for no more orders; for the thread of the control loop, which has made pictures."""
        self._closed.set()
        self._steering.close()

    def _seen(self, view: View) -> np.ndarray | None:
        picture = self._steering.picture()
        return next(iter(view.observation.images.values()), None) if picture is None else picture

    def _silent_s(self) -> float:
        """Since the person's last word, as far as this robot knows."""
        return self._orders.silent_s + self._clock() - self._ordered_at

    def _ask(self, line: Line) -> None:
        failures = 0
        while not self._closed.is_set():
            started = time.monotonic()
            try:
                self._take(line.orders(self._shown(), WAIT_S))
                failures = 0
            except (LwdError, OSError) as error:
                failures += 1
                level = logging.INFO if failures == 1 else logging.DEBUG
                log.log(level, "no orders robot=%s reason=%s", self._robot_id, error)
                self._closed.wait(_PAUSES.delay(failures, random.random()))
            self._closed.wait(max(0.0, LEAST_S - (time.monotonic() - started)))
        line.close()

    def _shown(self) -> Live:
        """What the control loop showed last, and which presses have come since."""
        return replace(self._live, received=self._received)

    def _take(self, orders: Orders) -> None:
        """Keep new presses; those that come again have been taken."""
        with self._lock:
            new = [p for p in orders.presses if p[0] > self._received]
            self._received = max([self._received, *(p[0] for p in new)])
            self._pending += new
            self._orders, self._ordered_at = orders, self._clock()


def page(robot: Robot, where: str) -> PageDevice:
    """The device `page`, with the robot's own steering; without one `where` is the number of the
    action's dimensions, each steered by itself. ConfigError where that is not given."""
    inner: Any = robot
    while not isinstance(inner, Steerable) and hasattr(inner, "inner"):
        inner = inner.inner
    if isinstance(inner, Steerable):
        steering: Steering = inner.steering()
    elif where.isdigit() and int(where):
        steering = Joints(int(where))
    else:
        raise ConfigError(
            f"the page cannot steer robot {robot.robot_id} by itself: give it the number of "
            "dimensions of its action, --device page:7."
        )
    return PageDevice(robot.robot_id, steering, robot.control.rate_hz)


def _jpeg(picture: np.ndarray | None) -> str:
    """Base64 of the picture, empty where it is too large to be sent."""
    if picture is None:
        return ""
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=QUALITY)
    text = base64.b64encode(encoded).decode()
    return text if len(text) <= MAX_PICTURE else ""
