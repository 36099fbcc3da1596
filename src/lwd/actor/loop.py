"""One episode: plan a chunk, execute its begin, hand over to the operator in between when asked."""

import math
import threading
import time
from dataclasses import replace

import numpy as np

from lwd.actor.operator import Demonstration, Operator
from lwd.actor.policy import Policy
from lwd.actor.realtime import RealtimePolicy
from lwd.actor.recorder import Recorder, Recording
from lwd.actor.robot import Robot, Status, Task, Tick
from lwd.episode.types import Episode, Kind, Outcome, Source
from lwd.errors import EpisodeError, IntegrityError, ServiceError

OUTCOME = {
    Status.SUCCESS: Outcome.SUCCESS,
    Status.FAILURE: Outcome.FAILURE,
    Status.TIMEOUT: Outcome.TIMEOUT,
    Status.INTERRUPTED: Outcome.INTERRUPTED,
    Status.INVALID: Outcome.INVALID,
}
"""How an episode ended, by the robot's last status."""

HUMAN_SOURCE = {Kind.DEMO: Source.EXPERT, Kind.PLAY: Source.PLAY}
"""Who acts when not the policy; in autonomous kinds it is an intervention."""

HELD = "held"
"""Event of a tick in which the robot had no plan and held its last target."""
RETRY_S = 0.2
"""Pause before a first plan that failed is tried again."""


def run_episode(
    robot: Robot,
    seed: int,
    policy: Policy | None,
    operator: Operator | None,
    *,
    kind: Kind,
    stop: threading.Event | None = None,
    recording: Recording | None = None,
) -> Episode | None:
    """Reset the robot, act until the episode ends, bring the robot to rest, return the recording.

    The policy plans `horizon` ticks at a time, of which the first `execute` are carried out. With
    an operator that is done tick by tick, so that the operator can take over in between; after
    handing back the policy plans anew.
    A `RealtimePolicy` is asked tick by tick and plans meanwhile; while it has no plan the robot
    holds its last target, and if that takes too long the episode ends as INTERRUPTED.
    Without a policy the operator acts in every tick. When `stop` is set the episode ends as
    INTERRUPTED; None if that was before its first tick. Raises IntegrityError if the policy's chunk
    is not finite or has another length.
    """
    task = robot.reset(seed)
    if policy is not None:
        policy.reset(seed)
    recorder = Recorder(robot, task, kind=kind, policy=policy, recording=recording or Recording())
    acting = _Acting(robot, task, policy, operator, recorder)
    try:
        outcome = acting.run(HUMAN_SOURCE.get(kind, Source.HUMAN), stop or threading.Event())
        last = robot.observe()
    finally:
        robot.stop()
    return recorder.finish(last, outcome) if recorder.ticks else None


class _Acting:
    """The state of the loop: the rest of the chunk, the last tick, who acts."""

    def __init__(
        self,
        robot: Robot,
        task: Task,
        policy: Policy | None,
        operator: Operator | None,
        recorder: Recorder,
    ) -> None:
        self._robot, self._task, self._recorder = robot, task, recorder
        self._policy, self._operator = policy, operator
        self._plan: np.ndarray | None = None
        self._last: Tick | None = None
        self._human = False
        self._stop = threading.Event()
        self._held = 0
        """Ticks without a plan, in a row."""

    def run(self, human: Source, stop: threading.Event) -> Outcome:
        """Act until the robot, the time limit or `stop` ends the episode."""
        self._stop = stop
        limit = math.ceil(self._task.time_limit_s * self._robot.control.rate_hz)
        while self._recorder.ticks < limit:
            if stop.is_set():
                return Outcome.INTERRUPTED
            if self._operator_acts():
                self._step_operator(human)
            elif isinstance(self._policy, RealtimePolicy):
                if not self._step_realtime(self._policy):
                    return Outcome.INTERRUPTED
            else:
                self._step_policy(limit - self._recorder.ticks)
            if self._last is not None and self._last.status is not Status.RUNNING:
                return OUTCOME[self._last.status]
        return Outcome.TIMEOUT

    def _operator_acts(self) -> bool:
        wanted = self._operator is not None and self._operator.wants_control(self._last)
        if self._human and not wanted:
            self._plan = None  # planned before the intervention: the world has moved on
            if isinstance(self._policy, RealtimePolicy):
                self._policy.discard()
        self._human = wanted
        return wanted

    def _step_operator(self, source: Source) -> None:
        assert self._operator is not None
        command = np.asarray(self._operator.act(), np.float32)[None]
        intended = None if self._plan is None else self._plan[:1]
        if isinstance(self._operator, Demonstration) and self._operator.slipping:
            source = Source.PLAY
        self._execute(command, intended, source)
        self._advance(1)

    def _step_policy(self, left: int) -> None:
        planned = self._plan is None
        if self._plan is None:
            self._plan = self._planned()
        command = self._plan[:1] if self._operator is not None else self._plan[:left]
        done = self._execute(command, command, Source.POLICY, planned=planned)
        self._advance(done)
        if done < len(command):
            self._plan = None

    def _step_realtime(self, policy: RealtimePolicy) -> bool:
        """One tick of a plan that is made meanwhile; False when the robot had to wait too long."""
        planned = policy.wants()
        if planned:
            policy.begin(self._robot.observe(), self._task.instruction)
        if self._last is None and not self._first_plan(policy):
            return False
        target = policy.next()
        if target is not None:
            self._held = 0
            self._execute(target[None], target[None], Source.POLICY, planned=planned)
            return True
        assert self._last is not None
        self._held += 1
        self._execute(self._last.action[None], None, Source.POLICY, planned=planned, event=HELD)
        return self._held < policy.pace.patience_s * self._robot.control.rate_hz

    def _first_plan(self, policy: RealtimePolicy) -> bool:
        """Wait for it with the robot at rest; False when `stop` came first."""
        end = time.monotonic() + policy.pace.first_s
        while not policy.ready():
            if policy.failed():
                if self._stop.wait(RETRY_S):
                    return False
                policy.begin(self._robot.observe(), self._task.instruction)
            if self._stop.wait(0.005):
                return False
            if time.monotonic() > end:
                raise ServiceError(
                    f"policy version {policy.version} made no plan in {policy.pace.first_s:g} s."
                )
        return True

    def _planned(self) -> np.ndarray:
        if self._policy is None:
            raise EpisodeError(
                "nobody acts: there is no policy and the operator does not want control; "
                "give a policy or a Demonstration."
            )
        observation = self._robot.observe()
        chunk = np.asarray(self._policy.chunk(observation, self._task.instruction), np.float32)
        horizon = self._robot.control.horizon
        if chunk.ndim != 2 or len(chunk) != horizon or not np.isfinite(chunk).all():
            raise IntegrityError(
                f"policy version {self._policy.version} planned {chunk.shape} actions, finite="
                f"{bool(np.isfinite(chunk).all())}; expected {horizon} finite ones."
            )
        return chunk[: self._robot.control.execute]

    def _execute(
        self,
        command: np.ndarray,
        intended: np.ndarray | None,
        source: Source,
        *,
        planned: bool = False,
        event: str = "",
    ) -> int:
        """Carry out [ticks, action] and record it; number of ticks that were done."""
        ticks = self._robot.apply(command)
        if not ticks:
            raise EpisodeError(
                f"robot {self._robot.robot_id} executed none of {len(command)} ticks."
            )
        for index, tick in enumerate(ticks):
            wanted = None if intended is None else intended[index]
            tick = replace(tick, events=(*tick.events, event)) if event else tick
            self._recorder.add(tick, source=source, wanted=wanted, planned=planned and index == 0)
        self._last = ticks[-1]
        return len(ticks)

    def _advance(self, ticks: int) -> None:
        if self._plan is not None:
            self._plan = self._plan[ticks:] if len(self._plan) > ticks else None
