"""A robot that does nothing rash: action limits, a watchdog, and a stop within one tick."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lwd.actor.robot import Observation, Robot, Status, Task, Tick
from lwd.config import ControlConfig
from lwd.errors import ConfigError, IntegrityError

log = logging.getLogger(__name__)

LIMITED = "limited"
"""Event of a tick whose target was beyond the limits."""
STOPPED = "stopped"
"""Event of the tick after which somebody, or the watchdog, stopped the robot."""


@dataclass(frozen=True, kw_only=True)
class ActionLimits:
    """What a robot's targets may be, whoever gives them."""

    lowest: np.ndarray
    """[action] in the robot's units."""
    highest: np.ndarray
    """[action] in the robot's units."""
    step: np.ndarray
    """[action] largest change from one tick to the next; infinity for no limit."""

    def __post_init__(self) -> None:
        shapes = {self.lowest.shape, self.highest.shape, self.step.shape}
        if len(shapes) != 1 or self.lowest.ndim != 1 or not (self.lowest <= self.highest).all():
            raise ConfigError(
                f"limits of shapes {self.lowest.shape}, {self.highest.shape} and "
                f"{self.step.shape}; expected three of [action], the lowest not above the highest."
            )

    def __call__(self, target: np.ndarray, before: np.ndarray) -> np.ndarray:
        """[action] the target, cut to what may follow `before`; the range goes before the step."""
        step = np.clip(target, before - self.step, before + self.step)
        return np.clip(step, self.lowest, self.highest).astype(np.float32)


class GuardedRobot:
    """Stands between the control loop and a robot.

    Every target is cut to the limits, tick by tick; numbers that are not finite never reach the
    robot. Once `stop` is set, or when the loop has not asked for a tick for `silence_s` in the
    middle of an episode, the robot is brought to rest and the episode ends as interrupted; at most
    the tick under way is finished. `stop()` of the inner robot must be safe from any thread.
    """

    def __init__(
        self,
        inner: Robot,
        limits: ActionLimits,
        joints: Sequence[int],
        *,
        stop: threading.Event | None = None,
        silence_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`joints` is where in the state the measured value of every action dimension is."""
        self.inner, self.limits, self._joints = inner, limits, list(joints)
        self.robot_id, self.control = inner.robot_id, inner.control
        self.halt = stop or threading.Event()
        """Setting it stops the robot within one tick."""
        self._silence_s, self._clock = silence_s, clock
        self._before = np.zeros(0, np.float32)
        self._asked = 0.0
        self._moving = threading.Event()
        """Set while the watchdog watches: from the first tick of an episode to its end."""
        self._closed = False
        self.tripped = False
        """Whether the watchdog has stopped the robot in this episode."""
        self._dog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._dog.start()

    robot_id: str
    control: ControlConfig

    def reset(self, seed: int) -> Task:
        """Set the scene; the first target is limited from where the robot is then."""
        self._moving.clear()
        self.tripped = False
        task = self.inner.reset(seed)
        self._before = self.inner.observe().state[self._joints]
        return task

    def observe(self) -> Observation:
        """Sense now."""
        return self.inner.observe()

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """Execute [ticks, action] within the limits; a stop ends it within one tick.

        IntegrityError if a number is not finite: nothing of the chunk is executed then.
        """
        chunk = np.asarray(chunk, np.float32)
        if not np.isfinite(chunk).all():
            raise IntegrityError(
                f"{int(np.sum(~np.isfinite(chunk)))} targets for robot {self.robot_id} are not "
                "finite; it does not move."
            )
        ticks: list[Tick] = []
        for target in chunk:
            ticks.append(self._one(target))
            if ticks[-1].status is not Status.RUNNING:
                break
        return ticks

    def stop(self) -> None:
        """Bring the robot to rest; the watchdog rests, too."""
        self._moving.clear()
        self.inner.stop()

    def close(self) -> None:
        """End the watchdog's thread."""
        self._closed = True
        self._moving.set()
        self._dog.join()

    def _one(self, target: np.ndarray) -> Tick:
        stopped = self.halt.is_set() or self.tripped
        # A robot that was stopped holds where it is for the tick that the episode ends with.
        wanted = self.inner.observe().state[self._joints] if stopped else target
        allowed = self.limits(wanted, self._before)
        self._asked = self._clock()
        self._moving.set()
        (tick,) = self.inner.apply(allowed[None])
        self._asked = self._clock()
        self._before = np.asarray(tick.action, np.float32)
        events = tick.events
        if not stopped and not np.allclose(allowed, target, atol=1e-6):
            events = (*events, LIMITED)
        if stopped or self.halt.is_set() or self.tripped:
            self.inner.stop()
            return replace(tick, status=Status.INTERRUPTED, events=(*events, STOPPED))
        return replace(tick, events=events)

    def _watch(self) -> None:
        """The watchdog: a loop that hangs must not leave the robot on its way."""
        while not self._closed:
            self._moving.wait()
            silent_s = self._clock() - self._asked
            if self._closed or silent_s < self._silence_s:
                time.sleep(max(0.001, min(0.05, self._silence_s - silent_s)))
                continue
            self.tripped = True
            self._moving.clear()
            log.error("watchdog stops robot=%s silent_s=%.2f", self.robot_id, silent_s)
            self.inner.stop()
