"""The outbox: notices that were written with what they announce and wait for the queue."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from lwd.store.engine import in_parts
from lwd.store.schema import outbox

EPISODES = "lwd.episodes"
"""Subject of the notices about new episodes."""


class Notice(NamedTuple):
    """An outbox row that waits for the queue."""

    outbox_id: int
    key: str
    """Episode id; the queue drops a second one with the same key."""
    payload: str
    """JSON."""
    subject: str


def announce(connection: Connection, key: str, notice: dict[str, Any]) -> None:
    """Write a notice of an episode; it leaves if, and only if, this transaction commits."""
    values = {"subject": EPISODES, "key": key, "payload": json.dumps(notice)}
    connection.execute(insert(outbox).values(**values))


def unpublished(connection: Connection, limit: int) -> list[Notice]:
    """Oldest notices that the queue has not acknowledged."""
    c = outbox.c
    query = select(c.outbox_id, c.key, c.payload, c.subject).order_by(c.outbox_id).limit(limit)
    return [Notice(*row) for row in connection.execute(query)]


def mark_published(connection: Connection, ids: Sequence[int]) -> None:
    """Forget notices that the queue has safely."""
    for part in in_parts(ids):
        connection.execute(delete(outbox).where(outbox.c.outbox_id.in_(part)))


def backlog(connection: Connection) -> int:
    """Number of notices that the queue has not acknowledged."""
    return connection.execute(select(func.count()).select_from(outbox)).scalar_one()
