"""Carries episodes from the spool to the fleet: object first, then the row, then acknowledge.

Every step may be repeated, so the process may be killed anywhere. A service that is away only
delays; a payload that nobody would ever accept goes to `rejected/` and holds up nothing. Several
payloads are on the way at once while that goes well; rows of one robot go in their order.
"""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lwd.config import EdgeConfig
from lwd.edge.spool import Spool, spools, warn_once
from lwd.episode.trace import span
from lwd.errors import ConflictError, EpisodeError, IntegrityError, MissingError, ServiceError
from lwd.store import metrics
from lwd.store.backoff import Backoff
from lwd.store.pace import Pace
from lwd.store.process import stop_on_signals
from lwd.store.rows import EpisodeRow

if TYPE_CHECKING:  # it loads when the first episode is there
    from lwd.store.objects import Objects

log = logging.getLogger(__name__)
_GIVE_UP_AFTER = 3
"""Failures in a row within one sweep that mean the service is away, not one episode odd."""
_DEFAULT_BACKOFF = Backoff()
_STORED_S = 3600.0
"""Time for which an upload counts without its row; later the store may have collected it."""
_SWEEP = 32
"""Episodes after which a sweep looks again for what is more urgent."""
_ASKED = 8 * _SWEEP
"""Episodes of a backlog that a sweep reads to see which go first; later ones read on."""
AT_ONCE = 8
"""Most uploads under way: what one waits for, a disk or a link, the others use."""


@runtime_checkable
class EpisodeSink(Protocol):
    """Where rows go: the client of the metadata service, or a catalog itself."""

    def insert_episode(self, row: EpisodeRow) -> object:
        """Catalogue the row; the same row again is fine. ConflictError, EpisodeError: never."""
        ...


@dataclass
class _Tally:
    """What came of the uploads of a sweep."""

    settled: int = 0
    failed: int = 0
    in_a_row: int = 0
    """Failures since the last one that was settled."""


class Uploader:
    """Uploads pending episodes and remembers what went wrong with which.

    One at a time after a failure, and one more with each that is settled, up to `at_once`: a link
    that is bad, or a service that is away, is not asked by many at once.
    """

    def __init__(
        self,
        objects: "Objects",
        sink: EpisodeSink,
        clock: Callable[[], float] = time.monotonic,
        *,
        pace: Pace | None = None,
        first: Sequence[str] = (),
        at_once: int = AT_ONCE,
    ):
        """`pace` bounds the bandwidth; `first` names what goes first: failure, intervention."""
        self._objects = objects
        self._sink = sink
        self._clock = clock
        self._pace = pace or Pace()
        self._first = tuple(first)
        self._failures: dict[str, int] = {}
        self._stored: dict[str, float] = {}
        self._begun: set[str] = set()
        self._urgent: dict[str, bool] = {}
        self._at_once, self._width = at_once, 1
        self._large = threading.Lock()

    def sweep(self, sources: Sequence[Spool], stop: threading.Event) -> tuple[int, int]:
        """Try what is pending, the least troubled first, of these the urgent: (settled, failed).

        At most `_SWEEP` episodes: what comes meanwhile may be more urgent than the rest.
        """
        waiting = _waiting(sources)
        self._ask(waiting)
        waiting.sort(key=self._order)
        todo, tally = deque(waiting[:_SWEEP]), _Tally()
        running: set[Future[bool]] = set()
        last: dict[Path, Future[bool]] = {}
        with ThreadPoolExecutor(self._at_once, "upload") as pool:
            while True:
                goes_on = tally.in_a_row < _GIVE_UP_AFTER and not stop.is_set()
                while todo and goes_on and len(running) < self._width:
                    spool, episode_id = todo.popleft()
                    future = pool.submit(self._try, spool, episode_id, last.get(spool.root))
                    last[spool.root] = future
                    running.add(future)
                if not running:
                    return tally.settled, tally.failed
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._count(tally, settled=future.result())

    def upload(self, spool: Spool, episode_id: str, before: Future[bool] | None = None) -> None:
        """One episode: validate, store, catalogue once `before` is over, acknowledge.

        ServiceError, IntegrityError (the store lost or lacks something) and OSError mean try again;
        EpisodeError and ConflictError mean never.
        """
        # pyarrow and obstore load on the first episode: a robot's client starts without them.
        from lwd.store.parts import WHOLE_BYTES

        started, path = self._clock(), spool.path(episode_id)
        # One that is large takes the whole link and much memory by itself.
        with self._large if path.stat().st_size > WHOLE_BYTES else nullcontext():
            row = self._sent(path)
        if before is not None:
            wait([before])
        self._sink.insert_episode(row)
        spool.acknowledge(episode_id)
        metrics.UPLOAD_S.observe(self._clock() - started)
        self._stored.pop(row.sha256, None)
        self._begun.discard(row.sha256)

    def _sent(self, path: Path) -> EpisodeRow:
        """The row of a valid payload that the store has."""
        from lwd.edge.announce import describe
        from lwd.episode.payload import decode
        from lwd.store.objects import sha256_of

        payload = path.read_bytes()
        episode = decode(payload)
        if episode.header.episode_id != path.stem:
            raise EpisodeError(f"The payload in {path.stem} is of {episode.header.episode_id}.")
        sha256 = sha256_of(payload)
        if self._stored.get(sha256, -math.inf) < self._clock() - _STORED_S:
            self._store(sha256, payload)
            self._stored[sha256] = self._clock()
        return describe(episode, sha256=sha256, size_bytes=len(payload))

    def _store(self, sha256: str, payload: bytes) -> None:
        """The payload whole, or all of its parts, which the coordinator joins."""
        from lwd.store import parts
        from lwd.store.objects import episode_key

        key = episode_key(sha256)
        if len(payload) > parts.WHOLE_BYTES and not self._objects.local:
            if not self._is_there(key, len(payload)):
                if sha256 not in self._begun:
                    parts.discard_damaged(self._objects, sha256, payload)
                    self._begun.add(sha256)
                most = self._pace.piece_bytes(parts.PART_BYTES)
                sent = parts.send(
                    self._objects, sha256, payload, part_bytes=most, take=self._pace.take
                )
                log.info("parts sent sha256=%s bytes=%d of=%d", sha256[:12], sent, len(payload))
            return
        self._pace.take(len(payload))
        self._objects.put(key, payload)
        if not self._is_there(key, len(payload)):
            raise ServiceError(f"The store has another size of {key} than was put there.")

    def _is_there(self, key: str, size: int) -> bool:
        try:
            return self._objects.head(key) == size
        except MissingError:
            return False

    def _ask(self, waiting: Sequence[tuple[Spool, str]]) -> None:
        """Which of those that wait go first; nobody is asked about twice."""
        if not self._first:
            return
        from lwd.edge.priority import urgent

        new = (each for each in waiting if each[1] not in self._urgent)
        for spool, episode_id in islice(new, _ASKED):
            self._urgent[episode_id] = urgent(spool.path(episode_id), self._first)

    def _order(self, waiting: tuple[Spool, str]) -> tuple[int, bool]:
        _, episode_id = waiting
        return self._failures.get(episode_id, 0), not self._urgent.get(episode_id, False)

    def _count(self, tally: _Tally, *, settled: bool) -> None:
        """One more is over; how many may be under way follows from how it went."""
        if settled:
            tally.settled, tally.in_a_row = tally.settled + 1, 0
            self._width = min(self._width + 1, self._at_once)
        else:
            tally.failed, tally.in_a_row = tally.failed + 1, tally.in_a_row + 1
            self._width = 1

    def _try(self, spool: Spool, episode_id: str, before: Future[bool] | None) -> bool:
        """Whether the episode is settled; it was uploaded, or put aside for good."""
        try:
            self._settle(spool, episode_id, before)
        except (ServiceError, IntegrityError, OSError) as error:
            failures = self._failures[episode_id] = self._failures.get(episode_id, 0) + 1
            metrics.UPLOADS.add(result="failed")
            log.warning("retry episode=%s failures=%d reason=%s", episode_id, failures, error)
            return False
        self._failures.pop(episode_id, None)
        self._urgent.pop(episode_id, None)
        return True

    def _settle(self, spool: Spool, episode_id: str, before: Future[bool] | None) -> None:
        try:
            with span("upload", episode_id, spool=spool.root.name):
                self.upload(spool, episode_id, before)
            metrics.UPLOADS.add(result="uploaded")
            log.info("uploaded episode=%s spool=%s", episode_id, spool.root.name)
        except (EpisodeError, ConflictError) as error:
            log.error("rejected episode=%s reason=%s", episode_id, error)
            spool.reject(episode_id, str(error))
            metrics.UPLOADS.add(result="rejected")


def _waiting(sources: Sequence[Spool]) -> list[tuple[Spool, str]]:
    """What is pending, spool by spool; one that cannot be read is left out, with a warning."""
    found: list[tuple[Spool, str]] = []
    for spool in sources:
        try:
            found += [(spool, episode_id) for episode_id in spool.pending()]
        except OSError as error:
            warn_once(f"spool left out spool={spool.root.name} reason={error}")
    return found


def run(
    source: Spool | Path,
    uploader: Uploader,
    stop: threading.Event,
    *,
    poll_s: float = 0.25,
    backoff: Backoff = _DEFAULT_BACKOFF,
    draw: Callable[[], float] = random.random,
) -> None:
    """Upload until `stop`. A folder as `source` holds a spool per robot: new ones are noticed, one
    that is not usable holds up no other."""
    failures = 0
    while not stop.is_set():
        sources = [source] if isinstance(source, Spool) else spools(source)
        settled, failed = uploader.sweep(sources, stop)
        failures = failures + 1 if failed and not settled else min(failed, 1)
        if failures or settled < _SWEEP:
            stop.wait(backoff.delay(failures, draw()) if failures else poll_s)


def main(
    spool: Path,
    objects_url: str,
    service_url: str,
    token: str | None = None,
    edge: EdgeConfig = EdgeConfig(),  # noqa: B008
) -> None:
    """Process of `lwd edge`: uploads what robots spool under `spool` until SIGTERM or SIGINT."""
    from lwd.store.client import ServiceClient
    from lwd.store.objects import Objects

    stop = stop_on_signals()
    log.info("start spool=%s objects=%s service=%s", spool, objects_url, service_url)
    uploader = Uploader(
        Objects(objects_url),
        ServiceClient(service_url, token=token),
        pace=Pace(edge.bytes_per_s, stop=stop),
        first=edge.first,
    )
    run(spool, uploader, stop)
    log.info("stop spool=%s waiting=%d", spool, len(_waiting(spools(spool))))
