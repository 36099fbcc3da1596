"""The catalog: the one source of truth about episodes, snapshots, weights and who acts with what.

Every method is one transaction. It either happened, for everybody and for good, or it did not:
callers may be killed anywhere and call again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection

from lwd.errors import MissingError
from lwd.store import amendments, dataset, handovers, history, leases, outbox, pointers, policies
from lwd.store.amendments import Amendment
from lwd.store.dataset import DeadLetter
from lwd.store.engine import transact
from lwd.store.handovers import Handover
from lwd.store.history import Difference, Entry
from lwd.store.leases import COORDINATOR, Lease
from lwd.store.migrate import open_engine
from lwd.store.outbox import EPISODES, Notice
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow

__all__ = ["COORDINATOR", "EPISODES", "Catalog", "DeadLetter", "Notice"]

T = TypeVar("T")


class Catalog:
    """A catalog in a SQLite file or on a PostgreSQL server, safe to share between threads."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time):
        """Open `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`; create or migrate it.

        The password belongs in PGPASSWORD or ~/.pgpass. ServiceError says what is in the way.
        """
        self.url = url
        self._engine = open_engine(url)
        self._clock = clock

    def close(self) -> None:
        """Close all connections of this process."""
        self._engine.dispose()

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def insert_episode(self, row: EpisodeRow) -> bool:
        """Catalogue an episode and queue its notice: True if new, False if the same was there.

        ConflictError if the id is taken by a payload with another hash.
        """
        row = replace(row, inserted_at=self._clock())
        return self._write(lambda c: dataset.insert_episode(c, row))

    def unpublished(self, limit: int = 256) -> list[Notice]:
        """Oldest outbox rows whose notice the queue has not acknowledged."""
        return self._read(lambda c: outbox.unpublished(c, limit))

    def mark_published(self, ids: Sequence[int]) -> None:
        """The queue has these notices safely: they leave the outbox."""
        self._write(lambda c: outbox.mark_published(c, ids))

    def backlog(self) -> int:
        """Notices that the queue has not acknowledged."""
        return self._read(outbox.backlog)

    def acquire_lease(
        self, name: str, holder: str, ttl_s: float, *, silent: Lease | None = None
    ) -> int | None:
        """Fencing token if the lease is free, expired, or already this holder's; else None.

        Each success gives a higher token and so makes all earlier ones stale. `silent` is the lease
        as this holder has seen it, unchanged, for longer than it lasts: then it counts as expired,
        whatever the clock of the other one says.
        """
        now = self._clock()
        return self._write(
            lambda c: leases.acquire(c, name, holder, now=now, ttl_s=ttl_s, silent=silent)
        )

    def lease(self, name: str) -> Lease | None:
        """Who has a lease, and until when by that holder's clock."""
        return self._read(lambda c: leases.read(c, name))

    def renew_lease(self, name: str, holder: str, token: int, ttl_s: float) -> bool:
        """Extend a lease; False if somebody else has taken it meanwhile.

        A `ttl_s` of 0 gives it back.
        """
        end = self._clock() + ttl_s
        return self._write(lambda c: leases.renew(c, name, holder, token=token, expires_at=end))

    def commit_snapshot(self, episode_ids: Sequence[str], *, token: int) -> int:
        """Version of the data set that holds these episodes and all amendments of members: a new
        one, if any of them is new.

        Ids that are in a snapshot already are ignored. ConflictError if `token` is not the newest
        of the coordinator's lease; IntegrityError if an id is not in the catalog.
        """
        now = self._clock()

        def _commit(connection: Connection) -> int:
            leases.check(connection, COORDINATOR, token)
            return dataset.commit_snapshot(connection, episode_ids, token=token, now=now)

        return self._write(_commit)

    def unsnapshotted(
        self, limit: int, older_than_s: float = 0.0, *, after: EpisodeRow | None = None
    ) -> list[EpisodeRow]:
        """Oldest catalogued episodes that are neither in a snapshot nor a dead letter.

        To go on with those that follow, give the last one as `after`. A dead letter that was
        revived counts as inserted then.
        """
        now = self._clock()
        before = now - older_than_s
        return self._read(
            lambda c: dataset.unsnapshotted(c, limit, before=before, now=now, after=after)
        )

    def count_unsnapshotted(self) -> int:
        """Number of catalogued episodes that are neither in a snapshot nor a dead letter."""
        return self._read(dataset.count_unsnapshotted)

    def snapshot_version(self) -> int:
        """Newest version of the data set; 0 while it is empty."""
        return self._read(lambda c: pointers.read(c, pointers.SNAPSHOT))

    def snapshot_episodes(self, version: int, *, after: int = 0) -> list[EpisodeRow]:
        """Episodes of the data set of `version`, as labelled there, that joined in versions (after,
        version], ordered by (version, episode id).

        With `after` = 0 that is the whole data set of `version`, for ever the same.
        """
        return self._read(lambda c: history.dataset_of(c, version, after))

    def snapshot_log(self, version: int, *, after: int = 0) -> list[Entry]:
        """What joined, changed and left in versions (after, version], in the order of the data set:
        with `after` = 0 all that is needed for the retained versions up to `version`."""
        return self._read(lambda c: history.log(c, version, after))

    def episode_log(self, episode_id: str) -> list[Entry]:
        """What became of one episode, version by version."""
        return self._read(lambda c: history.life(c, episode_id))

    def snapshot_difference(self, older: int, newer: int) -> Difference:
        """What joined, left and was relabelled between two versions, and who did it."""
        return self._read(lambda c: history.difference(c, older, newer))

    def amend(
        self, episode_id: str, change: str, value: str = "", *, author: str, reason: str
    ) -> int:
        """Tombstone, restore or relabel an episode from the next snapshot on; number of the entry
        in the audit trail.

        `change` is a value of `lwd.store.amendments.Change`, `value` the JSON of a relabel.
        MissingError if the episode is not in the catalog, ConfigError or EpisodeError if the change
        cannot be.
        """
        entry = Amendment(0, episode_id, change, value, author, reason, self._clock(), None)

        def _amend(connection: Connection) -> int:
            row = dataset.find(connection, episode_id)
            if row is None:
                raise MissingError(f"Episode {episode_id[:80]} is not in the catalog.")
            return amendments.amend(connection, row, entry)

        return self._write(_amend)

    def amendments(
        self, episode_id: str | None = None, *, pending: bool = False
    ) -> list[Amendment]:
        """The audit trail, oldest first: all, of one episode, or what waits for a snapshot."""
        return self._read(lambda c: amendments.trail(c, episode_id, pending=pending))

    def amended(self) -> bool:
        """Whether the next snapshot has an amendment to take in."""
        return bool(self._read(amendments.pending_of_members))

    def retained(self) -> int:
        """Oldest version that can be had; 0 while all can."""
        return self._read(history.retained)

    def retain_from(self, version: int, *, author: str, reason: str) -> int:
        """Give up the versions before `version`; the oldest that is retained now."""
        now = self._clock()
        return self._write(
            lambda c: history.retain_from(c, version, author=author, reason=reason, at=now)
        )

    def snapshot_sizes(self, version: int, *, after: int = 0) -> list[tuple[int, int]]:
        """Versions in (after, version], oldest first, each with how many episodes joined in it."""
        return self._read(lambda c: dataset.snapshot_sizes(c, version, after))

    def member_counts(self) -> dict[int, int]:
        """Version to how many episodes joined in it, counted; `snapshot_sizes` is what it says."""
        return self._read(dataset.member_counts)

    def member_versions(self, after: int = 0) -> list[tuple[int, EpisodeRow]]:
        """Everything that has ever joined after a version, as recorded, with when it joined."""
        newest = 2**31 - 1
        return self._read(lambda c: history.joined(c, newest, after))

    def snapshot_of(self, episode_id: str) -> int | None:
        """Version in which the episode joined the data set, None while it has not."""
        return self._read(lambda c: dataset.snapshot_of(c, episode_id))

    def episode(self, episode_id: str) -> EpisodeRow | None:
        """The catalogued row."""
        return self._read(lambda c: dataset.find(c, episode_id))

    def count_episodes(self, **filters: Any) -> int:
        """Number of catalogued episodes whose columns equal the filters: `task="make_tea"`."""
        return self._read(lambda c: dataset.count(c, filters))

    def newest_episodes(self, limit: int, **filters: Any) -> list[EpisodeRow]:
        """The last catalogued episodes whose columns equal the filters, newest first."""
        return self._read(lambda c: dataset.newest(c, filters, limit))

    def hashes(self) -> set[str]:
        """Of the payloads of all catalogued episodes."""
        return self._read(dataset.hashes)

    def publish_weights(self, row: WeightsRow) -> WeightsRow:
        """Make an artifact that is whole in the object store the newest policy.

        `version` and `published_at` are chosen here. The same artifact at the same stage and update
        as the newest one is a repeat, and gives the newest row again.
        """
        row = replace(row, published_at=self._clock())
        return self._write(lambda c: policies.publish(c, row))

    def latest_weights(self) -> WeightsRow | None:
        """The last policy that was published, for whomever; None before the first."""
        return self._read(policies.newest)

    def weights_for(self, robot: str) -> WeightsRow | None:
        """The newest policy that a robot is to act with; all but those for other robots' canary."""
        return self._read(lambda c: policies.newest_for(c, robot))

    def promote_weights(self, version: int, *, by: str = "") -> WeightsRow:
        """Give every robot the policy of `version`, under a new version; ends a roll-back's hold.

        `by` says who and why in the version's note. ConfigError if it was never published.
        """
        return self._write(lambda c: policies.promote(c, version, self._clock(), by))

    def roll_back_weights(self, version: int, *, by: str = "") -> WeightsRow:
        """Give every robot the policy of `version`, under a new version, and nothing that the
        learner publishes until something is promoted. ConfigError if it was never published."""
        return self._write(lambda c: policies.roll_back(c, version, self._clock(), by))

    def try_weights(self, version: int, robots: Sequence[str], *, by: str = "") -> WeightsRow:
        """Give only these robots, a canary, the policy of `version`, under a new version.

        ConfigError if it was never published.
        """
        return self._write(lambda c: policies.try_on(c, version, robots, self._clock(), by))

    def weights(self, version: int) -> WeightsRow | None:
        """A published policy by version."""
        return self._read(lambda c: policies.find(c, version))

    def list_weights(self) -> list[WeightsRow]:
        """All published policies, oldest first."""
        return self._read(policies.every)

    def report_load(self, row: LoadRow) -> None:
        """A robot acts with a version from now on; the same report again changes nothing."""
        self._write(lambda c: policies.report_load(c, row))

    def loads(self) -> list[LoadRow]:
        """All reports, oldest first."""
        return self._read(policies.every_load)

    def acting(self) -> dict[str, int]:
        """Robot to the version that it reported last."""
        return self._read(policies.acting)

    def dead_letter(
        self, episode_id: str, reason: str, where: str, *, token: int | None = None
    ) -> None:
        """Give an episode up; the first reason stays.

        With the `token` of the coordinator's lease it is ConflictError if that is not the newest,
        and a member of a snapshot is not given up.
        """
        letter = DeadLetter(episode_id, reason, where, self._clock())

        def _give_up(connection: Connection) -> None:
            if token is not None:
                leases.check(connection, COORDINATOR, token)
                if dataset.snapshot_of(connection, episode_id) is not None:
                    return
            dataset.give_up(connection, letter)

        self._write(_give_up)

    def dead_letters(self) -> list[DeadLetter]:
        """All given-up episodes, oldest first."""
        return self._read(dataset.every_dead_letter)

    def revive(self, episode_id: str) -> bool:
        """Let a dead letter wait for the coordinator again; False if it names no episode."""
        now = self._clock()
        return self._write(lambda c: dataset.revive(c, episode_id, now))

    def record_available(self, episode_id: str | Sequence[str], reader: str, at: float) -> None:
        """A learner can sample the episode (or all of these) since `at` (UTC seconds).

        The first time stays.
        """
        ids = [episode_id] if isinstance(episode_id, str) else episode_id
        self._write(lambda c: dataset.record_available(c, ids, reader, at))

    def availability(self) -> dict[str, float]:
        """Episode to the UTC second at which the first learner could sample it."""
        return self._read(dataset.first_available)

    def note_handover(self, robot: str, press: str, author: str) -> None:
        """Write down what a person has told a robot."""
        at = self._clock()
        self._write(lambda c: handovers.note(c, robot, press, author, at))

    def handovers(self, limit: int) -> list[Handover]:
        """The newest things that people have told robots, oldest first."""
        return self._read(lambda c: handovers.newest(c, limit))

    def _read(self, work: Callable[[Connection], T]) -> T:
        return transact(self._engine, work, write=False)

    def _write(self, work: Callable[[Connection], T]) -> T:
        return transact(self._engine, work, write=True)
