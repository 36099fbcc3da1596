"""The catalog: idempotence, conflicts, fencing, monotonic snapshots, concurrent processes."""

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres import create_database, postgres_server

import lwd.store
from lwd.errors import ConfigError, ConflictError, IntegrityError, ServiceError
from lwd.store.catalog import COORDINATOR, EPISODES, WEIGHTS, Catalog
from lwd.store.engine import open_engine
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow
from lwd.store.schema import HEAD, metadata


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def row(number: int, **changes) -> EpisodeRow:
    plain = EpisodeRow(
        episode_id=f"{number:032x}",
        sha256=f"{number:064x}",
        size_bytes=100,
        robot="arm-1",
        task="make_tea",
        instruction="Make tea.",
        kind="online",
        policy_version=3,
        outcome="success",
        terminated=True,
        truncated=False,
        ticks=50,
        rate_hz=10.0,
        horizon=10,
        produced_at=999.0,
    )
    return replace(plain, **changes)


POLICY = WeightsRow(
    version=0, sha256="a" * 64, size_bytes=10, snapshot=1, stage="online", update=100
)


@pytest.fixture(scope="module")
def postgres():
    with postgres_server() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, sqlite_url) -> str:
    if request.param == "sqlite":
        return sqlite_url
    return create_database(request.getfixturevalue("postgres"), uuid.uuid4().hex)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(url, clock):
    with Catalog(url, clock) as opened:
        yield opened


def test_an_episode_is_inserted_once_and_announced_once(catalog):
    assert catalog.insert_episode(row(1)) is True
    assert catalog.insert_episode(row(1)) is False
    assert catalog.episode(row(1).episode_id) == row(1, inserted_at=1000.0)
    (notice,) = catalog.unpublished(10)
    assert (notice.subject, notice.key) == (EPISODES, row(1).episode_id)
    assert row(1).sha256 in notice.payload
    catalog.mark_published([notice.outbox_id])
    assert catalog.unpublished(10) == []
    assert catalog.backlog() == 0


def test_a_late_relay_cannot_mark_a_newer_notice(catalog):
    catalog.insert_episode(row(1))
    (old,) = catalog.unpublished(10)
    catalog.mark_published([old.outbox_id])
    catalog.insert_episode(row(2))
    catalog.mark_published([old.outbox_id])
    assert [notice.key for notice in catalog.unpublished(10)] == [row(2).episode_id]


def test_the_same_id_with_another_hash_is_a_conflict_and_changes_nothing(catalog):
    catalog.insert_episode(row(1))
    with pytest.raises(ConflictError, match=row(1).episode_id):
        catalog.insert_episode(row(1, sha256="f" * 64))
    assert catalog.episode(row(1).episode_id).sha256 == row(1).sha256
    assert len(catalog.unpublished(10)) == 1


def test_snapshots_are_monotonic_and_hold_every_episode_once(catalog):
    for number in range(5):
        catalog.insert_episode(row(number))
    ids = [row(number).episode_id for number in range(5)]
    token = catalog.acquire_lease(COORDINATOR, "a", 10.0)
    assert catalog.snapshot_version() == 0
    assert catalog.commit_snapshot([ids[3], ids[1]], token=token) == 1
    assert catalog.commit_snapshot([ids[1], ids[3]], token=token) == 1
    assert catalog.commit_snapshot([ids[0], ids[1], ids[4], ids[0]], token=token) == 2
    assert catalog.snapshot_version() == 2
    assert [r.episode_id for r in catalog.snapshot_episodes(1)] == [ids[1], ids[3]]
    assert [r.episode_id for r in catalog.snapshot_episodes(2)] == [ids[1], ids[3], ids[0], ids[4]]
    assert [r.episode_id for r in catalog.snapshot_episodes(2, after=1)] == [ids[0], ids[4]]
    assert [catalog.snapshot_of(i) for i in ids] == [2, 1, None, 1, 2]
    assert [r.episode_id for r in catalog.unsnapshotted(10)] == [ids[2]]


def test_a_snapshot_of_an_unknown_episode_is_refused_whole(catalog):
    catalog.insert_episode(row(1))
    token = catalog.acquire_lease(COORDINATOR, "a", 10.0)
    with pytest.raises(IntegrityError, match="nobody"):
        catalog.commit_snapshot([row(1).episode_id, "nobody"], token=token)
    assert catalog.snapshot_version() == 0
    assert catalog.snapshot_of(row(1).episode_id) is None


def test_a_stale_fencing_token_cannot_commit(catalog, clock):
    catalog.insert_episode(row(1))
    old = catalog.acquire_lease(COORDINATOR, "a", 10.0)
    assert catalog.acquire_lease(COORDINATOR, "b", 10.0) is None
    clock.now += 11.0
    new = catalog.acquire_lease(COORDINATOR, "b", 10.0)
    assert new > old
    assert catalog.renew_lease(COORDINATOR, "a", old, 10.0) is False
    with pytest.raises(ConflictError, match="stale"):
        catalog.commit_snapshot([row(1).episode_id], token=old)
    assert catalog.snapshot_version() == 0
    assert catalog.commit_snapshot([row(1).episode_id], token=new) == 1


def test_a_lease_is_kept_by_renewing_and_given_back_at_once(catalog, clock):
    token = catalog.acquire_lease("x", "a", 10.0)
    clock.now += 8.0
    assert catalog.renew_lease("x", "a", token, 10.0) is True
    clock.now += 8.0
    assert catalog.acquire_lease("x", "b", 10.0) is None
    assert catalog.renew_lease("x", "a", token, 0.0) is True
    assert catalog.acquire_lease("x", "b", 10.0) == token + 1


def test_reconciliation_skips_young_episodes_and_dead_letters(catalog, clock):
    catalog.insert_episode(row(1))
    catalog.insert_episode(row(2))
    clock.now += 5.0
    catalog.insert_episode(row(3))
    catalog.dead_letter(row(1).episode_id, "torn", "coordinator")
    catalog.dead_letter(row(1).episode_id, "another reason", "coordinator")
    assert [r.episode_id for r in catalog.unsnapshotted(10, 3.0)] == [row(2).episode_id]
    assert len(catalog.unsnapshotted(1)) == 1
    assert [(d.reason, d.where, d.at) for d in catalog.dead_letters()] == [
        ("torn", "coordinator", 1005.0)
    ]


def test_weights_get_consecutive_versions_and_a_repeat_is_the_same(catalog):
    assert catalog.latest_weights() is None
    first = catalog.publish_weights(POLICY)
    assert (first.version, first.published_at) == (1, 1000.0)
    assert catalog.publish_weights(POLICY) == first
    second = catalog.publish_weights(replace(POLICY, update=200))
    assert second.version == 2
    assert catalog.latest_weights() == second
    assert catalog.weights(1) == first
    assert catalog.weights(3) is None
    assert catalog.list_weights() == [first, second]
    assert [n.subject for n in catalog.unpublished(10)] == [WEIGHTS, WEIGHTS]


def test_loads_availability_and_counts(catalog):
    load = LoadRow(robot="arm-1", version=2, loaded_at=5.0)
    catalog.report_load(load)
    catalog.report_load(load)
    assert catalog.loads() == [load]
    catalog.report_load(LoadRow(robot="arm-1", version=1, loaded_at=6.0))
    catalog.report_load(LoadRow(robot="arm-2", version=2, loaded_at=4.0))
    assert catalog.acting() == {"arm-1": 1, "arm-2": 2}
    catalog.record_available("e", "host-1", 9.0)
    catalog.record_available("e", "host-0", 7.0)
    catalog.record_available("e", "host-0", 3.0)
    assert catalog.availability() == {"e": 7.0}
    catalog.insert_episode(row(1))
    catalog.insert_episode(row(2, task="make_juice", held_out=True))
    assert catalog.count_episodes() == 2
    assert catalog.count_episodes(task="make_tea", held_out=False) == 1
    with pytest.raises(ConfigError, match="task"):
        catalog.count_episodes(tsk="make_tea")


def test_many_ids_at_once(catalog, monkeypatch):
    monkeypatch.setattr("lwd.store.catalog.CHUNK", 7)
    for number in range(30):
        catalog.insert_episode(row(number))
    token = catalog.acquire_lease(COORDINATOR, "a", 10.0)
    ids = [row(number).episode_id for number in range(30)]
    assert catalog.commit_snapshot(ids[::2], token=token) == 1
    assert catalog.commit_snapshot(ids, token=token) == 2
    assert catalog.snapshot_sizes(2) == [(1, 15), (2, 15)]
    catalog.mark_published([n.outbox_id for n in catalog.unpublished(900)])
    assert catalog.backlog() == 0


def test_racing_inserts_have_one_winner(url):
    catalogs = [Catalog(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(c.insert_episode, row(n)) for n in range(10) for c in catalogs]
        results = [done.result() for done in work]
    assert (results.count(True), results.count(False)) == (10, 30)
    assert len(catalogs[0].unpublished(100)) == 10
    for catalog in catalogs:
        catalog.close()


def test_racing_commits_give_consecutive_versions_and_unique_members(url):
    catalogs = [Catalog(url) for _ in range(4)]
    for number in range(12):
        catalogs[0].insert_episode(row(number))
    token = catalogs[0].acquire_lease(COORDINATOR, "a", 60.0) or 0
    ids = [row(number).episode_id for number in range(12)]

    def commit(worker: int) -> None:
        for first in range(12):
            part = [ids[(first + worker) % 12], ids[(first + 2 * worker) % 12]]
            catalogs[worker].commit_snapshot(part, token=token)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(commit, range(4)))
    version = catalogs[0].snapshot_version()
    sizes = catalogs[0].snapshot_sizes(version)
    assert [v for v, _ in sizes] == list(range(1, version + 1))
    assert sum(size for _, size in sizes) == 12
    assert sorted(r.episode_id for r in catalogs[0].snapshot_episodes(version)) == ids
    for catalog in catalogs:
        catalog.close()


COMMITTER = """
import sys
from lwd.store.catalog import Catalog
with Catalog(sys.argv[1]) as catalog:
    catalog.acquire_lease("start", sys.argv[2], 60.0)
    print(catalog.snapshot_version())
"""


def test_processes_that_start_together_migrate_once(url):
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", COMMITTER, url, str(n)], stdout=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in starts] == ["0"] * 3
    assert [process.returncode for process in starts] == [0] * 3


def test_migrations_create_the_tables_that_the_code_uses(url):
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    config = Config()
    folder = Path(lwd.store.__path__[0]) / "migrations"
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_sqlite_syncs_every_commit_to_disk(sqlite_url):
    engine = open_engine(sqlite_url)
    with engine.connect() as connection:
        pragmas = [f"PRAGMA {name}" for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert [connection.exec_driver_sql(p).scalar() for p in pragmas] == ["wal", 2, 1]
    engine.dispose()


def test_a_newer_catalog_is_refused(url):
    engine = open_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    engine.dispose()
    with pytest.raises(ConfigError, match="Upgrade lwd"):
        Catalog(url)


@pytest.mark.parametrize(
    ("unusable", "hint"),
    [
        ("nonsense", "not a SQLAlchemy URL"),
        ("mysql://host/db", "sqlite:///FILE"),
        ("sqlite:///:memory:", "not memory"),
        ("postgresql+nodriver://host/db", "nodriver"),
    ],
)
def test_unusable_urls_say_what_to_give(unusable, hint):
    with pytest.raises(ConfigError, match=hint):
        Catalog(unusable)


def test_a_file_that_is_no_database_is_a_clear_error(sqlite_url, tmp_path):
    (tmp_path / "catalog.db").write_text("These are my notes about robots. " * 50)
    with pytest.raises(ServiceError, match=r"not a database.*backup"):
        Catalog(sqlite_url)


def test_a_restarted_database_is_connected_to_again(postgres):
    url = create_database(postgres, uuid.uuid4().hex)
    with Catalog(url) as catalog, Catalog(url) as killer:
        assert catalog.insert_episode(row(1)) is True
        with killer._engine.connect() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
            connection.exec_driver_sql(others + "pg_backend_pid() AND datname = current_database()")
        assert catalog.insert_episode(row(1)) is False


def test_a_database_that_is_away_is_a_clear_error(tmp_path):
    with pytest.raises(ServiceError, match=r"nobody.*failed"):
        Catalog(f"postgresql+psycopg://nobody:secret@/x?host={tmp_path}")


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


def fill(catalog: Catalog, pages: int) -> None:
    """Insert until SQLite hits a page limit, which it reports exactly as a full disk."""
    from sqlalchemy import event

    event.listen(
        catalog._engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    )
    for number in range(2, 500):
        catalog.insert_episode(row(number))
