"""The database behind the catalog: durable, retried, and clear when it refuses."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, event, text

from lwd.errors import ConfigError, ServiceError
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.engine import ATTEMPTS, SESSION, connect, transact
from lwd.store.migrate import open_engine
from processes import free_port
from sample_rows import row


def test_sqlite_syncs_every_commit_to_disk(sqlite_url):
    engine = open_engine(sqlite_url)
    with engine.connect() as connection:
        pragmas = [f"PRAGMA {name}" for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert [connection.exec_driver_sql(p).scalar() for p in pragmas] == ["wal", 2, 1]
    engine.dispose()


def test_threads_of_a_process_take_turns_to_write_sqlite(sqlite_url, monkeypatch):
    """Where they may not even wait for the file's lock, they still all come through."""
    monkeypatch.setattr("lwd.store.engine.BUSY_TIMEOUT_S", 0.0)
    with Catalog(sqlite_url) as catalog, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda n: catalog.insert_episode(row(n)), range(80)))
        assert catalog.backlog() == 80


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("local", "local"), ("on", "on")])
def test_postgresql_is_as_strict_whatever_the_defaults_of_the_server(
    postgres, postgres_url, default, used
):
    name = postgres_url.rsplit("/", 1)[1]
    settings = (f"synchronous_commit = {default}", "default_transaction_isolation = serializable")
    for setting in settings:
        postgres.administer(f"ALTER DATABASE {name} SET {setting}")
    expected = {
        "synchronous_commit": used,
        "transaction_isolation": "read committed",
        "application_name": "lwd",
        "idle_in_transaction_session_timeout": "30s",
        "lock_timeout": "30s",
    }
    engine = connect(postgres_url)
    with engine.connect() as connection:
        shown = {n: connection.exec_driver_sql(f"SHOW {n}").scalar() for n in expected}
    engine.dispose()
    assert shown == expected


def test_a_paused_process_does_not_hold_its_locks_for_ever(postgres_url, monkeypatch):
    monkeypatch.setattr("lwd.store.engine.SESSION", SESSION.replace("'30s'", "'500ms'", 1))
    with Catalog(postgres_url) as paused, Catalog(postgres_url) as other:
        token = other.acquire_lease(COORDINATOR, "other", 60.0)
        assert token is not None
        other.insert_episode(row(1))

        def _sleep_in_a_transaction(connection: Connection) -> None:
            connection.exec_driver_sql("SELECT * FROM leases FOR UPDATE")
            assert other.commit_snapshot([row(1).episode_id], token=token) == 1
            connection.exec_driver_sql("UPDATE leases SET token = token + 1")

        with pytest.raises(ServiceError, match="idle-in-transaction"):
            transact(paused._engine, _sleep_in_a_transaction, write=True)
        assert other.renew_lease(COORDINATOR, "other", token, 60.0) is True


def test_settings_in_the_url_come_first(postgres_url):
    engine = connect(f"{postgres_url}?application_name=mine")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "mine"
    engine.dispose()


@pytest.fixture
def accounts(postgres_url):
    """Engine of a database with two rows that transactions fight about."""
    engine = connect(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE accounts (id INTEGER, amount INTEGER)")
        connection.exec_driver_sql("INSERT INTO accounts VALUES (1, 0), (2, 0)")
    yield engine
    engine.dispose()


def amounts(engine) -> list[int]:
    query = text("SELECT amount FROM accounts ORDER BY id")
    return transact(engine, lambda c: list(c.execute(query).scalars()), write=False)


def test_a_deadlock_is_tried_again_and_both_happen_once(accounts):
    both_hold_one = threading.Barrier(2)
    tries = []

    def add(order: tuple[int, int]) -> None:
        def _work(connection: Connection) -> None:
            tries.append(order)
            add_one = text("UPDATE accounts SET amount = amount + 1 WHERE id = :id")
            connection.execute(add_one, {"id": order[0]})
            if len(tries) <= 2:
                both_hold_one.wait(10)
            connection.execute(add_one, {"id": order[1]})

        transact(accounts, _work, write=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, [(1, 2), (2, 1)]))
    assert len(tries) == 3
    assert amounts(accounts) == [2, 2]


def test_a_serialisation_failure_is_tried_again_but_not_for_ever(accounts, monkeypatch):
    tries = []

    def fall_behind(connection: Connection, times: int) -> None:
        """Update a row that, `times` times, somebody else has just updated."""
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.exec_driver_sql("SELECT amount FROM accounts")
        tries.append(1)
        if len(tries) <= times:
            with accounts.begin() as other:
                other.exec_driver_sql("UPDATE accounts SET amount = amount + 1 WHERE id = 1")
        connection.exec_driver_sql("UPDATE accounts SET amount = amount + 10 WHERE id = 1")

    transact(accounts, lambda c: fall_behind(c, 2), write=True)
    assert (len(tries), amounts(accounts)) == (3, [12, 0])
    tries.clear()
    monkeypatch.setattr("lwd.store.engine.time.sleep", lambda seconds: None)
    with pytest.raises(ServiceError, match="could not serialize"):
        transact(accounts, lambda c: fall_behind(c, 1000), write=True)
    assert len(tries) == ATTEMPTS


def test_other_errors_are_not_tried_again(accounts):
    tries = []

    def fail(connection: Connection) -> None:
        tries.append(1)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 1")
        connection.exec_driver_sql("SELECT pg_sleep(10)")

    with pytest.raises(ServiceError, match="statement timeout"):
        transact(accounts, fail, write=True)
    assert tries == [1]


def test_a_restarted_database_is_connected_to_again(postgres_url):
    with Catalog(postgres_url) as catalog, Catalog(postgres_url) as killer:
        assert catalog.insert_episode(row(1)) is True
        with killer._engine.connect() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
            connection.exec_driver_sql(others + "pg_backend_pid() AND datname = current_database()")
        assert catalog.insert_episode(row(1)) is False


@pytest.mark.parametrize(
    ("unusable", "hint"),
    [
        ("nonsense", "not a SQLAlchemy URL"),
        ("", "not a SQLAlchemy URL"),
        ("postgresql://host:notaport/db", "not a SQLAlchemy URL"),
        ("mysql://host/db", "sqlite:///FILE"),
        ("sqlite:///:memory:", "not memory"),
        ("postgresql+nodriver://host/db", r"postgresql://USER@HOST/DATABASE"),
        ("postgresql://host", "names no database"),
    ],
)
def test_unusable_urls_say_what_to_give(unusable, hint):
    with pytest.raises(ConfigError, match=hint):
        Catalog(unusable)


@pytest.mark.parametrize(
    "url", ["mysql://me:secret@host/db", "postgresql://me:secret@host:port/db", "me:secret@host"]
)
def test_an_error_never_shows_the_password(url):
    with pytest.raises(ConfigError) as error:
        Catalog(url)
    assert "secret" not in str(error.value)
    assert "host" in str(error.value)


def test_a_wrong_password_is_a_clear_error(postgres):
    with pytest.raises(ServiceError, match=r"password authentication failed.*PGPASSWORD") as error:
        Catalog(postgres.url("postgres", password="wrong"))
    assert ":wrong@" not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_password_may_come_from_the_environment(postgres, postgres_url, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "a robot's secret")
    with Catalog(f"postgresql://lwd@{postgres_url.rpartition('@')[2]}") as catalog:
        assert catalog.insert_episode(row(1)) is True


def test_a_database_that_does_not_exist_is_a_clear_error(postgres):
    with pytest.raises(ServiceError, match=r'database "nothing" does not exist.*CREATE DATABASE'):
        Catalog(postgres.url("nothing"))


def test_a_user_without_rights_is_told_which(postgres):
    postgres.administer("CREATE DATABASE locked TEMPLATE template0")
    with pytest.raises(ServiceError, match=r"permission denied for schema public.*GRANT"):
        Catalog(postgres.url("locked"))


def test_a_server_that_is_away_is_a_clear_error():
    port = free_port()
    with pytest.raises(ServiceError, match=rf"127.0.0.1.*{port}.*Start the database"):
        Catalog(f"postgresql://lwd:secret@127.0.0.1:{port}/{uuid.uuid4().hex}")


def test_a_file_that_is_no_database_is_a_clear_error(sqlite_url, tmp_path):
    (tmp_path / "catalog.db").write_text("These are my notes about robots. " * 50)
    with pytest.raises(ServiceError, match=r"not a database.*backup"):
        Catalog(sqlite_url)


def test_a_file_that_is_no_folder_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="Cannot create folder"):
        Catalog(f"sqlite:///{tmp_path}/file/catalog.db")


def test_an_unwritable_folder_is_a_clear_error(forbidden_folder):
    with pytest.raises(ServiceError, match="not writable"):
        Catalog(f"sqlite:///{forbidden_folder}/catalog.db")


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(sqlite_url):
    with Catalog(sqlite_url) as catalog:
        catalog.insert_episode(row(1))
        with catalog._engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        with pytest.raises(ServiceError, match="Free some space"):
            fill(catalog, pages)
        assert catalog.count_episodes() == len(catalog.unpublished(10_000))
        assert len(catalog.unsnapshotted(10_000)) == catalog.count_episodes()


def fill(catalog: Catalog, pages: int) -> None:
    """Insert until SQLite hits a page limit, which it reports exactly as a full disk."""
    event.listen(
        catalog._engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    )
    for number in range(2, 500):
        catalog.insert_episode(row(number))
