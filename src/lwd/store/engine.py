"""Opens the catalog's database: durability, transactions, retries, errors that say what to do."""

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lwd.errors import ConfigError, ServiceError
from lwd.store.backoff import Backoff
from lwd.store.disk import make_folder

log = logging.getLogger(__name__)

T = TypeVar("T")

BUSY_TIMEOUT_S = 30.0
CHUNK = 400
"""Values in one IN list; SQLite's oldest limit is 999."""
ATTEMPTS = 8
"""Tries of a transaction that PostgreSQL gave up for another one's sake."""
BACKOFF = Backoff(first_s=0.01, limit_s=0.5)

YIELDED = ("40001", "40P01")
"""SQLSTATE of a serialisation failure and of a deadlock: nothing happened, trying again helps."""
NOT_OURS = ("42501", "42P01", "42P07")
"""SQLSTATE of missing rights, missing tables, foreign tables: no bugs, but somebody has to act."""

CONNECTING = {
    "connect_timeout": "5",
    "application_name": "lwd",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""How libpq connects, where the URL does not say otherwise: a host that is gone is noticed."""

# A paused process must not hold the row locks of its open transaction for ever; an acknowledged
# transaction is on disk, whatever the server's default is.
SESSION = """
SELECT set_config('idle_in_transaction_session_timeout', '30s', false),
       set_config('lock_timeout', '30s', false),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
           WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""


def connect(url: str) -> Engine:
    """Engine of the database at `url`; nothing is opened yet."""
    parsed = _parse(url)
    return _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)


@contextmanager
def transaction(engine: Engine, *, write: bool) -> Iterator[Connection]:
    """One transaction; a writer holds SQLite's write lock from the start, so it cannot deadlock."""
    with (
        _turn(engine) if write else nullcontext(),
        clear_errors(engine.url),
        engine.connect() as connection,
        connection.execution_options(lwd_write=write).begin(),
    ):
        yield connection


def transact(engine: Engine, work: Callable[[Connection], T], *, write: bool) -> T:
    """Result of `work` in a transaction of its own, again when PostgreSQL gave that one up.

    On PostgreSQL the isolation is READ COMMITTED: every decision locks the row that it rests on
    (lease, pointer), and the primary keys do the rest. `work` may run several times.
    """
    for failures in range(1, ATTEMPTS):
        try:
            with transaction(engine, write=write) as connection:
                return work(connection)
        except ServiceError as error:
            if _sqlstate(error.__cause__) not in YIELDED:
                raise
            log.debug("transaction again failures=%d reason=%s", failures, error)
            time.sleep(BACKOFF.delay(failures, random.random()))
    with transaction(engine, write=write) as connection:
        return work(connection)


def insert_new(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert unless a row with the same key is there; whether it was inserted."""
    key = next(iter(table.primary_key))
    query = _insertion(connection, table).values(**values).on_conflict_do_nothing().returning(key)
    return connection.execute(query).first() is not None


def insert_all_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert those rows whose key is not there yet, as one statement with many values."""
    if rows:
        connection.execute(_insertion(connection, table).on_conflict_do_nothing(), rows)


def _insertion(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    build = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return build(table)


def in_parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in lists that fit one IN clause."""
    every = list(values)
    return (every[i : i + CHUNK] for i in range(0, len(every), CHUNK))


def shown(url: URL) -> str:
    """The URL for people: without its password."""
    return url.render_as_string(hide_password=True)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(
            f"Catalog URL {_masked(url)!r} is not a SQLAlchemy URL: give sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE."
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigError(
            f"Catalog {shown(parsed)} is not usable: give sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE."
        )
    return parsed


def _masked(url: str) -> str:
    """A URL that may not even parse, without what stands where a password would."""
    before, at, after = url.rpartition("@")
    return f"***@{after}" if at and before else url


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("A catalog is shared by processes: give sqlite:///FILE, not memory.")
    make_folder(Path(url.database).absolute().parent)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_S},
        execution_options={"lwd_turn": threading.Lock()},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection, record) -> None:
        # Python's driver would otherwise begin transactions by its own, weaker, rules.
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("lwd_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    if not url.database:
        raise ConfigError(
            f"Catalog {shown(url)} names no database: postgresql://USER@HOST/DATABASE."
        )
    defaults = {name: value for name, value in CONNECTING.items() if name not in url.query}
    try:
        engine = create_engine(
            url,
            connect_args=defaults,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_size=8,
            max_overflow=24,
            pool_timeout=10.0,
            pool_recycle=1800,
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"Catalog {shown(url)}: {error}. Run pip install '.[postgres]' in a checkout."
        ) from error

    @event.listens_for(engine, "connect")
    def _on_connect(connection, record) -> None:
        connection.execute(SESSION)
        connection.commit()

    return engine


def _turn(engine: Engine) -> AbstractContextManager[Any]:
    """Threads of one process take turns to write SQLite, whose own waiting is a lottery."""
    return engine.get_execution_options().get("lwd_turn", nullcontext())


@contextmanager
def clear_errors(url: URL) -> Iterator[None]:
    """Turn a driver's errors into one line that says what to do; bugs pass as they are."""
    try:
        yield
    except (DatabaseError, InterfaceError, sqlite3.DatabaseError, PoolTimeout, OSError) as error:
        bug = isinstance(error, IntegrityError | ProgrammingError | DataError)
        if bug and _sqlstate(error) not in NOT_OURS:
            raise
        cause = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        raise ServiceError(f"Catalog {shown(url)}: {cause.rstrip('.')}.{_advice(cause)}") from error


def _sqlstate(error: BaseException | None) -> str | None:
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


ADVICE = {
    "disk is full": "Free some space; nothing was half-written.",
    "No space left": "Free some space on the database's disk; nothing was half-written.",
    "readonly": "Give this user write permission on the file and its folder.",
    "unable to open": "Check that the folder exists and that this user may write there.",
    "Permission denied": "Give this user write permission on the file and its folder.",
    "is locked": "Another process holds it for too long; look for a stuck one.",
    "lock timeout": "Another process holds it for too long; look for a stuck one.",
    "not a database": "Give the catalog's own file, or restore it from a backup.",
    "malformed": "The file is damaged: restore it from a backup.",
    "password": "Give the right password in PGPASSWORD or ~/.pgpass, and the right user in "
    "--catalog-url.",
    "no pg_hba.conf entry": "Let the server's pg_hba.conf accept this user from this host.",
    'role "': "Create the user (CREATE ROLE ... LOGIN), or correct the one in --catalog-url.",
    'database "': "Create it (CREATE DATABASE), or correct its name in --catalog-url.",
    "permission denied for": "Let the user own the database, or GRANT it CREATE and USAGE on the "
    "schema.",
    "already exists": "The tables are another program's: give lwd a database of its own.",
    "no such table": "Another lwd changed the schema: restart this process, both of one version.",
    'relation "': "Another lwd changed the schema: restart this process, both of one version.",
    "too many clients": "Raise the server's max_connections, or put a pooler in front of it.",
    "refused": "Start the database, or correct --catalog-url.",
    "timeout expired": "Start the database, or correct --catalog-url.",
    "resolve": "Correct the host in --catalog-url.",
}
"""What to do when the driver's words contain these; the first that fits counts."""


def _advice(cause: str) -> str:
    return next((f" {advice}" for words, advice in ADVICE.items() if words in cause), "")
