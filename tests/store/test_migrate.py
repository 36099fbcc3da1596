"""The schema goes up and down with data in it, once, whole, or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect

import lwd.store
from lwd.errors import ConfigError, ServiceError
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.engine import connect
from lwd.store.migrate import migrate_url, open_engine
from lwd.store.rows import LoadRow
from lwd.store.schema import HEAD, REVISIONS, metadata
from sample_rows import POLICY, row


@pytest.fixture
def fleet(url) -> str:
    """A catalog with a row in every table: 1 and 2 are members, 3 is given up, 4 waits."""
    with Catalog(url) as catalog:
        ids = [row(number).episode_id for number in range(1, 5)]
        for number in range(1, 5):
            catalog.insert_episode(row(number))
        token = catalog.acquire_lease(COORDINATOR, "me", 60.0)
        assert token is not None
        catalog.commit_snapshot(ids[:2], token=token)
        catalog.dead_letter(ids[2], "torn", "coordinator")
        catalog.publish_weights(POLICY)
        catalog.report_load(LoadRow(robot="arm-1", version=1, loaded_at=5.0))
        catalog.record_available(ids[:2], "host-0", 7.0)
        catalog.amend(ids[0], "tombstone", author="me", reason="blurred")
        catalog.retain_from(1, author="me", reason="space")
        catalog.note_handover("arm-1", "pause", "me")
    return url


def contents(url: str) -> dict[str, list[dict]]:
    """Every row of every table."""
    engine, found = connect(url), MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        rows = {
            name: sorted((dict(r._mapping) for r in connection.execute(table.select())), key=repr)
            for name, table in found.tables.items()
        }
    engine.dispose()
    return rows


def revision(url: str) -> str:
    return contents(url)["alembic_version"][0]["version_num"]


def test_migrations_create_the_tables_that_the_code_uses(url):
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_code_knows_every_revision_in_order():
    config = Config()
    folder = Path(lwd.store.__path__[0]) / "migrations"
    config.set_main_option("script_location", str(folder))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert [script.revision for script in scripts] == list(reversed(REVISIONS))


def test_down_and_up_again_keep_every_row(fleet):
    before = contents(fleet)
    assert all(before.values())
    migrate_url(fleet, REVISIONS[0])
    old = contents(fleet)
    assert old.pop("alembic_version") == [{"version_num": REVISIONS[0]}]
    for name, rows in old.items():
        assert rows == [{column: row[column] for column in rows[0]} for row in before[name]]
    forgotten = {"amendments", "retentions", "handovers"}
    assert before.keys() - old.keys() == {"waiting", "alembic_version", *forgotten}
    assert migrate_url(fleet) == HEAD
    assert contents(fleet) == before | {name: [] for name in forgotten}


def test_a_catalog_of_an_older_lwd_is_brought_up_with_what_it_holds(fleet):
    migrate_url(fleet, REVISIONS[0])
    with Catalog(fleet) as catalog:
        assert [r.episode_id for r in catalog.unsnapshotted(10)] == [row(4).episode_id]
        assert catalog.count_episodes() == 4
        assert catalog.snapshot_version() == 1
        assert catalog.insert_episode(row(1)) is False
        assert catalog.insert_episode(row(5)) is True


@pytest.mark.parametrize("start", [REVISIONS[0], None])
def test_a_migration_that_cannot_end_changes_nothing(url, start):
    if start:
        migrate_url(url, start)
    engine = connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE waiting (something_else INTEGER)")
    engine.dispose()
    before = contents(url)
    with pytest.raises(ServiceError, match="give lwd a database of its own"):
        Catalog(url)
    assert contents(url) == before


def test_a_newer_catalog_is_refused_and_left_alone(url):
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(ConfigError, match=rf"schema 9999.*Upgrade lwd.*lwd migrate --to {HEAD}"):
        Catalog(url)
    assert revision(url) == "9999"


def test_an_unknown_revision_lists_the_known(sqlite_url):
    with pytest.raises(ConfigError, match=r"'0009' is unknown.*0001, 0002, 0003"):
        migrate_url(sqlite_url, "0009")
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


OPEN = """
import sys
from lwd.store.catalog import Catalog
with Catalog(sys.argv[1]) as catalog:
    catalog.acquire_lease("start", sys.argv[2], 60.0)
    print(catalog.snapshot_version())
"""


def test_processes_that_start_together_migrate_once(url):
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, url, str(n)], stdout=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in starts] == ["0"] * 3
    assert [process.returncode for process in starts] == [0] * 3


def test_a_schema_that_another_lwd_took_down_is_a_clear_error(url):
    with Catalog(url) as catalog:
        migrate_url(url, REVISIONS[0])
        assert not inspect(catalog._engine).has_table("waiting")
        with pytest.raises(ServiceError, match="restart this process"):
            catalog.insert_episode(row(1))
        assert catalog.count_episodes() == 0
