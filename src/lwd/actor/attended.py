"""A robot with a person beside it: who acts, how that changes, and what the person decides.

    autonomous --pause--> paused --take over--> correcting --hand back--> autonomous
         |                   \\--hand back--> autonomous      \\--pause--> paused
         \\--take over--> correcting

While paused the robot is at rest, nothing is recorded and no time runs off the episode's limit.
Every change is an event of the tick that follows it (`mode:correcting`), with who made it where
the device knows (`by:ana`), a pause with its length (`paused:3.2 s`). The ticks of a person are
flagged as everywhere else (`Source.HUMAN`).
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np

from lwd.actor.operator import Operator
from lwd.actor.robot import Observation, Robot, Status, Task, Tick
from lwd.config import ControlConfig

log = logging.getLogger(__name__)

POLL_S = 0.02
"""Pause between looks at the device of a robot that is paused."""


class Mode(StrEnum):
    """Who has the robot."""

    AUTONOMOUS = "autonomous"
    PAUSED = "paused"
    CORRECTING = "correcting"


class Press(StrEnum):
    """What a person can tell a robot."""

    PAUSE = "pause"
    TAKE_OVER = "take over"
    HAND_BACK = "hand back"
    SUCCESS = "success"
    FAILURE = "failure"
    STOP = "stop"


_AFTER = {
    (Mode.AUTONOMOUS, Press.PAUSE): Mode.PAUSED,
    (Mode.AUTONOMOUS, Press.TAKE_OVER): Mode.CORRECTING,
    (Mode.PAUSED, Press.TAKE_OVER): Mode.CORRECTING,
    (Mode.PAUSED, Press.HAND_BACK): Mode.AUTONOMOUS,
    (Mode.CORRECTING, Press.PAUSE): Mode.PAUSED,
    (Mode.CORRECTING, Press.HAND_BACK): Mode.AUTONOMOUS,
}
VERDICTS = {
    Press.SUCCESS: Status.SUCCESS,
    Press.FAILURE: Status.FAILURE,
    Press.STOP: Status.INTERRUPTED,
}
"""What ends the episode."""


def after(mode: Mode, press: Press) -> Mode:
    """The mode that a press leads to; a press that means nothing now changes nothing."""
    return _AFTER.get((mode, press), mode)


@runtime_checkable
class Device(Protocol):
    """What a person holds: a keyboard, a gamepad, a leader arm, or a page in a browser.

    Plugins are entry points of the group `lwd.devices`, see `lwd.actor.devices`.
    """

    def presses(self) -> list[Press]:
        """What has been pressed since the last call, oldest first. Never waits."""
        ...

    def move(self, target: np.ndarray) -> np.ndarray:
        """[action] the next target of a person who corrects, from the one in force. Never waits."""
        ...

    def close(self) -> None:
        """Let go of the hardware."""
        ...


@dataclass(frozen=True, kw_only=True)
class View:
    """What a person sees of a robot."""

    mode: Mode
    task: Task
    seconds: float
    """Robot seconds of the episode."""
    observation: Observation


@runtime_checkable
class Display(Protocol):
    """A device that shows the robot to a person who is elsewhere, and knows who that is."""

    person: str
    """Who pressed last; empty for nobody known."""

    def show(self, view: View) -> None:
        """Called after every tick, and all the time in a pause. Never waits."""
        ...


class AttendedRobot:
    """A robot and the person beside it: both `Robot` and `Operator` of the control loop.

    Give it to the loop as both. The robot's own verdict on an episode stands unless the person
    says otherwise. With a `helper` somebody else helps while the person does not.
    """

    def __init__(
        self,
        inner: Robot,
        device: Device,
        joints: Sequence[int],
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`joints` is where in the state the measured value of every action dimension is. `stop`
        ends a pause, too, so that a process can end while a robot is paused."""
        self.inner, self.device, self._joints = inner, device, list(joints)
        self.robot_id, self.control = inner.robot_id, inner.control
        self.mode = Mode.AUTONOMOUS
        self.helper: Operator | None = None
        """Who may act while the robot is autonomous, for example the simulated operator."""
        self.on_mode: Callable[[Mode], None] = lambda mode: None
        """Gets every new mode."""
        self._helping = False
        self._task: Task | None = None
        self._seen: Observation | None = None
        self._ticks = 0
        self._stop, self._clock = stop or threading.Event(), clock
        self._events: list[str] = []
        self._verdict: Status | None = None
        self._target: np.ndarray | None = None

    robot_id: str
    control: ControlConfig

    def reset(self, seed: int) -> Task:
        """Set the scene; every episode starts autonomous, unless a person wants it otherwise."""
        self._task = self.inner.reset(seed)
        self.mode, self._verdict, self._target = Mode.AUTONOMOUS, None, None
        self._helping, self._seen, self._ticks = False, None, 0
        self._events.clear()
        for press in self.device.presses():
            if press not in VERDICTS:  # a verdict between episodes is about none of them
                self._change(after(self.mode, press))
        return self._task

    def observe(self) -> Observation:
        """Sense now."""
        return self.inner.observe()

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """Execute targets; a person's verdict ends the episode, after a tick at rest."""
        if self._verdict is not None:
            chunk = self._here()[None]
        ticks = self.inner.apply(chunk)
        if ticks:
            ticks[0] = replace(ticks[0], events=(*ticks[0].events, *self._events))
            self._events.clear()
            self._target = np.asarray(ticks[-1].action, np.float32)
            self._seen, self._ticks = ticks[-1].observation, self._ticks + len(ticks)
            self._show()
        if ticks and self._verdict is not None:
            ticks[-1] = replace(ticks[-1], status=self._verdict)
        return ticks

    def stop(self) -> None:
        """Bring the robot to rest."""
        self.inner.stop()

    def wants_control(self, tick: Tick | None) -> bool:
        """Whether the person, or else the helper, acts in the next tick; waits as long as the robot
        is paused."""
        self._listen()
        if self.mode is Mode.PAUSED:
            self._wait()
        # The helper watches all the time, so that it knows how the person left things.
        helps = self.helper is not None and self.helper.wants_control(tick)
        self._helping = helps and self.mode is Mode.AUTONOMOUS and self._verdict is None
        return self._helping or self.mode is Mode.CORRECTING

    def act(self) -> np.ndarray:
        """[action] the next target: the person's, from the last one that was executed."""
        if self._helping and self.helper is not None:
            return self.helper.act()
        return np.asarray(
            self.device.move(self._here() if self._target is None else self._target), np.float32
        )

    def _here(self) -> np.ndarray:
        """[action] targets that keep the robot where it is."""
        return self.inner.observe().state[self._joints].astype(np.float32)

    def _listen(self) -> None:
        for press in self.device.presses():
            if press in VERDICTS:
                self._verdict = VERDICTS[press]
                self._events += [f"verdict:{press}", *self._by()]
            self._change(after(self.mode, press))

    def _change(self, mode: Mode) -> None:
        if mode is not self.mode:
            log.info("mode robot=%s from=%s to=%s", self.robot_id, self.mode, mode)
            self._events += [f"mode:{mode}", *self._by()]
            self.mode = mode
            self.on_mode(mode)

    def _by(self) -> list[str]:
        """Event that says who it was, where the device knows."""
        person = getattr(self.device, "person", "")
        return [f"by:{person}"] if person else []

    def _show(self) -> None:
        if isinstance(self.device, Display) and self._task is not None:
            seen = self.inner.observe() if self._seen is None else self._seen
            seconds = self._ticks / self.control.rate_hz
            view = View(mode=self.mode, task=self._task, seconds=seconds, observation=seen)
            self.device.show(view)

    def _wait(self) -> None:
        """Rest until the person goes on, judges the episode, or the process ends."""
        self.inner.stop()
        began = self._clock()
        while self.mode is Mode.PAUSED and self._verdict is None and not self._stop.is_set():
            self._show()
            self._stop.wait(POLL_S)
            self._listen()
        if self._stop.is_set():
            self._verdict = Status.INTERRUPTED
        self._target = None  # a robot at rest may be somewhere else than it was told
        self._events.append(f"paused:{self._clock() - began:.1f} s")
