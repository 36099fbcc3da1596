"""What a policy server does with a robot's message, whatever carried it here."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lwd.actor.robot import Observation
from lwd.config import ControlConfig
from lwd.config.serving import ServeConfig
from lwd.episode.types import Kind, Outcome
from lwd.errors import IntegrityError, LwdError, ServiceError
from lwd.serve.archive import Archive, Kept
from lwd.serve.batch import Answer, Asked, Batcher, OverloadError
from lwd.serve.beats import Beats
from lwd.serve.layout import Layout, received
from lwd.serve.metrics import Metrics
from lwd.serve.policies import Policies
from lwd.serve.session import (
    Request,
    Running,
    Session,
    Sessions,
    checked,
    draws,
    request_of,
    shapes_of,
)
from lwd.serve.track import Executed, Terms, Track
from lwd.serve.wire import RequestError, unpack
from lwd.store.access import READ, Access

log = logging.getLogger(__name__)

SWEEP_S = 0.5
"""Time between looks for episodes that have ended by silence."""


@dataclass(eq=False, kw_only=True)
class Connection:
    """One robot's line to the server."""

    authorization: str | None
    robot: str
    """Name that its messages need not give."""
    greeting: bytes
    """Packed metadata, the first message to the robot."""
    session: Session | None = None
    last_total_ms: float | None = None
    """What the last request took, as openpi's server tells with the next."""


@dataclass(eq=False, kw_only=True)
class Serving:
    """The parts of a server. Lives on the event loop alone."""

    config: ServeConfig
    control: ControlConfig
    layout: Layout
    policies: Policies
    batcher: Batcher
    sessions: Sessions
    access: Access = field(default_factory=Access)
    archive: Archive | None = None
    beats: Beats | None = None
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], float] = time.time
    """UTC seconds."""
    connections: set[Connection] = field(default_factory=set)
    episodes: int = 0
    """Episodes that have begun."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What a robot is told when it connects."""
        return {
            "server": "lwd",
            "layout": self.config.layout,
            "rate_hz": float(self.control.rate_hz),
            "horizon": int(self.control.horizon),
            "policy_version": int(self.policies.current().version),
        }

    async def answer(self, connection: Connection, message: bytes | str) -> dict[str, Any]:
        """Chunk and timings for a robot's message; LwdError says what was wrong with it."""
        started = time.monotonic()
        try:
            reply = await self._answered(connection, message)
        except LwdError as error:
            self.metrics.requests.labels(result=type(error).__name__).inc()
            raise
        self.metrics.requests.labels(result="ok").inc()
        total_s = time.monotonic() - started
        self.metrics.latency.observe(total_s)
        if connection.last_total_ms is not None:
            reply["server_timing"]["prev_total_ms"] = connection.last_total_ms
        connection.last_total_ms = total_s * 1e3
        return reply

    def left(self, connection: Connection) -> None:
        """The connection is gone."""
        self.connections.discard(connection)
        if connection.session is not None:
            self.sessions.leave(connection.session, connection)

    def end(self, session: Session, outcome: Outcome) -> Future[Kept] | None:
        """End a robot's episode; the answer says if it was saved, None if it is not recorded."""
        running, session.running = session.running, None
        if running is None:
            return None
        self.metrics.episodes.labels(outcome=str(outcome)).inc()
        if self.archive is None or running.track is None:
            return None
        return self.archive.finish(running.track, outcome)

    def mark(self, session: Session, *, human: bool) -> None:
        """A person has taken the robot, or has handed it back. RequestError where nobody could know
        what the person does."""
        running = session.running
        if running is None:
            raise RequestError(f"robot {session.robot!r} has no running episode; it asks first.")
        if human and not (running.tells or self.config.joints or running.track is None):
            raise RequestError(
                f"nobody knows what a person does with robot {session.robot!r}: let it send "
                "`lwd/executed`, or start the server with --joints."
            )
        running.human = human
        track = running.track
        if track is not None and self.archive is not None:
            self.archive.do(lambda: track.mark(human=human))

    async def sweep(self) -> None:
        """End the episodes of robots that have gone or fallen silent, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            for session in self.sessions.stale(self.config.gap_s):
                log.info("episode over robot=%s reason=silence", session.robot)
                self.end(session, Outcome.INTERRUPTED)

    def close(self) -> None:
        """End every episode; the archive saves them on its way out."""
        for session in self.sessions.all():
            self.end(session, Outcome.INTERRUPTED)

    async def _answered(self, connection: Connection, message: bytes | str) -> dict[str, Any]:
        if isinstance(message, str):
            raise RequestError("a text message; observations are binary, packed with msgpack.")
        request = request_of(unpack(message))
        prompt = self.config.prompt
        observation, instruction = received(self.layout, request.message, prompt=prompt)
        if "lwd/lane" in request.own:
            return await self._aside(connection, request, observation, instruction)
        session = self._session(connection, request)
        running = self._running(session, request, observation, instruction)
        executed = checked(session, observation, request)
        if running.human and executed is None and running.track and not self.config.joints:
            raise RequestError("a person has the robot: send `lwd/executed` with every message.")
        answer = await self._chunk(session, running, observation, instruction)
        self._record(running, observation, answer, executed)
        return _reply(answer, running)

    async def _aside(
        self, connection: Connection, request: Request, observation: Observation, instruction: str
    ) -> dict[str, Any]:
        """A robot that plans several chunks at once asks over another connection: answered by the
        policy of its episode, and not recorded."""
        robot = request.robot or connection.robot
        self.access.check(connection.authorization, READ, robot)
        session = self.sessions.find(robot)
        if session is None or session.running is None or session.running.key != request.episode:
            raise RequestError(f"robot {robot!r} has no such episode; its first lane begins one.")
        running = session.running
        return _reply(await self._chunk(session, running, observation, instruction), running)

    def _session(self, connection: Connection, request: Request) -> Session:
        """The robot's session; a message may name another robot than the connection's."""
        robot = request.robot or connection.robot
        session = connection.session
        if session is None or session.robot != robot or session.holder is not connection:
            self.access.check(connection.authorization, READ, robot)
            if session is not None:
                self.sessions.leave(session, connection)
            session = connection.session = self.sessions.join(robot, connection)
        return self.sessions.join(robot, connection)

    def _running(
        self, session: Session, request: Request, observation: Observation, instruction: str
    ) -> Running:
        """The robot's episode, a new one where this message is the first of one."""
        running = session.running
        if running is not None and running.key == request.episode:
            return running
        if running is not None:
            self.end(session, Outcome.INTERRUPTED)
        policy = self.policies.current()
        self.episodes += 1
        # An episode that was ended from outside, or that the robot records itself, is not recorded.
        known = request.episode and request.episode == session.ended
        session.beats = request.own.get("lwd/records") is True
        known = known or session.beats
        session.running = running = Running(
            key=request.episode,
            policy=policy,
            instruction=instruction,
            rng=draws(session.robot, request.episode, self.episodes if not request.episode else 0),
            track=None,
            started_at=self.clock(),
            shapes=shapes_of(observation),
        )
        if self.archive is not None and not known:
            running.track = Track(
                terms=self._terms(),
                robot=session.robot,
                policy=policy,
                instruction=instruction,
                started_at=running.started_at,
            )
        self.policies.adopted(session.robot, policy.version)
        log.info(
            "episode begins robot=%s policy=%d recorded=%s",
            *(session.robot, policy.version, running.track is not None),
        )
        return running

    def _terms(self) -> Terms:
        return Terms(
            control=self.control,
            task=self.config.task,
            kind=Kind(self.config.kind),
            executed=self.config.executed,
            joints=self.config.joints,
        )

    async def _chunk(
        self, session: Session, running: Running, observation: Observation, instruction: str
    ) -> Answer:
        asked = Asked(observation=observation, instruction=instruction, rng=running.rng)
        try:
            answer = await self.batcher.ask(running.policy, asked)
        except (OverloadError, asyncio.CancelledError):
            raise
        except Exception as error:  # whatever a policy raises is this one request's trouble
            raise ServiceError(
                f"policy version {running.policy.version} cannot answer: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not np.isfinite(answer.chunk).all():
            reason = f"policy version {running.policy.version} made numbers that are not finite"
            self.policies.withdraw(running.policy, reason)
            if session.running is running:
                self.end(session, Outcome.INTERRUPTED)
            raise IntegrityError(f"{reason}; it is served no more. Hold the robot and ask again.")
        self.metrics.waited.observe(answer.waited_s)
        self.metrics.inference.observe(answer.infer_s)
        self.metrics.together.observe(answer.together)
        return answer

    def _record(
        self, running: Running, observation: Observation, answer: Answer, executed: Executed | None
    ) -> None:
        running.requests += 1
        running.actions = answer.chunk.shape[1]
        track, at = running.track, self.clock()
        if track is not None and self.archive is not None:
            self.archive.do(lambda: track.saw(observation, answer.chunk, at, executed))


def _reply(answer: Answer, running: Running) -> dict[str, Any]:
    infer_ms = answer.infer_s * 1e3
    return {
        "actions": answer.chunk,
        "policy_timing": {"infer_ms": infer_ms},
        "server_timing": {"infer_ms": infer_ms, "waited_ms": answer.waited_s * 1e3},
        "lwd/policy_version": running.policy.version,
    }
