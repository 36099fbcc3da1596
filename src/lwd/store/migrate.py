"""Brings the catalog's schema to a revision, up or down, with the data that is in it."""

import fcntl
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL

from lwd.errors import ConfigError, unknown
from lwd.store.engine import BUSY_TIMEOUT_S, clear_errors, connect, shown, transact
from lwd.store.schema import HEAD, REVISIONS

log = logging.getLogger(__name__)

MIGRATION_LOCK = 0x6C7764
"""Number of PostgreSQL's advisory lock, `lwd` in hexadecimal."""


def open_engine(url: str) -> Engine:
    """Engine of a catalog that has the newest schema; creates and migrates it when needed."""
    engine = connect(url)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate_url(url: str, to: str = HEAD) -> str:
    """Bring the catalog at `url` to a revision; returns that revision."""
    engine = connect(url)
    try:
        migrate(engine, to)
    finally:
        engine.dispose()
    return to


def migrate(engine: Engine, to: str = HEAD) -> None:
    """Bring the schema to a revision in one transaction: after a kill it is as it was before.

    Concurrent starts wait for each other and then find it done. ConfigError if the catalog is of
    a newer lwd.
    """
    if to not in REVISIONS:
        raise unknown("revision", to, REVISIONS)
    with clear_errors(engine.url), _start_lock(engine.url):
        found = transact(engine, _revision, write=False)
        if found == to:
            return
        if found is not None and found not in REVISIONS:
            raise ConfigError(
                f"Catalog {shown(engine.url)} has schema {found}; this lwd knows {REVISIONS[0]} to "
                f"{HEAD}. Upgrade lwd on this machine, or let the newer lwd bring it down: "
                f"lwd migrate --to {HEAD}."
            )
        transact(engine, lambda connection: _move(connection, to), write=True)
        log.info("catalog migrated url=%s from=%s to=%s", shown(engine.url), found, to)


def _move(connection: Connection, to: str) -> None:
    # A robot or a learner that opens a finished catalog does not need Alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    found = _revision(connection)
    config.attributes["connection"] = connection
    if found is not None and found > to:
        command.downgrade(config, to)
    else:
        command.upgrade(config, to)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def _start_lock(url: URL) -> Iterator[None]:
    """SQLite switches to WAL and migrates under a file lock, which dies with its process."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    with Path(f"{url.database}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        connection = sqlite3.connect(str(url.database), timeout=BUSY_TIMEOUT_S)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        yield
