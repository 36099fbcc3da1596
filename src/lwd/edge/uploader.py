"""Carries episodes from the spool to the fleet: object first, then the row, then acknowledge.

Every step may be repeated, so the process may be killed anywhere. A service that is away only
delays; a payload that nobody would ever accept goes to `rejected/` and holds up nothing.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lwd.config import EdgeConfig
from lwd.edge.spool import Spool, spools
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


@runtime_checkable
class EpisodeSink(Protocol):
    """Where rows go: the client of the metadata service, or a catalog itself."""

    def insert_episode(self, row: EpisodeRow) -> object:
        """Catalogue the row; the same row again is fine. ConflictError, EpisodeError: never."""
        ...


class Uploader:
    """Uploads pending episodes one after another and remembers what went wrong with which."""

    def __init__(
        self,
        objects: "Objects",
        sink: EpisodeSink,
        clock: Callable[[], float] = time.monotonic,
        *,
        pace: Pace | None = None,
        first: Sequence[str] = (),
    ):
        """`pace` bounds the bandwidth; `first` names what goes first: failure, intervention."""
        self._objects = objects
        self._sink = sink
        self._clock = clock
        self._pace = pace or Pace()
        self._first = tuple(first)
        self._failures: dict[str, int] = {}
        self._stored: dict[str, float] = {}
        self._urgent: dict[str, bool] = {}

    def sweep(self, sources: Sequence[Spool], stop: threading.Event) -> tuple[int, int]:
        """Try what is pending, the least troubled first, of these the urgent: (settled, failed).

        At most `_SWEEP` episodes: what comes meanwhile may be more urgent than the rest.
        """
        waiting = [(spool, episode) for spool in sources for episode in spool.pending()]
        waiting.sort(key=self._order)
        settled = failed = in_a_row = 0
        for spool, episode_id in waiting[:_SWEEP]:
            if stop.is_set() or in_a_row == _GIVE_UP_AFTER:
                break
            if self._try(spool, episode_id):
                settled, in_a_row = settled + 1, 0
            else:
                failed, in_a_row = failed + 1, in_a_row + 1
        return settled, failed

    def upload(self, spool: Spool, episode_id: str) -> None:
        """One episode: validate, store, catalogue, acknowledge.

        ServiceError, IntegrityError (the store lost or lacks something) and OSError mean try again;
        EpisodeError and ConflictError mean never.
        """
        # pyarrow and obstore load on the first episode: a robot's client starts without them.
        from lwd.edge.announce import describe
        from lwd.episode.payload import decode
        from lwd.store.objects import sha256_of

        started = self._clock()
        payload = spool.path(episode_id).read_bytes()
        episode = decode(payload)
        if episode.header.episode_id != episode_id:
            raise EpisodeError(f"The payload in {episode_id} is of {episode.header.episode_id}.")
        sha256 = sha256_of(payload)
        if self._stored.get(sha256, -math.inf) < self._clock() - _STORED_S:
            self._store(sha256, payload)
            self._stored[sha256] = self._clock()
        self._sink.insert_episode(describe(episode, sha256=sha256, size_bytes=len(payload)))
        spool.acknowledge(episode_id)
        metrics.UPLOAD_S.observe(self._clock() - started)
        self._stored.pop(sha256, None)

    def _store(self, sha256: str, payload: bytes) -> None:
        """The payload whole, or all of its parts, which the coordinator joins."""
        from lwd.store import parts
        from lwd.store.objects import episode_key

        key = episode_key(sha256)
        if len(payload) > parts.WHOLE_BYTES and not self._objects.local:
            if not self._is_there(key, len(payload)):
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

    def _order(self, waiting: tuple[Spool, str]) -> tuple[int, bool]:
        spool, episode_id = waiting
        return self._failures.get(episode_id, 0), not self._goes_first(spool, episode_id)

    def _goes_first(self, spool: Spool, episode_id: str) -> bool:
        if not self._first:
            return False
        if episode_id not in self._urgent:
            from lwd.edge.priority import urgent

            self._urgent[episode_id] = urgent(spool.path(episode_id), self._first)
        return self._urgent[episode_id]

    def _try(self, spool: Spool, episode_id: str) -> bool:
        """Whether the episode is settled; it was uploaded, or put aside for good."""
        try:
            self._settle(spool, episode_id)
        except (ServiceError, IntegrityError, OSError) as error:
            failures = self._failures[episode_id] = self._failures.get(episode_id, 0) + 1
            metrics.UPLOADS.add(result="failed")
            log.warning("retry episode=%s failures=%d reason=%s", episode_id, failures, error)
            return False
        self._failures.pop(episode_id, None)
        self._urgent.pop(episode_id, None)
        return True

    def _settle(self, spool: Spool, episode_id: str) -> None:
        try:
            with span("upload", episode_id, spool=spool.root.name):
                self.upload(spool, episode_id)
            metrics.UPLOADS.add(result="uploaded")
            log.info("uploaded episode=%s spool=%s", episode_id, spool.root.name)
        except (EpisodeError, ConflictError) as error:
            log.error("rejected episode=%s reason=%s", episode_id, error)
            spool.reject(episode_id, str(error))
            metrics.UPLOADS.add(result="rejected")


def run(
    source: Spool | Path,
    uploader: Uploader,
    stop: threading.Event,
    *,
    poll_s: float = 0.25,
    backoff: Backoff = _DEFAULT_BACKOFF,
    draw: Callable[[], float] = random.random,
) -> None:
    """Upload until `stop`. A folder as `source` holds a spool per robot; new ones are noticed."""
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
    log.info("stop spool=%s waiting=%d", spool, sum(len(s.pending()) for s in spools(spool)))
