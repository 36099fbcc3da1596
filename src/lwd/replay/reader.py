"""The learner's view of the data: one agreed snapshot, loaded, and the batches drawn from it."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from lwd.episode.labels import relabelled
from lwd.episode.payload import decode
from lwd.episode.trace import happened, traced
from lwd.episode.types import Episode, Outcome
from lwd.episode.windows import chunks
from lwd.errors import ConfigError, ConflictError, EpisodeError, ServiceError, unknown
from lwd.replay.batch import Batch, Chunks, PartSize
from lwd.replay.cache import Cache, local_path
from lwd.replay.images import ImageReader
from lwd.replay.memory import EMPTY, PARTS, Memory, View
from lwd.replay.options import USUAL, Options
from lwd.replay.order import Order, trained_on
from lwd.replay.prefetch import Settings
from lwd.replay.priorities import LAG, Priorities
from lwd.replay.sampler import EVEN, NStep, Sampling, draw, gather
from lwd.replay.supervisor import Inline, Subprocess
from lwd.store import metrics
from lwd.store.catalog import Catalog
from lwd.store.history import Entry
from lwd.store.objects import Objects
from lwd.store.rows import EpisodeRow

__all__ = ["Options", "Reader"]

log = logging.getLogger(__name__)

_COMPLAIN_S = 30.0
"""Time after which a missing payload is worth a warning, and the next one."""


class Reader:
    """Distributed-replay-buffer reader of one host (-D).

    Hosts that share `seed` and agree on a version through `barrier` (which gives the smallest of
    the versions that they pass) draw disjoint parts of one global batch.
    """

    def __init__(  # noqa: PLR0913
        self,
        catalog: Catalog,
        objects: Objects,
        cache_dir: Path,
        *,
        horizon: int,
        discount: float,
        n_step: NStep = 1,
        host: int = 0,
        hosts: int = 1,
        seed: int = 0,
        barrier: Callable[[int], int] = lambda version: version,
        options: Options = USUAL,
        clock: Callable[[], float] = time.time,
    ):
        """`horizon` in ticks, `discount` per tick, `n_step` in chunks, for all tasks or by task."""
        if not 0 <= host < hosts:
            raise ConfigError(f"Host {host} of {hosts}: hosts count from 0 to {hosts - 1}.")
        if options.prefetcher and objects.url.startswith("memory:"):
            raise ConfigError(f"{objects.url} is not seen by a prefetcher; turn that option off.")
        self.version = 0
        self._catalog, self._objects, self._cache = catalog, objects, cache_dir
        self._horizon, self._discount, self._n_step = horizon, discount, n_step
        self._host, self._hosts, self._seed, self._barrier = host, hosts, seed, barrier
        self._options, self._clock = options, clock
        self._memory = Memory(
            horizon=horizon,
            discount=discount,
            single_source=options.single_source,
            bootstrap_timeouts=options.bootstrap_timeouts,
            cameras=options.cameras,
        )
        self._view = EMPTY
        self._priorities = Priorities(self._memory)
        self._drawn: dict[int, np.ndarray] = {}
        self._order, self._floor = Order(), 0
        self._views: deque[tuple[int, View]] = deque()
        self._announced = 0
        self._used: set[str] = set()
        self._awaited, self._awaited_since = "", 0.0
        settings = Settings(
            catalog_url=catalog.url,
            objects_url=objects.url,
            cache_dir=str(cache_dir),
            cache_bytes=options.cache_bytes,
        )
        self._prefetch = Subprocess(settings) if options.prefetcher else Inline(objects, settings)
        self._payload: dict[str, str] = {}
        self._images = ImageReader(
            objects,
            Cache(cache_dir, options.cache_bytes),
            size=options.image_size,
            workers=options.image_workers,
            ahead=lambda: {row.sha256 for row in self._order.rows[self._order.loaded :]},
        )

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the prefetcher and the decoders."""
        self._prefetch.close()
        self._images.close()

    def load(self, within_s: float = math.inf) -> None:
        """Take in what has arrived, for about so long; what is bound stays as it is.

        A learner that calls it between updates has little left to do when it binds. One episode is
        taken in at least, so that a short time slows but never stops.
        """
        until = self._clock() + within_s
        self._learn_of_new()
        self._prefetch.step(self._order.rows, self._order.loaded)
        self._note_completed()
        while (entry := self._order.next_entry()) is not None and self._take(entry):
            self._order.advance()
            self._note_completed()
            if self._clock() >= until:
                break
        self._prefetch.progress(self._order.position)
        self._complain()

    def sync(self, *, at_most: int | None = None, within_s: float = math.inf) -> int:
        """Load what has arrived and bind the newest version that every host has in full.

        Cheap when nothing is new. `at_most` stops at an older version: a resumed run that binds
        what it had bound draws the same batches. `within_s` leaves the rest to the next time. All
        hosts must call this equally often. While the catalog is away, the bound version stays.
        """
        self.load(within_s)
        local = self._views[-1][0] if self._views else self.version
        if at_most is not None:
            if at_most < self._floor:
                raise ConflictError(
                    f"Snapshot {at_most} was given up: the oldest that is retained is "
                    f"{self._floor}. Start from there, or from a newer checkpoint."
                )
            known = [version for version, _ in self._views if version <= at_most]
            local = max([self.version, *known])
        self._bind(self._barrier(local))
        return self.version

    def sample(
        self,
        update: int,
        mixture: Mapping[str, float],
        batch: int,
        *,
        n_step: NStep | None = None,
        sampling: Sampling = EVEN,
    ) -> Batch:
        """This host's share of the global `batch` of an update, in the bound snapshot.

        Depends only on (seed, update, host), the bound version, the arguments and, if it is
        adaptive, what `feedback` said. The hosts' shares, one after another, are the batch that a
        single host would draw. `mixture` weighs the parts (`lwd.replay.memory.PARTS`):
        {"offline": 0.5, "online": 0.5} is the paper's.
        """
        if batch % self._hosts:
            raise ConfigError(f"A batch of {batch} does not divide among {self._hosts} hosts.")
        start = draw(
            self._memory,
            self._view,
            mixture,
            batch,
            seed=(self._seed, update),
            task_balanced=sampling.task_balanced,
            odds=self._priorities.odds(update, self._view, sampling.loss_adaptive),
        )
        self._drawn[update] = start
        self._drawn.pop(update - 2 * LAG, None)
        share = batch // self._hosts
        mine = start[self._host * share : (self._host + 1) * share]
        found = self._gather(mine, self._n_step if n_step is None else n_step)
        self._trace(found, update)
        return found

    def _trace(self, batch: Batch, update: int) -> None:
        """The last span of an episode's trace: the first update that uses it."""
        if not traced():
            return
        now = self._clock()
        for episode_id in {*batch.episode.tolist()} - self._used:
            self._used.add(episode_id)
            happened("update", episode_id, now, now, update=update, snapshot=self.version)

    def feedback(self, update: int, loss: np.ndarray) -> None:
        """TD losses [global batch] of an update, for draws that adapt to them. Every host must say
        the same, before its draw for `update + LAG`."""
        if update not in self._drawn:
            raise ConfigError(
                f"Update {update} was not drawn lately; losses can be given of {[*self._drawn]}."
            )
        self._priorities.note(update, self._memory.owner.rows[self._drawn[update]], loss)

    def priorities(self) -> dict[str, np.ndarray]:
        """What `feedback` said, for a checkpoint."""
        return self._priorities.tensors(self._view)

    def restore_priorities(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Inverse of `priorities`, once the snapshot of the checkpoint is bound again."""
        self._priorities.restore(tensors, self._view)

    def transitions(self, part: str, *, batch: int = 4096) -> Iterator[Batch]:
        """All one-chunk transitions of a part in a fixed order, `batch` at a time."""
        rows = self._starts(part)
        for first in range(0, len(rows), batch):
            yield self._gather(rows[first : first + batch], 1)

    def acted(self, version: int) -> int:
        """Episodes in the bound snapshot in which a policy of this version or a newer one acted."""
        versions = self._memory.policy_version.rows[: self._view.episodes]
        return int(np.count_nonzero(self._stays() & (versions >= version)))

    def episodes(self) -> list[str]:
        """Ids of the episodes in the bound snapshot that a batch may be drawn from."""
        return self._memory.episode.rows[: self._view.episodes][self._stays()].tolist()

    def rates(self) -> dict[float, int]:
        """Control rates (Hz) of the episodes in the bound snapshot, and how many have each."""
        rates = self._memory.rate_hz.rows[: self._view.episodes][self._stays()]
        found, counts = np.unique(rates, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    def statistics(self) -> dict[str, PartSize]:
        """Size of every part in the bound snapshot; held-out and invalid episodes are in none."""
        sizes = {}
        for part in PARTS:
            tasks = {task: n for (p, task), n in sorted(self._view.ticks.items()) if p == part}
            episodes = sum(n for (p, _), n in self._view.counts.items() if p == part)
            sizes[part] = PartSize(episodes, sum(tasks.values()), tasks)
        return sizes

    def returns(self, parts: Iterable[str]) -> tuple[float, float]:
        """Lowest and highest discounted reward that follows a start tick of these parts; 0 and 0
        where they have none."""
        found = [self._memory.to_go.rows[self._starts(part)] for part in parts]
        values = np.concatenate(found) if any(map(len, found)) else np.zeros(1)
        return float(values.min()), float(values.max())

    def windows(self, part: str, *, limit: int = 100_000) -> Chunks:
        """At most `limit` windows of a part, evenly spread over all of its start ticks."""
        rows = self._starts(part)
        if len(rows) > limit:
            rows = rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
        return self._chunks(rows)

    def every_window(self, part: str, *, batch: int = 4096) -> Iterator[Chunks]:
        """All windows of a part in a fixed order, `batch` at a time."""
        rows = self._starts(part)
        for first in range(0, len(rows), batch):
            yield self._chunks(rows[first : first + batch])

    def _gather(self, start: np.ndarray, n_step: NStep) -> Batch:
        """The windows from rows `start`, with images if there are cameras."""
        batch = gather(
            self._memory, start, horizon=self._horizon, n_step=n_step, discount=self._discount
        )
        if not self._options.cameras:
            return batch
        payloads = [self._payload[episode] for episode in batch.episode]
        now, later = self._images.read(
            payloads, (batch.tick, batch.next_tick), self._options.cameras
        )
        return batch._replace(images=now, next_images=later)

    def _starts(self, part: str) -> np.ndarray:
        if part not in PARTS:
            raise unknown("replay part", part, PARTS)
        pools = sorted(pool for pool in self._view.ticks if pool[0] == part)
        rows = [
            self._memory.starts(pool, self._view.ticks[pool], self._view.holes.get(pool, ()))
            for pool in pools
        ]
        return np.concatenate(rows) if rows else np.empty(0, np.int64)

    def _chunks(self, rows: np.ndarray) -> Chunks:
        memory = self._memory
        last = memory.last.rows[memory.owner.rows[rows]]
        action, mask = chunks(memory.action.rows, rows, last, self._horizon)
        return Chunks(memory.state.rows[rows], action, mask)

    def _stays(self) -> np.ndarray:
        """[episodes] bool: which of the loaded episodes are in the bound snapshot."""
        stays = np.ones(self._view.episodes, bool)
        stays[list(self._view.gone)] = False
        return stays

    def _learn_of_new(self) -> None:
        try:
            newest, known = self._catalog.snapshot_version(), self._order.version
            if newest > known:
                entries = self._catalog.snapshot_log(newest, after=known)
                # Read after the log: what the log does not mention was given up before.
                self._floor = self._catalog.retained()
                self._order.extend(newest, entries, floor=self._floor)
        except ServiceError as error:
            log.warning("catalog away version=%d reason=%s", self.version, error)

    def _note_completed(self) -> None:
        for version in self._order.completed():
            self._views.append((version, self._memory.view()))

    def _take(self, entry: Entry) -> bool:
        """Let the next episode in or out, as soon as its payload is here; False to wait for it.

        What the coordinator let through but is no usable episode is passed over, by every host
        alike, since every host sees the same bytes.
        """
        row = entry.row
        if not (entry.present and trained_on(row)):
            self._memory.remove(row.episode_id)
            return True
        path = local_path(self._cache, row.sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        if sha256(data).hexdigest() != row.sha256:
            log.error("damaged cache file removed episode=%s path=%s", row.episode_id, path)
            metrics.DAMAGED.add()
            path.unlink(missing_ok=True)
            self._prefetch.damaged(row.sha256)
            return False
        try:
            episode = _checked(row, decode(data, images=bool(self._options.cameras)))
            self._memory.append(relabelled(episode, entry.labels))
            self._payload[row.episode_id] = row.sha256
        except EpisodeError as error:
            log.error("unusable episode=%s reason=%s", row.episode_id, error)
            self._give_up(row, str(error))
        return True

    def _give_up(self, row: EpisodeRow, reason: str) -> None:
        try:
            self._catalog.dead_letter(row.episode_id, reason, "reader")
        except ServiceError as error:
            log.warning("dead letter not recorded episode=%s reason=%s", row.episode_id, error)

    def _complain(self) -> None:
        """Say what keeps the data set from growing, every now and then."""
        entry, now = self._order.next_entry(), self._clock()
        row = entry.row if entry else None
        awaited = row.episode_id if row else ""
        if awaited != self._awaited:
            self._awaited, self._awaited_since = awaited, now
        elif row and now - self._awaited_since >= _COMPLAIN_S:
            self._awaited_since = now
            log.warning("payload is late episode=%s sha256=%s", row.episode_id, row.sha256)

    def _bind(self, version: int) -> None:
        if version < self.version:
            raise ConflictError(
                f"A host offers snapshot {version}, but {self.version} was agreed on before. A "
                "restarted host cannot join a running group: restart all hosts from a checkpoint."
            )
        if version == self.version:
            return
        while self._views and self._views[0][0] <= version:
            self.version, self._view = self._views.popleft()
        log.info("bound version=%d episodes=%d", self.version, self._view.episodes)
        self._announce()

    def _announce(self) -> None:
        """Host 0 tells the catalog since when each episode can be sampled."""
        ids = self._memory.episode.rows[self._announced : self._view.episodes].tolist()
        if self._host or not ids:
            return
        try:
            self._catalog.record_available(ids, f"host-{self._host}", self._clock())
            self._announced = self._view.episodes
        except ServiceError as error:
            log.warning("availability not recorded episodes=%d reason=%s", len(ids), error)


def _checked(row: EpisodeRow, episode: Episode) -> Episode:
    """The episode, if it is the one that the catalog speaks of."""
    header = episode.header
    if header.outcome is Outcome.INVALID:
        raise EpisodeError(
            f"The payload says that episode {header.episode_id} is invalid; its row says "
            f"{row.outcome}."
        )
    if (header.episode_id, header.held_out) != (row.episode_id, row.held_out):
        raise EpisodeError(
            f"The payload says episode {header.episode_id}, held_out={header.held_out}; its row "
            f"says {row.episode_id}, held_out={row.held_out}."
        )
    return episode
