"""The next chunk is planned while the current one runs, so that the robot never waits (RTC).

A chunk that was planned from the observation of tick t holds targets for the ticks t, t + 1, …;
when it comes, d ticks later, its first d targets are history. The others take over from the rest of
the chunk before, over a few ticks in which both are mixed. The motion has no gap as long as a plan
comes before the last one is used up: with chunks of H ticks and plans that take d, one lane keeps
up while 2 d <= H, and n lanes, each with a policy of its own, while d (n + 1) / n <= H.

Real-time chunking of flow policies (arXiv 2506.07339) also makes the policy aware of what is going
to be executed meanwhile; here chunks are mixed after the fact, which any policy allows.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from lwd.actor.policy import Policy
from lwd.actor.robot import Observation
from lwd.config import ControlConfig
from lwd.errors import IntegrityError, ServiceError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How plans follow each other."""

    blend: int = 5
    """Ticks over which a new chunk takes over from the one before."""
    every: int = 1
    """Fewest ticks between the starts of two plans; more saves computation."""
    patience_s: float = 1.0
    """How long a robot without a plan holds its last target; then the episode is interrupted."""
    first_s: float = 30.0
    """How long a robot at rest waits for the first plan of an episode."""


@dataclass(frozen=True, kw_only=True)
class Planning:
    """What it has been like since the start of the episode."""

    plans: int = 0
    """Chunks that came."""
    late: int = 0
    """Chunks that came when nothing of them was left, or whose situation had changed."""
    failed: int = 0
    """Plans that ended in an error."""
    slowest_s: float = 0.0


@dataclass(frozen=True)
class _Flight:
    origin: int
    """Tick of the observation."""
    started: float
    chunk: Future[np.ndarray]


class RealtimePolicy:
    """A `Policy` that the control loop asks tick by tick and that never makes it wait.

    `lanes` are policies that plan at the same time, each in a thread of its own; usually one.
    """

    def __init__(
        self,
        lanes: Sequence[Policy],
        control: ControlConfig,
        pace: Pace | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ValueError without a lane."""
        if not lanes:
            raise ValueError("a real-time policy needs at least one policy to plan with.")
        self._lanes, self._control = tuple(lanes), control
        self.pace, self._clock = pace or Pace(), clock
        self.planning = Planning()
        self._pool: ThreadPoolExecutor | None = None
        self._idle: deque[Policy] = deque()
        self._busy: dict[Policy, _Flight] = {}
        self._plan = np.zeros((0, 0), np.float32)
        self._target: np.ndarray | None = None
        """The last one that was given; None after somebody else has moved the robot."""
        self._held = False
        """Whether there was none for the last tick."""
        self._tick = self._began = self._origin = 0
        self._slow: deque[float] = deque(maxlen=5)
        """Seconds that the last plans took."""

    @property
    def version(self) -> int:
        """Of the policy that plans."""
        return self._lanes[0].version

    @property
    def normalisation_hash(self) -> str:
        """Of the policy that plans."""
        return self._lanes[0].normalisation_hash

    @property
    def tokenizer_hash(self) -> str:
        """Of the policy that plans."""
        return self._lanes[0].tokenizer_hash

    def reset(self, seed: int) -> None:
        """Start an episode; plans of the last one that are still under way are waited for, as a
        policy plans one chunk at a time."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for policy in self._lanes:
            policy.reset(seed)
        self._pool = ThreadPoolExecutor(len(self._lanes), "plan")
        self._idle, self._busy = deque(self._lanes), {}
        self.planning, self._tick = Planning(), 0
        self._slow.clear()
        self.discard()

    def close(self) -> None:
        """Plan no more. A plan under way ends by itself."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """[horizon, action] as the first lane plans it, for whoever wants to wait."""
        return self._lanes[0].chunk(observation, instruction)

    def discard(self) -> None:
        """Forget the plan and those under way: somebody else has moved the robot."""
        self._plan, self._target = np.zeros((0, 0), np.float32), None
        self._origin = self._tick
        self._began = self._tick - self._spacing()

    def wants(self) -> bool:
        """Whether a plan should start at this tick: a lane is free and the last start long ago."""
        self._collect()
        return bool(self._idle) and self._tick - self._began >= self._spacing()

    def begin(self, observation: Observation, instruction: str) -> None:
        """Plan from what the robot senses at this tick, in another thread."""
        assert self._pool is not None, "reset() starts an episode"
        policy = self._idle.popleft()
        chunk = self._pool.submit(policy.chunk, observation, instruction)
        self._busy[policy] = _Flight(self._tick, self._clock(), chunk)
        self._began = self._tick

    def failed(self) -> bool:
        """Whether there is no target and none is being planned."""
        self._collect()
        return not len(self._plan) and not self._busy

    def ready(self) -> bool:
        """Whether there is a target for this tick."""
        self._collect()
        return len(self._plan) > 0

    def next(self) -> np.ndarray | None:
        """[action] target of this tick, None where there is none; the next call is the next tick.

        IntegrityError if a plan was not what a plan is.
        """
        self._collect()
        self._tick += 1
        self._held = not len(self._plan)
        if self._held:
            return None
        self._target, self._plan = self._plan[0], self._plan[1:]
        return self._target

    def _spacing(self) -> int:
        """Ticks between two starts, so that the lanes take turns."""
        ticks = math.ceil(max(self._slow, default=0.0) * self._control.rate_hz)
        return max(self.pace.every, math.ceil(ticks / len(self._lanes)) if self._lanes[1:] else 1)

    def _collect(self) -> None:
        """Take what has been planned, oldest observation first."""
        done = [(policy, flight) for policy, flight in self._busy.items() if flight.chunk.done()]
        for policy, flight in sorted(done, key=lambda each: each[1].origin):
            del self._busy[policy]
            self._idle.append(policy)
            self._slow.append(self._clock() - flight.started)
            self._take(flight)

    def _take(self, flight: _Flight) -> None:
        seconds, left = self._clock() - flight.started, self._tick - flight.origin
        now = self.planning
        self.planning = replace(now, plans=now.plans + 1, slowest_s=max(now.slowest_s, seconds))
        try:
            chunk = self._checked(flight.chunk.result())
        except (ServiceError, TimeoutError) as error:
            log.warning("plan failed seconds=%.2f reason=%s", seconds, error)
            self.planning = replace(self.planning, failed=now.failed + 1)
            return
        if flight.origin < self._origin or left >= len(chunk):
            self.planning = replace(self.planning, late=now.late + 1)
            return
        before = self._plan
        if self._held and self._target is not None:
            before = np.repeat(self._target[None], self.pace.blend, axis=0)
        self._plan = merged(before, chunk[left:], self.pace.blend)
        self._origin = flight.origin

    def _checked(self, chunk: np.ndarray) -> np.ndarray:
        chunk = np.asarray(chunk, np.float32)
        if chunk.ndim != 2 or not len(chunk) or not np.isfinite(chunk).all():
            raise IntegrityError(
                f"policy version {self.version} planned {chunk.shape} actions, finite="
                f"{bool(np.isfinite(chunk).all())}; expected finite [horizon, action]."
            )
        return chunk


def merged(old: np.ndarray, new: np.ndarray, blend: int) -> np.ndarray:
    """Two plans [ticks, action] for the ticks from now on to one that goes over from the old to the
    new in `blend` ticks, fewer where the old one ends before."""
    ticks = min(blend, len(old), len(new))
    share = (np.arange(1, ticks + 1, dtype=np.float32) / (ticks + 1))[:, None]
    plan = new.copy()
    plan[:ticks] = (1 - share) * old[:ticks] + share * new[:ticks] if ticks else plan[:ticks]
    return plan
