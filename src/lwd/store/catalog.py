"""The catalog: the one source of truth about episodes, snapshots, weights and who acts with what.

Every method is one transaction. It either happened, for everybody and for good, or it did not:
callers may be killed anywhere and call again.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from lwd.errors import ConflictError, IntegrityError, unknown
from lwd.store import schema as t
from lwd.store.engine import open_engine, transaction
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow

EPISODES = "lwd.episodes"
"""Subject of the notices about new episodes."""
WEIGHTS = "lwd.weights"
"""Subject of the notices about newly published weights."""
COORDINATOR = "coordinator"
"""Lease whose token fences snapshot commits."""
CHUNK = 400
"""Values in one IN list; SQLite's oldest limit is 999."""


class Notice(NamedTuple):
    """An outbox row that waits for the queue."""

    outbox_id: int
    key: str
    """Episode id, or `weights-<version>`; the queue drops a second one with the same key."""
    payload: str
    """JSON."""
    subject: str


class DeadLetter(NamedTuple):
    """An episode that no retry can save, and why."""

    episode_id: str
    reason: str
    where: str
    at: float


class Catalog:
    """A catalog at a SQLAlchemy URL (SQLite file or PostgreSQL), safe to share between threads."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time):
        """Open, and create or migrate when needed. ServiceError says what is in the way."""
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
        values = asdict(replace(row, inserted_at=self._clock()))
        with self._write() as connection:
            if self._insert_new(connection, t.episodes, values):
                notice = {"episode_id": row.episode_id, "sha256": row.sha256}
                _announce(connection, EPISODES, row.episode_id, notice)
                return True
            query = select(t.episodes.c.sha256).where(t.episodes.c.episode_id == row.episode_id)
            known = connection.execute(query).scalar_one()
        if known != row.sha256:
            raise ConflictError(
                f"Episode {row.episode_id} is already catalogued with sha256 {known}; this payload "
                f"has {row.sha256}. An id is never used twice: give the new episode its own."
            )
        return False

    def unpublished(self, limit: int = 256) -> list[Notice]:
        """Oldest outbox rows whose notice the queue has not acknowledged."""
        c = t.outbox.c
        query = select(c.outbox_id, c.key, c.payload, c.subject)
        query = query.order_by(c.outbox_id).limit(limit)
        with self._read() as connection:
            return [Notice(*row) for row in connection.execute(query)]

    def mark_published(self, ids: Sequence[int]) -> None:
        """The queue has these notices safely: they leave the outbox."""
        with self._write() as connection:
            for part in _parts(ids):
                connection.execute(delete(t.outbox).where(t.outbox.c.outbox_id.in_(part)))

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        """Fencing token if the lease is free, expired, or already this holder's; else None.

        Each success gives a higher token and so makes all earlier ones stale.
        """
        now = self._clock()
        with self._write() as connection:
            first = {"name": name, "holder": "", "token": 0, "expires_at": 0.0}
            self._insert_new(connection, t.leases, first)
            query = select(t.leases).where(t.leases.c.name == name).with_for_update()
            lease = connection.execute(query).one()
            if lease.expires_at > now and lease.holder != holder:
                return None
            _set_lease(connection, name, holder, lease.token + 1, now + ttl_s)
            return lease.token + 1

    def renew_lease(self, name: str, holder: str, token: int, ttl_s: float) -> bool:
        """Extend a lease; False if somebody else has taken it meanwhile.

        A `ttl_s` of 0 gives it back.
        """
        with self._write() as connection:
            query = select(t.leases).where(t.leases.c.name == name).with_for_update()
            lease = connection.execute(query).one_or_none()
            if lease is None or (lease.holder, lease.token) != (holder, token):
                return False
            _set_lease(connection, name, holder, token, self._clock() + ttl_s)
            return True

    def commit_snapshot(self, episode_ids: Sequence[str], *, token: int) -> int:
        """Version of the data set that holds these episodes: a new one, if any of them is new.

        Ids that are in a snapshot already are ignored. ConflictError if `token` is not the newest
        of the coordinator's lease; IntegrityError if an id is not in the catalog.
        """
        with self._write() as connection:
            _check_token(connection, token)
            version = _lock_pointer(connection, "snapshot")
            wanted = sorted(set(episode_ids))
            new = sorted(set(wanted) - _known(connection, t.members, wanted))
            if not new:
                return version
            missing = set(new) - _known(connection, t.episodes, new)
            if missing:
                raise IntegrityError(f"Episodes {sorted(missing)} are not in the catalog.")
            version += 1
            values = {"version": version, "added": len(new), "token": token}
            connection.execute(insert(t.snapshots).values(**values, committed_at=self._clock()))
            rows = [{"episode_id": episode, "version": version} for episode in new]
            connection.execute(insert(t.members), rows)
            _move_pointer(connection, "snapshot", version)
            return version

    def unsnapshotted(self, limit: int, older_than_s: float = 0.0) -> list[EpisodeRow]:
        """Oldest catalogued episodes that are neither in a snapshot nor a dead letter."""
        query = (
            select(t.episodes)
            .outerjoin(t.members, t.members.c.episode_id == t.episodes.c.episode_id)
            .outerjoin(t.dead_letters, t.dead_letters.c.episode_id == t.episodes.c.episode_id)
            .where(t.members.c.episode_id.is_(None), t.dead_letters.c.episode_id.is_(None))
            .where(t.episodes.c.inserted_at <= self._clock() - older_than_s)
            .order_by(t.episodes.c.inserted_at, t.episodes.c.episode_id)
            .limit(limit)
        )
        return self._episodes(query)

    def snapshot_version(self) -> int:
        """Newest version of the data set; 0 while it is empty."""
        with self._read() as connection:
            return _pointer(connection, "snapshot")

    def snapshot_episodes(self, version: int, *, after: int = 0) -> list[EpisodeRow]:
        """Episodes that joined in versions (after, version], ordered by (version, episode id).

        With `after` = 0 that is the whole data set of `version`, for ever the same.
        """
        query = (
            select(t.episodes)
            .join(t.members, t.members.c.episode_id == t.episodes.c.episode_id)
            .where(t.members.c.version > after, t.members.c.version <= version)
            .order_by(t.members.c.version, t.members.c.episode_id)
        )
        return self._episodes(query)

    def snapshot_sizes(self, version: int, *, after: int = 0) -> list[tuple[int, int]]:
        """Versions in (after, version], oldest first, each with how many episodes joined in it."""
        c = t.snapshots.c
        query = select(c.version, c.added).where(c.version > after, c.version <= version)
        with self._read() as connection:
            return [
                (row.version, row.added) for row in connection.execute(query.order_by(c.version))
            ]

    def snapshot_of(self, episode_id: str) -> int | None:
        """Version in which the episode joined the data set, None while it has not."""
        query = select(t.members.c.version).where(t.members.c.episode_id == episode_id)
        with self._read() as connection:
            return connection.execute(query).scalar()

    def episode(self, episode_id: str) -> EpisodeRow | None:
        """The catalogued row."""
        rows = self._episodes(select(t.episodes).where(t.episodes.c.episode_id == episode_id))
        return rows[0] if rows else None

    def count_episodes(self, **filters: Any) -> int:
        """Number of catalogued episodes whose columns equal the filters: `task="make_tea"`."""
        query = select(func.count()).select_from(t.episodes)
        for name, value in filters.items():
            if name not in t.episodes.c:
                raise unknown("column of episodes", name, t.episodes.c.keys())
            query = query.where(t.episodes.c[name] == value)
        with self._read() as connection:
            return connection.execute(query).scalar_one()

    def publish_weights(self, row: WeightsRow) -> WeightsRow:
        """Make an artifact that is whole in the object store the newest policy.

        `version` and `published_at` are chosen here. The same artifact at the same stage and update
        as the newest one is a repeat, and gives the newest row again.
        """
        with self._write() as connection:
            version = _lock_pointer(connection, "weights")
            newest = _weights_row(connection, version)
            if newest and _same_publication(newest, row):
                return newest
            row = replace(row, version=version + 1, published_at=self._clock())
            connection.execute(insert(t.weights).values(**asdict(row)))
            _move_pointer(connection, "weights", row.version)
            _announce(connection, WEIGHTS, f"weights-{row.version}", asdict(row))
            return row

    def latest_weights(self) -> WeightsRow | None:
        """The policy that robots should act with; None before the first publication."""
        with self._read() as connection:
            return _weights_row(connection, _pointer(connection, "weights"))

    def weights(self, version: int) -> WeightsRow | None:
        """A published policy by version."""
        with self._read() as connection:
            return _weights_row(connection, version)

    def list_weights(self) -> list[WeightsRow]:
        """All published policies, oldest first."""
        with self._read() as connection:
            rows = connection.execute(select(t.weights).order_by(t.weights.c.version))
            return [WeightsRow(**row._mapping) for row in rows]

    def report_load(self, row: LoadRow) -> None:
        """A robot acts with a version from now on; the same report again changes nothing."""
        with self._write() as connection:
            self._insert_new(connection, t.loads, asdict(row))

    def loads(self) -> list[LoadRow]:
        """All reports, oldest first."""
        c = t.loads.c
        query = select(c.robot, c.version, c.loaded_at).order_by(c.loaded_at, c.robot)
        with self._read() as connection:
            return [LoadRow(**row._mapping) for row in connection.execute(query)]

    def acting(self) -> dict[str, int]:
        """Robot to the version that it reported last."""
        c = t.loads.c
        last = select(c.robot, func.max(c.loaded_at).label("at")).group_by(c.robot).subquery()
        query = select(c.robot, c.version).join(
            last, (last.c.robot == c.robot) & (last.c.at == c.loaded_at)
        )
        with self._read() as connection:
            return {robot: version for robot, version in connection.execute(query)}

    def dead_letter(self, episode_id: str, reason: str, where: str) -> None:
        """Give an episode up; the first reason stays."""
        values = {"episode_id": episode_id, "reason": reason, "stage": where, "at": self._clock()}
        with self._write() as connection:
            self._insert_new(connection, t.dead_letters, values)

    def dead_letters(self) -> list[DeadLetter]:
        """All given-up episodes, oldest first."""
        c = t.dead_letters.c
        query = select(c.episode_id, c.reason, c.stage, c.at).order_by(c.at, c.episode_id)
        with self._read() as connection:
            return [DeadLetter(*row) for row in connection.execute(query)]

    def record_available(self, episode_id: str | Sequence[str], reader: str, at: float) -> None:
        """A learner can sample the episode (or all of these) since `at` (UTC seconds).

        The first time stays.
        """
        ids = [episode_id] if isinstance(episode_id, str) else episode_id
        with self._write() as connection:
            for one in ids:
                values = {"episode_id": one, "reader": reader, "at": at}
                self._insert_new(connection, t.availability, values)

    def availability(self) -> dict[str, float]:
        """Episode to the UTC second at which the first learner could sample it."""
        c = t.availability.c
        query = select(c.episode_id, func.min(c.at)).group_by(c.episode_id)
        with self._read() as connection:
            return {episode: at for episode, at in connection.execute(query)}

    def backlog(self) -> int:
        """Notices that the queue has not acknowledged."""
        query = select(func.count()).select_from(t.outbox)
        with self._read() as connection:
            return connection.execute(query).scalar_one()

    def _read(self):
        return transaction(self._engine, write=False)

    def _write(self):
        return transaction(self._engine, write=True)

    def _episodes(self, query: Any) -> list[EpisodeRow]:
        with self._read() as connection:
            return [EpisodeRow(**row._mapping) for row in connection.execute(query)]

    def _insert_new(self, connection: Connection, table: Table, values: dict[str, Any]) -> bool:
        """Insert unless a row with the same key is there; whether it was inserted."""
        build = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        key = next(iter(table.primary_key))
        query = build(table).values(**values).on_conflict_do_nothing().returning(key)
        return connection.execute(query).first() is not None


def _parts(values: Iterable[Any]) -> Iterable[list[Any]]:
    every = list(values)
    return (every[i : i + CHUNK] for i in range(0, len(every), CHUNK))


def _known(connection: Connection, table: Table, ids: Sequence[str]) -> set[str]:
    """Which of the episode ids the table has."""
    column = table.c.episode_id
    query = select(column).where(column.in_(bindparam("ids", expanding=True)))
    return {
        found
        for part in _parts(ids)
        for found in connection.execute(query, {"ids": part}).scalars()
    }


def _announce(connection: Connection, subject: str, key: str, notice: dict[str, Any]) -> None:
    values = {"subject": subject, "key": key, "payload": json.dumps(notice)}
    connection.execute(insert(t.outbox).values(**values))


def _set_lease(connection: Connection, name: str, holder: str, token: int, until: float) -> None:
    query = update(t.leases).where(t.leases.c.name == name)
    connection.execute(query.values(holder=holder, token=token, expires_at=until))


def _check_token(connection: Connection, token: int) -> None:
    query = select(t.leases.c.token).where(t.leases.c.name == COORDINATOR).with_for_update()
    newest = connection.execute(query).scalar()
    if newest != token:
        raise ConflictError(
            f"Fencing token {token} is stale: the newest is {newest}. Another coordinator took "
            "over; this one must stop committing and acquire the lease again."
        )


def _pointer(connection: Connection, name: str) -> int:
    query = select(t.pointers.c.version).where(t.pointers.c.name == name)
    return connection.execute(query).scalar_one()


def _lock_pointer(connection: Connection, name: str) -> int:
    """Read a pointer that nobody else can move before this transaction ends."""
    query = select(t.pointers.c.version).where(t.pointers.c.name == name).with_for_update()
    return connection.execute(query).scalar_one()


def _move_pointer(connection: Connection, name: str, version: int) -> None:
    query = update(t.pointers).where(t.pointers.c.name == name)
    connection.execute(query.values(version=version))


def _weights_row(connection: Connection, version: int) -> WeightsRow | None:
    row = connection.execute(select(t.weights).where(t.weights.c.version == version)).one_or_none()
    return WeightsRow(**row._mapping) if row else None


def _same_publication(known: WeightsRow, row: WeightsRow) -> bool:
    return (known.sha256, known.stage, known.update, known.snapshot) == (
        row.sha256,
        row.stage,
        row.update,
        row.snapshot,
    )
