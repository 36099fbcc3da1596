"""What people change about members: tombstones and relabels, each with who, why and since when.

An amendment waits for the next snapshot, which takes it in with what joins. Statements of
`lwd.store.catalog`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, Select, insert, select, update

from lwd.episode.labels import FIELDS, NONE, corrected
from lwd.errors import ConfigError, unknown
from lwd.store.engine import in_parts
from lwd.store.rows import EpisodeRow
from lwd.store.schema import amendments, members


class Change(StrEnum):
    """What an amendment does to an episode, from the next snapshot on."""

    TOMBSTONE = "tombstone"
    """It leaves the data set; the versions that had it keep it."""
    LOST = "lost"
    """Its payload is gone for good: no version can give it any more."""
    RESTORE = "restore"
    """It comes back after a tombstone."""
    OUTCOME = "outcome"
    HUMAN = "human"
    SUBSTEPS = "substeps"


class Amendment(NamedTuple):
    """One entry of the audit trail; entries are never changed but for their version."""

    amendment_id: int
    episode_id: str
    change: str
    """A value of `Change`."""
    value: str
    """JSON of a relabel, empty otherwise."""
    author: str
    reason: str
    at: float
    version: int | None
    """Snapshot in which it took effect; None while it waits for the next one."""


def amend(connection: Connection, row: EpisodeRow, amendment: Amendment) -> int:
    """Write an amendment of a catalogued episode down; number of its entry in the trail."""
    change = amendment.change
    if change not in list(Change):
        raise unknown("change", change, list(Change))
    if change in FIELDS:
        corrected(NONE, change, amendment.value, ticks=row.ticks)
    if not amendment.author or not amendment.reason:
        raise ConfigError("An amendment needs an author and a reason: they are its audit trail.")
    values = amendment._asdict()
    del values["amendment_id"]
    query = insert(amendments).values(**values).returning(amendments.c.amendment_id)
    return connection.execute(query).scalar_one()


def trail(
    connection: Connection, episode_id: str | None = None, *, pending: bool = False
) -> list[Amendment]:
    """Amendments, oldest first: all of them, those of an episode, or those that wait."""
    query = ordered()
    if episode_id is not None:
        query = query.where(amendments.c.episode_id == episode_id)
    if pending:
        query = query.where(amendments.c.version.is_(None))
    return read(connection, query)


def pending_of_members(connection: Connection) -> list[int]:
    """Numbers of the amendments that the next snapshot will have: their episodes are members."""
    c = amendments.c
    query = select(c.amendment_id).where(c.version.is_(None))
    query = query.join(members, members.c.episode_id == c.episode_id)
    return list(connection.execute(query.order_by(c.amendment_id)).scalars())


def take_effect(connection: Connection, ids: Sequence[int], version: int) -> None:
    """Let amendments be part of a snapshot."""
    c = amendments.c
    for part in in_parts(ids):
        connection.execute(
            update(amendments).where(c.amendment_id.in_(part)).values(version=version)
        )


def ordered() -> Select:
    """Query for all amendments, oldest first."""
    return select(amendments).order_by(amendments.c.amendment_id)


def read(connection: Connection, query: Select) -> list[Amendment]:
    """Result of a query for whole amendments."""
    return [Amendment(**row._mapping) for row in connection.execute(query)]
