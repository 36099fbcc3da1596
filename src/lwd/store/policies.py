"""Published policies and which robot acts with which: statements of `lwd.store.catalog`."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from sqlalchemy import Connection, func, insert, or_, select

from lwd.errors import ConfigError
from lwd.store import pointers
from lwd.store.engine import insert_new
from lwd.store.rows import LoadRow, WeightsRow
from lwd.store.schema import loads, weights

NOBODY = ",,"
"""Audience of what is published while a roll-back holds."""
_PROMOTED, _ROLLED_BACK, _TRIED = "promoted", "rolled back to", "canary of"


def publish(connection: Connection, row: WeightsRow) -> WeightsRow:
    """Give the artifact the next version and point to it; a repeat of the newest is a no-op.

    After a roll-back nobody gets what the learner publishes, until something is promoted.
    """
    version = pointers.lock(connection, pointers.WEIGHTS)
    newest = find(connection, version)
    if newest and _same_publication(newest, row):
        return newest
    if _held(connection):
        row = replace(row, audience=NOBODY)
    return _append(connection, row, newest)


def promote(connection: Connection, version: int, at: float, by: str = "") -> WeightsRow:
    """Give every robot the policy of `version`, and from now on what the learner publishes."""
    return _again(connection, version, f"{_PROMOTED} {version}{_said(by)}", at)


def roll_back(connection: Connection, version: int, at: float, by: str = "") -> WeightsRow:
    """Give every robot the policy of `version`, and nothing newer until something is promoted."""
    return _again(connection, version, f"{_ROLLED_BACK} {version}{_said(by)}", at)


def try_on(
    connection: Connection, version: int, robots: Sequence[str], at: float, by: str = ""
) -> WeightsRow:
    """Give these robots alone the policy of `version`; a roll-back goes on to hold."""
    if not robots or any("," in robot or not robot for robot in robots):
        raise ConfigError(f"A canary is for robots by name, without commas; given {robots!r}.")
    audience = f",{','.join(robots)},"
    return _again(connection, version, f"{_TRIED} {version}{_said(by)}", at, audience)


def _said(by: str) -> str:
    return f" by {by}" if by else ""


def _again(
    connection: Connection, version: int, note: str, at: float, audience: str = ""
) -> WeightsRow:
    """Publish an artifact once more under a new version: robots only ever go forward."""
    newest = find(connection, pointers.lock(connection, pointers.WEIGHTS))
    row = find(connection, version)
    if newest is None or row is None:
        last = newest.version if newest else 0
        raise ConfigError(f"weights version {version} was never published; the newest is {last}.")
    return _append(connection, replace(row, note=note, audience=audience, published_at=at), newest)


def _held(connection: Connection) -> bool:
    """Whether the last thing that an operator did was to roll back."""
    for_all = (weights.c.note != "", weights.c.note.not_like(f"{_TRIED} %"))
    last = select(weights.c.note).where(*for_all).order_by(weights.c.version.desc())
    return (connection.execute(last.limit(1)).scalar() or "").startswith(_ROLLED_BACK)


def _append(connection: Connection, row: WeightsRow, newest: WeightsRow | None) -> WeightsRow:
    row = replace(row, version=newest.version + 1 if newest else 1)
    row = replace(row, chain=row.chained(newest.chain if newest else ""))
    connection.execute(insert(weights).values(**asdict(row)))
    pointers.move(connection, pointers.WEIGHTS, row.version)
    return row


def find(connection: Connection, version: int) -> WeightsRow | None:
    """A published policy."""
    row = connection.execute(select(weights).where(weights.c.version == version)).one_or_none()
    return WeightsRow(**row._mapping) if row else None


def newest(connection: Connection) -> WeightsRow | None:
    """The policy that the pointer names."""
    return find(connection, pointers.read(connection, pointers.WEIGHTS))


def newest_for(connection: Connection, robot: str) -> WeightsRow | None:
    """The newest policy that a robot is to act with."""
    meant = weights.c.audience == ""
    if robot:
        meant = or_(meant, weights.c.audience.contains(f",{robot},", autoescape=True))
    query = select(weights).where(meant).order_by(weights.c.version.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return WeightsRow(**row._mapping) if row else None


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
    """Robot to the version that it reported last, whatever its clock said."""
    c = loads.c
    last = select(func.max(c.load_id)).group_by(c.robot)
    query = select(c.robot, c.version).where(c.load_id.in_(last))
    return {robot: version for robot, version in connection.execute(query)}


def _same_publication(known: WeightsRow, row: WeightsRow) -> bool:
    return (known.sha256, known.stage, known.update, known.snapshot) == (
        row.sha256,
        row.stage,
        row.update,
        row.snapshot,
    )
