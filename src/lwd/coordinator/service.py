"""The coordinator's loop: notices and reconciliation in, snapshots out, under a fenced lease."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from lwd.config import PlaneConfig
from lwd.coordinator.snapshots import (
    Fate,
    Verdict,
    judge_absent,
    judge_payload,
    judge_size,
    read_notice,
)
from lwd.episode.trace import happened
from lwd.errors import ConflictError, IntegrityError, MissingError, ServiceError
from lwd.store import metrics, parts
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.process import stop_on_signals
from lwd.store.queue import Message, Queue
from lwd.store.rows import EpisodeRow

log = logging.getLogger(__name__)

BATCH = 64
RECONCILE_BATCH = 128
PULL_S = 0.5
DOWNLOADS = 8
SILENT_LEASES = 1.5
"""A holder renews its lease three times while it lasts; this many without a sign are its end."""
RETRY_S = 2.0
"""Delay before a notice comes again whose episode has to wait."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """What the coordinator works on."""

    catalog: Catalog
    objects: Objects
    queue: Queue
    pool: ThreadPoolExecutor
    patience_s: float
    clock: Callable[[], float] = time.time


class Reign:
    """The lease while this process has it: kept for as long as there is work."""

    def __init__(self, catalog: Catalog, holder: str, token: int, lease_s: float):
        self.token, self.lease_s = token, lease_s
        self._renew = partial(catalog.renew_lease, COORDINATOR, holder, token)
        self._renewed = time.monotonic()

    def keep(self) -> None:
        """Renew the lease once a third of it is over; ConflictError if another process has it."""
        if time.monotonic() - self._renewed > self.lease_s / 3:
            self._renewed = time.monotonic()
            if not self._renew(self.lease_s):
                raise ConflictError(f"token {self.token} is not the newest any more")

    def end(self) -> None:
        """Give the lease back."""
        self._renew(0.0)


def run(
    config: PlaneConfig,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Process main: coordinate whenever the lease is free, until SIGTERM, SIGINT or `stop`.

    Any number may run; one works and the others wait for its lease to end. `clock` gives UTC
    seconds and may be wrong.
    """
    stop = stop or stop_on_signals()
    holder = _name()
    with _opened(config, clock) as plane:
        log.info("coordinator ready holder=%s", holder)
        while not stop.is_set():
            try:
                _lead(plane, config, holder, stop)
            except ConflictError as error:
                log.warning("lease lost reason=%s", error)
            except ServiceError as error:
                log.warning("coordinator waits reason=%s", error)
                stop.wait(1.0)


class CaughtUp(NamedTuple):
    """What `catch_up` came to."""

    version: int
    """Newest version of the data set."""
    waiting: list[Verdict]
    """On the episodes that could not be settled yet, with what they wait for."""


def catch_up(config: PlaneConfig, clock: Callable[[], float] = time.time) -> CaughtUp:
    """Settle every episode that is catalogued, without a queue, and end.

    ConflictError if a coordinator is at work, which does this by itself.
    """
    holder, late = _name(), threading.Event()
    with _opened(config, clock) as plane:
        patience = threading.Timer(2 * SILENT_LEASES * config.lease_s, late.set)
        patience.start()
        reign = _acquire(plane.catalog, config.lease_s, holder, late)
        patience.cancel()
        if reign is None:
            lease = plane.catalog.lease(COORDINATOR)
            raise ConflictError(
                f"A coordinator is at work, {lease.holder if lease else 'another one'}: it takes "
                "episodes into the data set as they come; see `lwd status`."
            )
        waiting, last = [], None
        while True:
            verdicts, last = reconcile(plane, reign, 0.0, last)
            waiting += [verdict for verdict in verdicts if verdict.fate is Fate.WAIT]
            if last is None:
                break
        reign.end()
        return CaughtUp(plane.catalog.snapshot_version(), waiting)


def _name() -> str:
    """What this process is called as the holder of a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@contextmanager
def _opened(config: PlaneConfig, clock: Callable[[], float]) -> Iterator[Plane]:
    with (
        Catalog(config.catalog, clock) as catalog,
        Queue(config.queue_url) as queue,
        ThreadPoolExecutor(DOWNLOADS, "payload") as pool,
    ):
        yield Plane(
            catalog=catalog,
            objects=Objects(config.objects),
            queue=queue,
            pool=pool,
            patience_s=config.patience_s,
            clock=clock,
        )


def _lead(plane: Plane, config: PlaneConfig, holder: str, stop: threading.Event) -> None:
    """Wait for the lease, then work until it is lost (ConflictError) or `stop` is set."""
    reign = _acquire(plane.catalog, config.lease_s, holder, stop)
    if reign is None:
        return
    log.info("lease acquired token=%d", reign.token)
    due, last, away = time.monotonic(), None, False
    while not stop.is_set():
        reign.keep()
        if time.monotonic() >= due:
            _, last = reconcile(plane, reign, config.reconcile_s, last)
            due = due if last else time.monotonic() + config.reconcile_s
        away = _follow(plane, reign, stop, away=away)
    reign.end()


def _follow(plane: Plane, reign: Reign, stop: threading.Event, *, away: bool) -> bool:
    """`follow_notices`; whether the queue is away, which is said when it begins and ends."""
    try:
        messages = plane.queue.pull("coordinator", BATCH, PULL_S)
    except ServiceError as error:
        if not away:
            log.warning("queue away, reconciliation goes on reason=%s", error)
        stop.wait(PULL_S)
        return True
    if away:
        log.info("queue back")
    follow_notices(plane, reign, messages)
    return False


def _acquire(catalog: Catalog, lease_s: float, holder: str, stop: threading.Event) -> Reign | None:
    """A reign once the lease is free, or its holder silent for longer than it lasts.

    A holder whose clock was wrong may have left a lease that ends in hours; who waits for it goes
    by the time that passes, not by clocks.
    """
    seen, since, silent = None, time.monotonic(), None
    while not stop.is_set():
        token = catalog.acquire_lease(COORDINATOR, holder, lease_s, silent=silent)
        if token is not None:
            return Reign(catalog, holder, token, lease_s)
        lease = catalog.lease(COORDINATOR)
        if lease != seen:
            seen, since = lease, time.monotonic()
        silent = seen if time.monotonic() - since > SILENT_LEASES * lease_s else None
        stop.wait(min(0.5, lease_s / 4))
    return None


def follow_notices(plane: Plane, reign: Reign, messages: Iterable[Message]) -> None:
    """Settle the episodes of some notices, and only then acknowledge.

    A kill in between brings the notices back, to find their episodes settled.
    """
    notices = _read_notices(plane, reign, messages)
    rows = {episode_id: plane.catalog.episode(episode_id) for episode_id in notices}
    verdicts = settle(plane, reign, [row for row in rows.values() if row is not None])
    for episode_id in (name for name, row in rows.items() if row is None):
        reason = "the notice names an episode that is not in the catalog"
        verdicts[episode_id] = _give_up(plane, reign, episode_id, reason)
    for episode_id, about in notices.items():
        for message in about:
            _answer(message, verdicts[episode_id])


def reconcile(
    plane: Plane, reign: Reign, older_than_s: float, after: EpisodeRow | None = None
) -> tuple[list[Verdict], EpisodeRow | None]:
    """Settle the oldest catalogued episodes that no notice brought here, of those that come `after`
    one; verdicts, and the last one if more may follow."""
    rows = plane.catalog.unsnapshotted(RECONCILE_BATCH, older_than_s, after=after)
    verdicts = list(settle(plane, reign, rows).values())
    if joined := sum(verdict.fate is Fate.JOIN for verdict in verdicts):
        log.info("reconciled episodes=%d", joined)
    if plane.catalog.amended():
        version = plane.catalog.commit_snapshot([], token=reign.token)
        log.info("snapshot version=%d amended", version)
    return verdicts, rows[-1] if len(rows) == RECONCILE_BATCH else None


def settle(plane: Plane, reign: Reign, rows: Sequence[EpisodeRow]) -> dict[str, Verdict]:
    """Verdict by episode id, carried out: a snapshot with those that join, dead letters."""
    started = plane.clock()
    verdicts = {verdict.episode_id: verdict for verdict in _examined(plane, reign, rows)}
    joining = [v.episode_id for v in verdicts.values() if v.fate is Fate.JOIN]
    if joining:
        version = plane.catalog.commit_snapshot(joining, token=reign.token)
        log.info("snapshot version=%d episodes=%d", version, len(joining))
        metrics.SNAPSHOT.set(version)
        for episode_id in joining:
            happened("snapshot", episode_id, started, plane.clock(), version=version)
    for verdict in verdicts.values():
        metrics.JUDGED.add(fate=verdict.fate.name.lower())
        if verdict.fate is Fate.DEAD:
            _give_up(plane, reign, verdict.episode_id, verdict.reason)
    return verdicts


def _examined(plane: Plane, reign: Reign, rows: Sequence[EpisodeRow]) -> list[Verdict]:
    """Verdicts on the rows; the lease is kept while payloads come in, however long that takes."""
    futures = [plane.pool.submit(examine, plane, row) for row in rows]
    try:
        while wait(futures, reign.lease_s / 10).not_done:
            reign.keep()
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def examine(plane: Plane, row: EpisodeRow) -> Verdict:
    """Download and judge one payload; a store that is away makes it wait."""
    if plane.catalog.snapshot_of(row.episode_id) is not None:
        return Verdict(episode_id=row.episode_id, fate=Fate.MEMBER)
    key = episode_key(row.sha256)
    try:
        condemned = judge_size(row, plane.objects.head(key))
        return condemned or judge_payload(row, plane.objects.get(key))
    except MissingError:
        return _examine_parts(plane, row)
    except ServiceError as error:
        return Verdict(episode_id=row.episode_id, fate=Fate.WAIT, reason=str(error))


def _examine_parts(plane: Plane, row: EpisodeRow) -> Verdict:
    """Join and judge a payload that was uploaded in parts."""
    try:
        payload = parts.read(plane.objects, row.sha256, row.size_bytes)
        verdict = judge_payload(row, payload)
        if verdict.fate is Fate.JOIN:
            parts.join(plane.objects, row.sha256, payload)
        return verdict
    except IntegrityError:
        return judge_absent(row, now=plane.clock(), patience_s=plane.patience_s)
    except ServiceError as error:
        return Verdict(episode_id=row.episode_id, fate=Fate.WAIT, reason=str(error))


def _read_notices(
    plane: Plane, reign: Reign, messages: Iterable[Message]
) -> dict[str, list[Message]]:
    """Messages by episode; those that are no notices are given up."""
    notices: dict[str, list[Message]] = {}
    for message in messages:
        try:
            notices.setdefault(read_notice(message.data), []).append(message)
        except ValueError as error:
            named = message.msg_id and message.msg_id.isprintable()
            name = message.msg_id[:128] if named else sha256_of(message.data)
            _answer(message, _give_up(plane, reign, name, str(error)))
    return notices


def _give_up(plane: Plane, reign: Reign, episode_id: str, reason: str) -> Verdict:
    plane.catalog.dead_letter(episode_id[:128], reason, "coordinator", token=reign.token)
    log.warning("dead letter episode=%s reason=%s", episode_id, reason)
    return Verdict(episode_id=episode_id, fate=Fate.DEAD, reason=reason)


def _answer(message: Message, verdict: Verdict) -> None:
    """Tell the queue; if that fails the notice comes again and changes nothing."""
    try:
        if verdict.fate is Fate.WAIT:
            log.info("episode=%s waits reason=%s", verdict.episode_id, verdict.reason)
            message.nak(RETRY_S)
        elif verdict.fate is Fate.DEAD:
            message.term()
        else:
            message.ack()
    except ServiceError as error:
        log.debug("acknowledgement lost reason=%s", error)
