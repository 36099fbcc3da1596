"""Requests of many robots become batches of one policy, computed off the event loop.

While a batch is computed the next requests wait, and go together. A robot that would wait too long
is told so at once: it can hold its arms, or turn to another server.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from lwd.actor.robot import Observation
from lwd.errors import ServiceError

log = logging.getLogger(__name__)


class OverloadError(ServiceError):
    """The server has more requests than it can answer in time; try again later."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One robot's question."""

    observation: Observation
    instruction: str
    rng: np.random.Generator
    """Draws of the robot's episode."""


@runtime_checkable
class BatchPolicy(Protocol):
    """Chooses chunks of actions for several robots at once."""

    version: int
    """Version of its weights, at least 1."""
    normalisation_hash: str
    """sha256 of the statistics it normalises with."""
    tokenizer_hash: str
    """sha256 of its tokenizer."""

    def chunks(self, asked: Sequence[Asked]) -> np.ndarray:
        """[robots, horizon, action] absolute targets in the robots' units."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A chunk and what it cost."""

    chunk: np.ndarray
    """[horizon, action] float32."""
    infer_s: float
    """Seconds of computation, shared by the batch."""
    waited_s: float
    """Seconds in the queue."""
    together: int
    """Requests in the batch."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a batch may be and what a robot has to bear."""

    batch: int = 32
    """Most requests that are computed together."""
    window_s: float = 0.01
    """How long the first request of a batch waits for others."""
    waiting: int = 128
    """Most requests that wait; one more is refused."""
    deadline_s: float = 2.0
    """Longest wait of a request; then it is refused."""


@dataclass(eq=False)
class _Ticket:
    policy: BatchPolicy
    asked: Asked
    arrived: float
    answer: asyncio.Future[Answer] = field(default_factory=asyncio.Future)


class Batcher:
    """Collects requests on the event loop and computes them in one thread."""

    def __init__(
        self,
        limits: Limits,
        *,
        active: Callable[[], int] = lambda: 1 << 30,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`active` is the number of robots that may ask: a batch that has them all starts."""
        self._limits, self._active, self._clock = limits, active, clock
        self._waiting: deque[_Ticket] = deque()
        self._arrived = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, "inference")

    @property
    def waiting(self) -> int:
        """Requests in the queue now."""
        return len(self._waiting)

    async def ask(self, policy: BatchPolicy, asked: Asked) -> Answer:
        """The policy's chunk; OverloadError when the queue is full or the wait too long.

        An error of the policy on this one request is raised as it is.
        """
        if len(self._waiting) >= self._limits.waiting:
            raise OverloadError(
                f"overloaded: {len(self._waiting)} requests wait, which is all that may; "
                "hold the robot and ask again, or add a server."
            )
        ticket = _Ticket(policy, asked, self._clock())
        self._waiting.append(ticket)
        self._arrived.set()
        return await ticket.answer

    async def run(self) -> None:
        """Compute batches until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                await self._gather()
                batch = self._take()
                if batch:
                    await self._answer(batch)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for ticket in self._waiting:
                ticket.answer.cancel()

    async def _gather(self) -> None:
        """Wait until all who may ask have asked, the batch is full or the window is over."""
        end = self._clock() + self._limits.window_s
        wanted = min(self._limits.batch, self._active())
        while len(self._waiting) < wanted and (left := end - self._clock()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                break

    def _take(self) -> list[_Ticket]:
        """The oldest request and those behind it that ask the same policy."""
        batch: list[_Ticket] = []
        others: deque[_Ticket] = deque()
        now = self._clock()
        while self._waiting:
            ticket = self._waiting.popleft()
            if ticket.answer.done():  # its robot has gone
                continue
            if now - ticket.arrived > self._limits.deadline_s:
                ticket.answer.set_exception(_late(now - ticket.arrived, self._limits))
            elif len(batch) < self._limits.batch and (
                not batch or ticket.policy is batch[0].policy
            ):
                batch.append(ticket)
            else:
                others.append(ticket)
        self._waiting = others
        if not others:
            self._arrived.clear()
        return batch

    async def _answer(self, batch: list[_Ticket]) -> None:
        started = self._clock()
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(
            self._pool, computed, batch[0].policy, [ticket.asked for ticket in batch]
        )
        infer_s = self._clock() - started
        for ticket, outcome in zip(batch, outcomes, strict=True):
            await asyncio.sleep(0)  # between two robots others get a turn, health above all
            if ticket.answer.done():
                continue
            if isinstance(outcome, Exception):
                ticket.answer.set_exception(outcome)
                continue
            ticket.answer.set_result(
                Answer(
                    chunk=outcome,
                    infer_s=infer_s,
                    waited_s=started - ticket.arrived,
                    together=len(batch),
                )
            )


def computed(policy: BatchPolicy, asked: Sequence[Asked]) -> list[np.ndarray | Exception]:
    """A chunk for each request, or its error: one bad request does not spoil the others' batch."""
    try:
        chunks = np.asarray(policy.chunks(asked), np.float32)
        if chunks.ndim != 3 or len(chunks) != len(asked):
            raise ValueError(
                f"the policy made {chunks.shape} of {len(asked)} requests; expected "
                "[requests, horizon, action]."
            )
        return list(chunks)
    except Exception as error:  # the top of the inference thread; the policy is not our code
        if len(asked) == 1:
            log.exception("inference failed version=%d", policy.version)
            return [error]
    return [outcome for one in asked for outcome in computed(policy, [one])]


def _late(waited_s: float, limits: Limits) -> OverloadError:
    return OverloadError(
        f"overloaded: the request waited {waited_s:.2f} s, and {limits.deadline_s:g} s is the "
        "limit; hold the robot and ask again, or add a server."
    )
