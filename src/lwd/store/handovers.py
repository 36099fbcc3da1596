"""Who has told which robot what: the record of people who take over. Statements of
`lwd.store.catalog`."""

from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from lwd.store.schema import handovers


class Handover(NamedTuple):
    """One entry; entries are never changed."""

    handover_id: int
    robot: str
    press: str
    """One of `lwd.store.seats.PRESSES`."""
    author: str
    at: float
    """UTC seconds by the service's clock."""


def note(connection: Connection, robot: str, press: str, author: str, at: float) -> None:
    """Write a press down."""
    connection.execute(insert(handovers).values(robot=robot, press=press, author=author, at=at))


def newest(connection: Connection, limit: int, after: int = 0) -> list[Handover]:
    """The newest entries with a number above `after`, oldest first."""
    c = handovers.c
    query = select(handovers).where(c.handover_id > after).order_by(c.handover_id.desc())
    found = [Handover(**row._mapping) for row in connection.execute(query.limit(limit))]
    return found[::-1]
