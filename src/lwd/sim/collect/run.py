"""Fills the cells of Table IV in parallel, and can be killed and started again at any moment.

An attempt is decided by its number; results are taken in the order of the numbers, so that the
buffer depends neither on the number of workers nor on where it was interrupted. An episode is
first in the spool and then in the journal; what a kill left between the two is found by its id.
"""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from lwd.actor.threads import single_threaded
from lwd.config.collection import CollectConfig
from lwd.edge.spool import Spool
from lwd.episode.payload import decode
from lwd.episode.types import Kind, Outcome
from lwd.errors import ConfigError, ServiceError
from lwd.sim.cameras import require_cameras
from lwd.sim.collect.attempt import (
    Attempt,
    Make,
    Result,
    carry_out,
    end_with_parent,
    robot_seconds,
    simulated,
)
from lwd.sim.collect.composition import TABLE_IV, Buffer, Stream, cell_of, streams
from lwd.sim.collect.journal import Entry, Journal
from lwd.sim.tasks import task as find_task

log = logging.getLogger(__name__)
Look = Callable[[Buffer], None]
_LOOK_S = 2.0


def collect(
    config: CollectConfig,
    *,
    make: Make = simulated,
    stop: threading.Event | None = None,
    look: Look = lambda buffer: None,
) -> Buffer:
    """Make what is missing of a buffer, or until `stop`; `look` sees it every other second.

    Raises ConfigError for a task, camera or policy that is not there and for a folder with a
    buffer of other settings, ServiceError where the spool is full or a worker dies.
    """
    tasks = config.tasks or tuple(TABLE_IV)
    if make is simulated:
        for name in tasks:
            find_task(name)
        require_cameras(config.sight.cameras)
    if missing := [path for path in config.policies if not path.is_file()]:
        raise ConfigError(f"there is no policy {missing[0]}; give files of published weights.")
    settings = {name: getattr(config, name) for name in ("scale", "seed", "rate", "robot")}
    with (
        Journal(config.root / "collect", settings | asdict(config.sight)) as journal,
        Spool(config.root / "spool" / config.robot) as spool,
    ):
        work = _Work(
            config, streams(tasks, config.scale, config.effort, config.kinds), journal, spool
        )
        work.recover()
        with _pool(config.workers) as pool:
            work.run(pool, make, stop or threading.Event(), look)
        return work.buffer()


class _Work:
    """Streams, what is in flight, and results that wait for their turn."""

    def __init__(
        self, config: CollectConfig, of: list[Stream], journal: Journal, spool: Spool
    ) -> None:
        self._config, self._journal, self._spool = config, journal, spool
        self._policies = config.policies
        self._streams = {(stream.task, stream.kind): stream for stream in of}
        self._handed_out: dict[tuple[str, Kind], int] = {}
        self._early: dict[tuple[str, Kind, int], Result] = {}
        for entry in journal.entries:
            if stream := self._streams.get((entry.task, Kind(entry.kind))):
                stream.add(entry)

    def buffer(self) -> Buffer:
        """What there is now."""
        known = [e for e in self._journal.entries if (e.task, Kind(e.kind)) in self._streams]
        return Buffer(
            scale=self._config.scale,
            streams=tuple(self._streams.values()),
            entries=tuple(known),
            policies=len(self._policies),
        )

    def recover(self) -> None:
        """Write down what a kill left in the spool but not in the journal."""
        for stream in self._streams.values():
            attempt = self._attempt(stream, stream.attempts)
            found = self._spool.root.glob(f"*/{attempt.episode_id}.arrow")
            if path := next(found, None):
                episode = decode(path)
                outcome = episode.header.outcome
                log.info("recovered episode=%s task=%s", attempt.episode_id, stream.task)
                self._note(stream, attempt, outcome, robot_seconds(episode), keep=True)

    def run(self, pool: Executor, make: Make, stop: threading.Event, look: Look) -> None:
        """Keep the pool busy until nothing is missing that can be had."""
        flying: set[Future[Result]] = set()
        looked = 0.0
        while not stop.is_set():
            while len(flying) < self._config.workers and (attempt := self._next()):
                flying.add(pool.submit(carry_out, make, attempt))
            if not flying:
                return
            done, flying = wait(flying, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                self._take(future.result())
            if done and time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                look(self.buffer())

    def _next(self) -> Attempt | None:
        """The next attempt of the stream that is furthest behind; None while all is under way."""
        open_ = [s for s in self._streams.values() if self._wants_more(s)]
        if not open_:
            return None
        stream = min(open_, key=lambda s: (s.progress, self._in_flight(s)))
        key = (stream.task, stream.kind)
        number = stream.attempts + self._in_flight(stream)
        self._handed_out[key] = number + 1
        return self._attempt(stream, number)

    def _wants_more(self, stream: Stream) -> bool:
        """Whether one more attempt would be of use, if those in flight go as those before."""
        if stream.filled or stream.given_up or (stream.kind is Kind.ROLLOUT and not self._policies):
            return False
        flying = self._in_flight(stream)
        if not stream.attempts:
            return flying < self._config.workers
        pace = max(stream.progress / stream.attempts, 1e-9)
        return stream.progress + flying * pace < 1 or not flying

    def _in_flight(self, stream: Stream) -> int:
        handed_out = self._handed_out.get((stream.task, stream.kind), 0)
        return max(handed_out - stream.attempts, 0)

    def _attempt(self, stream: Stream, number: int) -> Attempt:
        policy, version = None, 0
        if stream.kind is Kind.ROLLOUT and self._policies:
            version = 1 + number % len(self._policies)
            policy = self._policies[version - 1]
        config = self._config
        return Attempt(
            seed=config.seed,
            rate=config.rate,
            task=stream.task,
            kind=stream.kind,
            number=number,
            robot=config.robot,
            sight=config.sight,
            policy=policy,
            version=version,
        )  # fmt: skip

    def _take(self, result: Result) -> None:
        """Take in a result, and those after it that came before their turn."""
        first = result.attempt
        stream = self._streams[first.task, first.kind]
        self._early[first.task, first.kind, first.number] = result
        while ready := self._early.pop((first.task, first.kind, stream.attempts), None):
            if stream.filled or stream.given_up:
                return
            outcome = Outcome(ready.outcome)
            keep = stream.needs(cell_of(first.kind, outcome))
            if keep:
                self._spool.save(ready.attempt.episode_id, ready.payload)
            self._note(stream, ready.attempt, outcome, ready.seconds, keep=keep, cpu_s=ready.cpu_s)

    def _note(
        self,
        stream: Stream,
        attempt: Attempt,
        outcome: Outcome,
        seconds: float,
        *,
        keep: bool,
        cpu_s: float = 0.0,
    ) -> None:
        entry = Entry(
            task=attempt.task,
            kind=str(attempt.kind),
            number=attempt.number,
            episode_id=attempt.episode_id,
            outcome=str(outcome),
            seconds=seconds,
            cell=(cell_of(attempt.kind, outcome) or "") if keep else "",
            policy=str(attempt.policy or ""),
            cpu_s=round(cpu_s, 3),
        )
        self._journal.append(entry)
        stream.add(entry)


class _Here(Executor):
    """Carries out at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """A future that is done; what `fn` raises is raised here."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **named))
        return future


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Processes of one thread each that die with this one; a single worker is this process."""
    if workers == 1:
        yield _Here()
        return
    spawn = multiprocessing.get_context("spawn")
    with single_threaded():
        pool = ProcessPoolExecutor(workers, spawn, initializer=end_with_parent)
        try:
            yield pool
        except BrokenProcessPool as error:
            raise ServiceError(
                "a worker process died, perhaps for want of memory; the same command goes on from "
                "there, with fewer --workers if need be."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
