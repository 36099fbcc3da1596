"""Opens the catalog's database: transactions, durability, migration under a lock."""

import fcntl
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
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
from lwd.store.disk import make_folder
from lwd.store.schema import HEAD

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30.0
MIGRATION_LOCK = 0x6C7764
"""Number of PostgreSQL's advisory lock, `lwd` in hexadecimal."""


def open_engine(url: str) -> Engine:
    """Engine of an existing, migrated catalog; creates and migrates it when needed."""
    parsed = _parse(url)
    engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def transaction(engine: Engine, *, write: bool) -> Iterator[Connection]:
    """One transaction; a writer holds SQLite's write lock from the start, so it cannot deadlock."""
    with (
        clear_errors(engine.url),
        engine.connect() as connection,
        connection.execution_options(lwd_write=write).begin(),
    ):
        yield connection


def migrate(engine: Engine) -> None:
    """Bring the schema to HEAD; concurrent starts wait for each other and then find it done."""
    with clear_errors(engine.url), _start_lock(engine.url):
        with transaction(engine, write=False) as connection:
            found = _revision(connection)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise ConfigError(
                f"Catalog {_shown(engine.url)} has schema {found}, newer than this lwd's {HEAD}. "
                "Upgrade lwd on this machine."
            )
        _upgrade(engine)
        log.info("catalog migrated url=%s from=%s to=%s", _shown(engine.url), found, HEAD)


def _upgrade(engine: Engine) -> None:
    # A robot or a learner that opens a finished catalog does not need Alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with transaction(engine, write=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"Catalog URL {url!r} is not a SQLAlchemy URL: {error}") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(
            f"Catalog {_shown(parsed)} is not usable; give sqlite:///FILE or postgresql+psycopg://."
        )
    return parsed


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("A catalog is shared by processes: give sqlite:///FILE, not memory.")
    make_folder(Path(url.database).absolute().parent)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

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
    try:
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"Catalog {_shown(url)}: {error}. Run pip install 'lwd[postgres]' and give a URL that "
            "starts with postgresql+psycopg://."
        ) from error


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


@contextmanager
def clear_errors(url: URL) -> Iterator[None]:
    """Turn a driver's errors into one line that says what to do; bugs pass as they are."""
    try:
        yield
    except (DatabaseError, InterfaceError, sqlite3.DatabaseError, PoolTimeout, OSError) as error:
        if isinstance(error, IntegrityError | ProgrammingError | DataError):
            raise
        cause = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        raise ServiceError(f"Catalog {_shown(url)}: {cause}.{_advice(cause)}") from error


def _advice(cause: str) -> str:
    known = {
        "disk is full": " Free some space; nothing was half-written.",
        "readonly": " Give this user write permission on the file and its folder.",
        "unable to open": " Check that the folder exists and that this user may write there.",
        "Permission denied": " Give this user write permission on the file and its folder.",
        "is locked": " Another process holds it for too long; look for a stuck one.",
        "not a database": " Give the catalog's own file, or restore it from a backup.",
        "malformed": " The file is damaged: restore it from a backup.",
        "refused": " Start the database or correct --catalog-url.",
    }
    return next((advice for words, advice in known.items() if words in cause), "")


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)
