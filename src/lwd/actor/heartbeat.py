"""A robot's signs of life: every few seconds, and as soon as somebody else acts."""

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

import numpy as np

from lwd.actor.operator import Operator
from lwd.actor.policy import Policy
from lwd.actor.robot import Task, Tick
from lwd.errors import ConflictError, LwdError
from lwd.store.heartbeats import MAX_NAME, Beat

log = logging.getLogger(__name__)

EVERY_S = 5.0
LEAST_S = 0.5
"""Time between two beats, however often the state changes."""
BEAT_S = 2.0
"""Longest wait for the service to take a beat."""


class Voice:
    """Sends beats; of those in a row that are not heard, the first is told."""

    def __init__(self, send: Callable[[Beat], None]) -> None:
        self._send, self._failing = send, False

    def say(self, beat: Beat) -> None:
        """Send a beat; nobody stops because it is not heard."""
        try:
            self._send(beat)
            self._failing = False
        except (LwdError, OSError) as error:
            level = logging.WARNING if isinstance(error, ConflictError) else logging.INFO
            level = logging.DEBUG if self._failing else level
            log.log(level, "heartbeat not heard robot=%s reason=%s", beat.robot, error)
            self._failing = True


class Heart:
    """Sends beats from a thread of its own; whoever does not hear them does not stop the robot."""

    def __init__(
        self,
        robot: str,
        send: Callable[[Beat], None],
        *,
        pending: Callable[[], int] = lambda: 0,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`pending` counts the episodes that are not uploaded yet."""
        self._every_s = every_s
        self._voice = Voice(lambda beat: send(replace(beat, at=clock(), pending=pending())))
        process = uuid.uuid4().hex[:16]
        self._beat = Beat(robot=robot, state="waiting", at=clock(), process=process)
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def note(self, state: str, policy_version: int | None = None) -> None:
        """The robot's state from now on, a value of `lwd.store.heartbeats.STATES`."""
        before = self._beat
        version = before.policy_version if policy_version is None else policy_version
        self._beat = replace(before, state=state, policy_version=version)
        if self._beat != before:
            self._changed.set()

    def began(self, episode_id: str, task: Task) -> None:
        """The episode that the robot is in from now on, and what it is to do there."""
        before = self._beat
        self._beat = replace(before, episode_id=episode_id, task=task.name[:MAX_NAME])
        if self._beat.task != before.task:
            self._changed.set()

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._changed.set()
        self._thread.join(LEAST_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.clear()
            self._voice.say(self._beat)
            self._stop.wait(LEAST_S)
            # Robots that start together shall not beat together.
            self._changed.wait(max(self._every_s * random.uniform(0.8, 1.2) - LEAST_S, 0.0))


def beating(policy: Policy, heart: Heart) -> Policy:
    """The policy, which acts from now on."""
    heart.note("acting", policy.version)
    return policy


class Watched:
    """An operator whose take-overs show in the heartbeats."""

    def __init__(self, inner: Operator, heart: Heart) -> None:
        self._inner, self._heart = inner, heart

    def wants_control(self, tick: Tick | None) -> bool:
        """As the operator says."""
        wanted = self._inner.wants_control(tick)
        self._heart.note("correcting" if wanted else "acting")
        return wanted

    def act(self) -> np.ndarray:
        """[action] target of the operator."""
        return self._inner.act()
