"""Leases with fencing tokens: who may do what only one process may do."""

from typing import NamedTuple

from sqlalchemy import Connection, Select, select, update

from lwd.errors import ConflictError
from lwd.store.engine import insert_new
from lwd.store.schema import leases

COORDINATOR = "coordinator"
"""Lease whose token fences snapshot commits."""


class Lease(NamedTuple):
    """Who may work, and until when."""

    holder: str
    token: int
    expires_at: float
    """UTC seconds by the holder's clock, which may be wrong."""


def acquire(
    connection: Connection,
    name: str,
    holder: str,
    *,
    now: float,
    ttl_s: float,
    silent: Lease | None = None,
) -> int | None:
    """Fencing token if the lease is free, expired, `silent`, or this holder's; else None."""
    insert_new(connection, leases, {"name": name, "holder": "", "token": 0, "expires_at": 0.0})
    lease = connection.execute(_lock(name)).one()
    known = Lease(lease.holder, lease.token, lease.expires_at)
    if lease.expires_at > now and lease.holder != holder and known != silent:
        return None
    _set(connection, name, holder, lease.token + 1, now + ttl_s)
    return lease.token + 1


def read(connection: Connection, name: str) -> Lease | None:
    """The lease as it is now."""
    lease = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
    return Lease(lease.holder, lease.token, lease.expires_at) if lease else None


def renew(connection: Connection, name: str, holder: str, *, token: int, expires_at: float) -> bool:
    """Move the end of a lease; False if somebody else has taken it meanwhile."""
    lease = connection.execute(_lock(name)).one_or_none()
    if lease is None or (lease.holder, lease.token) != (holder, token):
        return False
    _set(connection, name, holder, token, expires_at)
    return True


def check(connection: Connection, name: str, token: int) -> None:
    """ConflictError unless `token` is the newest, which it stays until this transaction ends."""
    lease = connection.execute(_lock(name)).one_or_none()
    newest = lease.token if lease else None
    if newest != token:
        raise ConflictError(
            f"Fencing token {token} is stale: the newest is {newest}. Another {name} took "
            "over; this one must stop committing and acquire the lease again."
        )


def _lock(name: str) -> Select:
    return select(leases).where(leases.c.name == name).with_for_update()


def _set(connection: Connection, name: str, holder: str, token: int, expires_at: float) -> None:
    query = update(leases).where(leases.c.name == name)
    connection.execute(query.values(holder=holder, token=token, expires_at=expires_at))
