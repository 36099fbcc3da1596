"""What the page reads of the catalog: short rows, and only those that are new."""

from typing import NamedTuple

from sqlalchemy import Connection, func, select

from lwd.store import amendments as trail
from lwd.store import handovers, outbox, pointers, policies
from lwd.store.amendments import Amendment
from lwd.store.handovers import Handover
from lwd.store.rows import LoadRow, WeightsRow
from lwd.store.schema import (
    availability,
    dead_letters,
    episodes,
    loads,
    members,
    snapshots,
    waiting,
)

OVERLAP_S = 60.0
"""How far back a look goes: clocks of several services differ, and a transaction takes a while."""

NEWEST = 500
"""Words to robots that are kept in the record's view."""


class Brief(NamedTuple):
    """An episode as the statistics need it."""

    episode_id: str
    robot: str
    task: str
    kind: str
    outcome: str
    policy_version: int
    ticks: int
    interventions: int
    produced_at: float
    """By the robot's clock."""
    inserted_at: float
    """By the service's clock: the one that times are compared by."""


class Counts(NamedTuple):
    """Sizes of the tables."""

    episodes: int
    members: int
    snapshot: int
    waiting: int
    dead_letters: int
    backlog: int


class Since(NamedTuple):
    """What was read last time: the next look asks for what came after."""

    inserted_at: float = 0.0
    snapshot: int = 0
    available_at: float = 0.0
    load_id: int = 0
    handover_id: int = 0


class News(NamedTuple):
    """What one look finds."""

    counts: Counts
    episodes: list[Brief]
    joined: dict[str, float]
    """Episode to the UTC second of the commit that made it a member."""
    available: dict[str, float]
    """Episode to the UTC second at which a learner could first sample it."""
    weights: list[WeightsRow]
    loads: list[LoadRow]
    """What robots have reported since the last look, in that order."""
    load_id: int
    """Number of the newest report."""
    amendments: list[Amendment]
    handovers: list[Handover]
    """What people have told robots since the last look, at most `NEWEST`."""


def read(connection: Connection, since: Since) -> News:
    """What is new in the catalog, with the small tables whole; some of it was seen before."""
    reported, load_id = _loads(connection, since.load_id)
    return News(
        counts=_counts(connection),
        episodes=_episodes(connection, since.inserted_at - OVERLAP_S),
        joined=_joined(connection, since.snapshot),
        available=_available(connection, since.available_at - OVERLAP_S),
        weights=policies.every(connection),
        loads=reported,
        load_id=load_id,
        amendments=trail.trail(connection),
        handovers=handovers.newest(connection, NEWEST, since.handover_id),
    )


def _counts(connection: Connection) -> Counts:
    sizes = [
        connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (episodes, members, waiting, dead_letters)
    ]
    return Counts(
        episodes=sizes[0],
        members=sizes[1],
        snapshot=pointers.read(connection, pointers.SNAPSHOT),
        waiting=sizes[2],
        dead_letters=sizes[3],
        backlog=outbox.backlog(connection),
    )


def _episodes(connection: Connection, after: float) -> list[Brief]:
    columns = [episodes.c[name] for name in Brief._fields]
    query = select(*columns).where(episodes.c.inserted_at > after)
    return [Brief(*row) for row in connection.execute(query.order_by(episodes.c.inserted_at))]


def _joined(connection: Connection, after: int) -> dict[str, float]:
    query = select(members.c.episode_id, snapshots.c.committed_at)
    query = query.join(snapshots, snapshots.c.version == members.c.version)
    return {e: at for e, at in connection.execute(query.where(members.c.version > after))}


def _available(connection: Connection, after: float) -> dict[str, float]:
    c = availability.c
    query = select(c.episode_id, func.min(c.at)).where(c.at > after).group_by(c.episode_id)
    return {episode: at for episode, at in connection.execute(query)}


def _loads(connection: Connection, after: int) -> tuple[list[LoadRow], int]:
    c = loads.c
    query = select(c.load_id, c.robot, c.version, c.loaded_at).where(c.load_id > after)
    found = list(connection.execute(query.order_by(c.load_id)))
    rows = [LoadRow(robot=r.robot, version=r.version, loaded_at=r.loaded_at) for r in found]
    return rows, found[-1].load_id if found else after
