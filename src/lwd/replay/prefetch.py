"""Downloads payloads ahead of the learner, in a process of its own.

The data set has one order (snapshot version, then episode id), known to everybody from the
catalog. The reader has loaded a prefix of it; the prefetcher fetches what comes next, as far as the
cache has room, and evicts what is loaded already. It keeps no state but the files, so it may be
killed at any time: the reader starts another.
"""

import json
import logging
import os
import select
import sys
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lwd.errors import IntegrityError, ServiceError
from lwd.replay.cache import Cache
from lwd.replay.order import START, position, trained_on, without
from lwd.store.backoff import Backoff
from lwd.store.catalog import Catalog
from lwd.store.disk import clear_left_aside
from lwd.store.history import Entry
from lwd.store.objects import Objects, episode_key
from lwd.store.process import stop_on_signals
from lwd.store.rows import EpisodeRow

log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Downloads between two looks at the reader's progress."""
_LOOK_S = 5.0
"""Time after which the folder is read again: readers of images fetch and evict there, too."""
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the reader tells its prefetcher at the start; a JSON line, so no secret is in argv."""

    catalog_url: str
    objects_url: str
    cache_dir: str
    cache_bytes: int = 50 << 30
    workers: int = 4
    poll_s: float = 0.25
    attempts: int = 5
    """Tries in quick succession before an episode has to wait."""
    rest_s: float = 30.0
    """That wait; afterwards the episode is tried again."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do next, in this order."""

    evict: list[str]
    """Hashes of files that nobody needs any more."""
    fetch: list[EpisodeRow]


def plan(
    rows: Sequence[EpisodeRow],
    loaded: int,
    local: dict[str, int],
    *,
    cache_bytes: int,
    waiting: frozenset[str] = frozenset(),
    first: int = 0,
) -> Plan:
    """Evictions and downloads for a reader that has loaded `rows[:loaded]`.

    `local` holds sizes by hash, least recently read first; `waiting` are hashes that rest after
    failures; nothing before `rows[first]` is to be fetched. Files go only when room is needed:
    strangers first, then what was read least recently of the loaded. What is ahead of the reader
    never goes, and one file ahead always has room, so that a small cache slows but never stops.
    """
    used, evict, fetch = sum(local.values()), [], []
    spare: deque[str] | None = None
    for index in range(max(loaded, first), len(rows)):
        row = rows[index]
        if row.sha256 in local or row.sha256 in waiting or not trained_on(row):
            continue
        if used + row.size_bytes > cache_bytes:
            spare = _disposable(rows, loaded, local) if spare is None else spare
            while used + row.size_bytes > cache_bytes and spare:
                evict.append(spare.popleft())
                used -= local[evict[-1]]
            anything_ahead = fetch or len(evict) < len(local)
            if used + row.size_bytes > cache_bytes and anything_ahead:
                break
        fetch.append(row)
        used += row.size_bytes
        if len(fetch) == _AT_ONCE:
            break
    return Plan(evict=evict, fetch=fetch)


def _disposable(rows: Sequence[EpisodeRow], loaded: int, local: dict[str, int]) -> deque[str]:
    """Files that are not ahead of the reader, strangers first."""
    needed = {row.sha256 for row in rows[loaded:] if trained_on(row)}
    known = {row.sha256 for row in rows[:loaded]}
    spare = (sha256 for sha256 in local if sha256 not in needed)
    return deque(sorted(spare, key=known.__contains__))


@dataclass
class Trouble:
    """Failures of one episode."""

    failures: int = 0
    until: float = 0.0


@dataclass
class Downloader:
    """Carries plans out: parallel, verified, each episode with its own bounded retries."""

    objects: Objects
    settings: Settings
    clock: Callable[[], float] = time.monotonic
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, limit_s=10.0))
    local: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cache = Cache(Path(self.settings.cache_dir), self.settings.cache_bytes)
        clear_left_aside(self._cache.folder)
        self._look()

    def forget(self, sha256: str) -> None:
        """The reader found the file damaged and removed it."""
        self.local.pop(sha256, None)
        self._first = 0

    def step(self, rows: Sequence[EpisodeRow], loaded: int) -> int:
        """One plan, carried out; how many files it fetched."""
        if self.clock() - self._looked_at >= _LOOK_S:
            self._look()
        todo = self._plan(rows, loaded)
        if todo.evict:
            self._look()  # what has been read meanwhile stays
            todo = self._plan(rows, loaded)
        for sha256 in todo.evict:
            self._cache.drop(sha256)
            self.local.pop(sha256, None)
        if not todo.fetch:
            return 0
        with ThreadPoolExecutor(self.settings.workers) as pool:
            errors = list(pool.map(self._fetch, todo.fetch))
        for row, error in zip(todo.fetch, errors, strict=True):
            self._note(row, error)
        return errors.count(None)

    def _look(self) -> None:
        """See what is in the folder, and in which order it was read."""
        self.local, self._looked_at, self._first = self._cache.sizes(), self.clock(), 0

    def _plan(self, rows: Sequence[EpisodeRow], loaded: int) -> Plan:
        now, limit = self.clock(), self.settings.cache_bytes
        waiting = frozenset(sha256 for sha256, t in self.troubles.items() if t.until > now)
        self._first = self._first_absent(rows, loaded)
        return plan(rows, loaded, self.local, cache_bytes=limit, waiting=waiting, first=self._first)

    def _first_absent(self, rows: Sequence[EpisodeRow], loaded: int) -> int:
        """Index of the first row to fetch; until the next look it is sought from there on only."""
        for index in range(max(loaded, self._first), len(rows)):
            row = rows[index]
            if row.sha256 not in self.local and trained_on(row):
                return index
        return len(rows)

    def _fetch(self, row: EpisodeRow) -> str | None:
        """Download one payload; the reason if that failed."""
        path = self._cache.path(row.sha256)
        try:
            self.objects.get_to(episode_key(row.sha256), path, sha256=row.sha256)
        except (ServiceError, IntegrityError, OSError) as error:
            return str(error)
        return None

    def _note(self, row: EpisodeRow, error: str | None) -> None:
        if error is None:
            self.troubles.pop(row.sha256, None)
            self.local[row.sha256] = row.size_bytes
            return
        trouble = self.troubles.setdefault(row.sha256, Trouble())
        trouble.failures += 1
        if trouble.failures % self.settings.attempts == 0:
            trouble.until = self.clock() + self.settings.rest_s
            level = logging.ERROR
        else:
            delay = self.backoff.delay(trouble.failures % self.settings.attempts, 0.0)
            trouble.until = self.clock() + delay
            level = logging.WARNING
        message = "download failed episode=%s failures=%d reason=%s"
        log.log(level, message, row.episode_id, trouble.failures, error)


class Inbox:
    """Lines from the reader: its progress, or its end."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._rest = b""
        self.loaded = START
        """Place of the last entry that the reader has dealt with."""
        self.forgotten: list[str] = []
        self.closed = False

    def wait(self, timeout_s: float) -> None:
        """Until the reader says something, at most `timeout_s`; its end counts as closed."""
        while select.select([self._descriptor], [], [], timeout_s)[0]:
            data = os.read(self._descriptor, 1 << 16)
            if not data:
                self.closed = True
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            timeout_s = 0.0

    def _take(self, message: dict) -> None:
        if "loaded" in message:
            version, episode_id = message["loaded"]
            self.loaded = (version, episode_id)
        if "damaged" in message:
            self.forgotten.append(message["damaged"])


def run(
    catalog: Catalog, downloader: Downloader, inbox: Inbox, stop: threading.Event, poll_s: float
) -> None:
    """Keep ahead of the reader until it goes away or `stop` is set."""
    entries: list[Entry] = []
    rows: list[EpisodeRow] = []
    version = 0
    while not stop.is_set():
        inbox.wait(0.0)
        if inbox.closed:
            return
        while inbox.forgotten:
            downloader.forget(inbox.forgotten.pop())
        try:
            newest = catalog.snapshot_version()
            if newest > version:
                entries = extended(entries, catalog.snapshot_log(newest, after=version))
                rows = [entry.row for entry in entries]
                version = newest
        except ServiceError as error:
            log.warning("catalog away reason=%s", error)
        loaded = bisect_right(entries, inbox.loaded, key=position)
        if downloader.step(rows, loaded) == 0:
            inbox.wait(poll_s)


def extended(entries: list[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Entries whose payloads are needed, with new ones at the end; what is lost is not needed."""
    lost = {entry.row.episode_id for entry in new if entry.lost}
    kept = without(entries, lost) if lost else entries
    return kept + [entry for entry in new if entry.present]


def command() -> list[str]:
    """Command line of the prefetcher process; its settings come as the first line on stdin."""
    return [sys.executable, "-m", "lwd.replay.prefetch"]


def main(descriptor: int = 0) -> None:
    """Process of the prefetcher: ends when its reader ends or on SIGTERM or SIGINT.

    `descriptor` is where the reader speaks: stdin.
    """
    stop = stop_on_signals()
    first = bytearray()
    while not first.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            return
        first += byte
    settings = Settings(**json.loads(first))
    downloader = Downloader(Objects(settings.objects_url), settings)
    log.info("start cache=%s files=%d", settings.cache_dir, len(downloader.local))
    with Catalog(settings.catalog_url) as catalog:
        run(catalog, downloader, Inbox(descriptor), stop, settings.poll_s)


def first_line(settings: Settings) -> bytes:
    """What the reader writes to the prefetcher's stdin before anything else."""
    return json.dumps(asdict(settings)).encode() + b"\n"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    main()
