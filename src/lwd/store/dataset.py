"""Episodes and the snapshots that they make up: statements of `lwd.store.catalog`.

An episode waits (a row of `waiting`) from its insertion until it is a member of a snapshot or a
dead letter, so that finding what waits costs the same however large the catalog is.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
)

from lwd.errors import ConflictError, IntegrityError, unknown
from lwd.store import outbox, pointers
from lwd.store.amendments import pending_of_members, take_effect
from lwd.store.engine import in_parts, insert_all_new, insert_new
from lwd.store.rows import EpisodeRow
from lwd.store.schema import availability, dead_letters, episodes, members, snapshots, waiting


class DeadLetter(NamedTuple):
    """An episode that no retry can save, and why."""

    episode_id: str
    reason: str
    where: str
    at: float


def insert_episode(connection: Connection, row: EpisodeRow) -> bool:
    """Catalogue an episode and announce it; False if the same was there, else ConflictError."""
    if insert_new(connection, episodes, asdict(row)):
        values = {"episode_id": row.episode_id, "inserted_at": row.inserted_at}
        connection.execute(insert(waiting).values(**values))
        notice = {"episode_id": row.episode_id, "sha256": row.sha256}
        outbox.announce(connection, row.episode_id, notice)
        return True
    query = select(episodes.c.sha256).where(episodes.c.episode_id == row.episode_id)
    known = connection.execute(query).scalar_one()
    if known != row.sha256:
        raise ConflictError(
            f"Episode {row.episode_id} is already catalogued with sha256 {known}; this payload "
            f"has {row.sha256}. An id is never used twice: give the new episode its own."
        )
    return False


def commit_snapshot(
    connection: Connection, episode_ids: Sequence[str], *, token: int, now: float
) -> int:
    """Version that holds these episodes and every amendment of members; a new one if need be."""
    version = pointers.lock(connection, pointers.SNAPSHOT)
    wanted = sorted(set(episode_ids))
    new = sorted(set(wanted) - _known(connection, members, wanted))
    if not new and not pending_of_members(connection):
        return version
    missing = set(new) - _known(connection, episodes, new)
    if missing:
        raise IntegrityError(f"Episodes {sorted(missing)} are not in the catalog.")
    version += 1
    values = {"version": version, "added": len(new), "token": token, "committed_at": now}
    connection.execute(insert(snapshots).values(**values))
    if new:
        joining = [{"episode_id": e, "version": version} for e in new]
        connection.execute(insert(members), joining)
    take_effect(connection, pending_of_members(connection), version)
    _settle(connection, new)
    pointers.move(connection, pointers.SNAPSHOT, version)
    return version


def unsnapshotted(
    connection: Connection, limit: int, *, before: float, now: float, after: EpisodeRow | None
) -> list[EpisodeRow]:
    """Oldest episodes inserted until `before` that neither joined nor are dead letters, of those
    that come `after` one.

    One from the future was inserted by a process with another clock: nobody knows its age.
    """
    c = waiting.c
    others = [column for column in episodes.c if column is not episodes.c.inserted_at]
    query = select(*others, c.inserted_at).join(waiting, c.episode_id == episodes.c.episode_id)
    query = query.where(or_(c.inserted_at <= before, c.inserted_at > now))
    if after is not None:
        place = tuple_(c.inserted_at, c.episode_id)
        query = query.where(place > (after.inserted_at, after.episode_id))
    return rows_of(connection, query.order_by(c.inserted_at, c.episode_id).limit(limit))


def count_unsnapshotted(connection: Connection) -> int:
    """Number of episodes that neither joined nor are dead letters."""
    return connection.execute(select(func.count()).select_from(waiting)).scalar_one()


def snapshot_sizes(connection: Connection, version: int, after: int) -> list[tuple[int, int]]:
    """Versions in (after, version], oldest first, each with how many episodes joined in it."""
    c = snapshots.c
    query = select(c.version, c.added).where(c.version > after, c.version <= version)
    return [(row.version, row.added) for row in connection.execute(query.order_by(c.version))]


def member_counts(connection: Connection) -> dict[int, int]:
    """Version to the number of episodes that joined in it, counted."""
    c = members.c
    query = select(c.version, func.count()).group_by(c.version)
    return {version: joined for version, joined in connection.execute(query)}


def hashes(connection: Connection) -> set[str]:
    """Of the payloads of all catalogued episodes."""
    return set(connection.execute(select(episodes.c.sha256)).scalars())


def snapshot_of(connection: Connection, episode_id: str) -> int | None:
    """Version in which the episode joined."""
    query = select(members.c.version).where(members.c.episode_id == episode_id)
    return connection.execute(query).scalar()


def find(connection: Connection, episode_id: str) -> EpisodeRow | None:
    """The catalogued row."""
    rows = rows_of(connection, select(episodes).where(episodes.c.episode_id == episode_id))
    return rows[0] if rows else None


def find_all(connection: Connection, episode_ids: Sequence[str]) -> list[EpisodeRow]:
    """The catalogued rows of these episodes; they fit one IN list."""
    query = select(episodes).where(episodes.c.episode_id.in_(episode_ids))
    return rows_of(connection, query.order_by(episodes.c.episode_id))


def rows_of(connection: Connection, query: Select[Any]) -> list[EpisodeRow]:
    """Result of a query for whole rows of episodes."""
    return [EpisodeRow(**row._mapping) for row in connection.execute(query)]


def count(connection: Connection, filters: dict[str, Any]) -> int:
    """Number of episodes whose columns equal the filters."""
    query = _filtered(select(func.count()).select_from(episodes), filters)
    return connection.execute(query).scalar_one()


def newest(connection: Connection, filters: dict[str, Any], limit: int) -> list[EpisodeRow]:
    """The last catalogued episodes whose columns equal the filters, as recorded, newest first."""
    c = episodes.c
    query = _filtered(select(episodes), filters).order_by(c.inserted_at.desc(), c.episode_id)
    return rows_of(connection, query.limit(limit))


def _filtered(query: Select[Any], filters: dict[str, Any]) -> Select[Any]:
    for name, value in filters.items():
        if name not in episodes.c:
            raise unknown("column of episodes", name, episodes.c.keys())
        query = query.where(episodes.c[name] == value)
    return query


def give_up(connection: Connection, letter: DeadLetter) -> None:
    """Make an episode a dead letter; the first reason stays."""
    values = {"episode_id": letter.episode_id, "reason": letter.reason}
    insert_new(connection, dead_letters, values | {"stage": letter.where, "at": letter.at})
    _settle(connection, [letter.episode_id])


def revive(connection: Connection, episode_id: str, now: float) -> bool:
    """Let a dead letter wait again, as if it came now; False if it is none, or no episode."""
    row = find(connection, episode_id)
    letter = dead_letters.c.episode_id == episode_id
    if row is None or not connection.execute(delete(dead_letters).where(letter)).rowcount:
        return False
    if snapshot_of(connection, episode_id) is None:
        insert_new(connection, waiting, {"episode_id": episode_id, "inserted_at": now})
    return True


def every_dead_letter(connection: Connection) -> list[DeadLetter]:
    """All given-up episodes, oldest first."""
    c = dead_letters.c
    query = select(c.episode_id, c.reason, c.stage, c.at).order_by(c.at, c.episode_id)
    return [DeadLetter(*row) for row in connection.execute(query)]


def record_available(
    connection: Connection, episode_ids: Sequence[str], reader: str, at: float
) -> None:
    """A learner can sample the episodes since `at`; the first time stays."""
    rows = [{"episode_id": episode_id, "reader": reader, "at": at} for episode_id in episode_ids]
    insert_all_new(connection, availability, rows)


def first_available(connection: Connection) -> dict[str, float]:
    """Episode to the UTC second at which the first learner could sample it."""
    c = availability.c
    query = select(c.episode_id, func.min(c.at)).group_by(c.episode_id)
    return {episode: at for episode, at in connection.execute(query)}


def _known(connection: Connection, table: Table, ids: Sequence[str]) -> set[str]:
    """Which of the episode ids the table has."""
    column = table.c.episode_id
    query = select(column).where(column.in_(bindparam("ids", expanding=True)))
    return {
        found
        for part in in_parts(ids)
        for found in connection.execute(query, {"ids": part}).scalars()
    }


def _settle(connection: Connection, episode_ids: Sequence[str]) -> None:
    """These episodes wait no more."""
    for part in in_parts(episode_ids):
        connection.execute(delete(waiting).where(waiting.c.episode_id.in_(part)))
