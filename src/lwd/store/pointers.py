"""Pointers: the newest snapshot, the newest weights. Whoever moves one holds its row's lock."""

from sqlalchemy import Connection, select, update

from lwd.store.schema import pointers

SNAPSHOT = "snapshot"
WEIGHTS = "weights"


def read(connection: Connection, name: str) -> int:
    """Version that the pointer names; 0 before the first."""
    query = select(pointers.c.version).where(pointers.c.name == name)
    return connection.execute(query).scalar_one()


def lock(connection: Connection, name: str) -> int:
    """Read a pointer that nobody else can move before this transaction ends."""
    query = select(pointers.c.version).where(pointers.c.name == name).with_for_update()
    return connection.execute(query).scalar_one()


def move(connection: Connection, name: str, version: int) -> None:
    """Let the pointer, which this transaction has locked, name `version`."""
    connection.execute(update(pointers).where(pointers.c.name == name).values(version=version))
