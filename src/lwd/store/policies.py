"""Published policies and which robot acts with which: statements of `lwd.store.catalog`."""

from dataclasses import asdict, replace

from sqlalchemy import Connection, func, insert, select

from lwd.store import outbox, pointers
from lwd.store.engine import insert_new
from lwd.store.rows import LoadRow, WeightsRow
from lwd.store.schema import loads, weights


def publish(connection: Connection, row: WeightsRow) -> WeightsRow:
    """Give the artifact the next version and point to it; a repeat of the newest is a no-op."""
    version = pointers.lock(connection, pointers.WEIGHTS)
    newest = find(connection, version)
    if newest and _same_publication(newest, row):
        return newest
    row = replace(row, version=version + 1)
    connection.execute(insert(weights).values(**asdict(row)))
    pointers.move(connection, pointers.WEIGHTS, row.version)
    outbox.announce(connection, outbox.WEIGHTS, f"weights-{row.version}", asdict(row))
    return row


def find(connection: Connection, version: int) -> WeightsRow | None:
    """A published policy."""
    row = connection.execute(select(weights).where(weights.c.version == version)).one_or_none()
    return WeightsRow(**row._mapping) if row else None


def newest(connection: Connection) -> WeightsRow | None:
    """The policy that the pointer names."""
    return find(connection, pointers.read(connection, pointers.WEIGHTS))


def every(connection: Connection) -> list[WeightsRow]:
    """All published policies, oldest first."""
    rows = connection.execute(select(weights).order_by(weights.c.version))
    return [WeightsRow(**row._mapping) for row in rows]


def report_load(connection: Connection, row: LoadRow) -> None:
    """Record that a robot acts with a version from now on."""
    insert_new(connection, loads, asdict(row))


def every_load(connection: Connection) -> list[LoadRow]:
    """All reports, oldest first."""
    c = loads.c
    query = select(c.robot, c.version, c.loaded_at).order_by(c.loaded_at, c.robot)
    return [LoadRow(**row._mapping) for row in connection.execute(query)]


def acting(connection: Connection) -> dict[str, int]:
    """Robot to the version that it reported last."""
    c = loads.c
    last = select(c.robot, func.max(c.loaded_at).label("at")).group_by(c.robot).subquery()
    query = select(c.robot, c.version).join(
        last, (last.c.robot == c.robot) & (last.c.at == c.loaded_at)
    )
    return {robot: version for robot, version in connection.execute(query)}


def _same_publication(known: WeightsRow, row: WeightsRow) -> bool:
    return (known.sha256, known.stage, known.update, known.snapshot) == (
        row.sha256,
        row.stage,
        row.update,
        row.snapshot,
    )
