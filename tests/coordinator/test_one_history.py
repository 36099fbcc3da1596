"""Two coordinators at once, one paused that wakes, one that dies in a commit: one history."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text

from lwd.store.catalog import COORDINATOR as LEASE
from lwd.store.catalog import Catalog
from processes import COORDINATOR, wait_until

IN_COMMIT = """
import os, signal
from lwd.store import pointers
move = pointers.move
def struck(connection, name, version):
    move(connection, name, version)
    os.kill(os.getpid(), signal.{signal})
pointers.move = struck
"""
"""The last statement of the commit of a snapshot is done, the commit itself is not."""

AFTER_COMMIT = """
import os, signal
from lwd.store.catalog import Catalog
commit = Catalog.commit_snapshot
def struck(self, ids, *, token):
    commit(self, ids, token=token)
    os.kill(os.getpid(), signal.SIGKILL)
Catalog.commit_snapshot = struck
"""
"""The snapshot is committed, nobody was told."""


@pytest.fixture
def start(processes, config, queue_server):
    """Starts a coordinator; `before` is executed in its process first."""

    def _start(before: str = ""):
        return processes.start(before + COORDINATOR, config.root, config.queue_url)

    return _start


def members(catalog: Catalog) -> list[str]:
    return [row.episode_id for row in catalog.snapshot_episodes(catalog.snapshot_version())]


def history(catalog: Catalog) -> list[tuple[int, int, int]]:
    """Version, token and episodes of every snapshot; what they say is what they have."""
    engine = create_engine(catalog.url)
    with engine.connect() as connection:
        query = "SELECT version, token, added FROM snapshots ORDER BY version"
        rows = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    versions = [version for version, _, _ in rows]
    assert versions == list(range(1, len(rows) + 1))
    assert {version: added for version, _, added in rows} == catalog.member_counts()
    return rows


def joined(catalog: Catalog, rows: list) -> None:
    """Every episode joins, once, and tokens never go back."""
    wanted = sorted(row.episode_id for row in rows)
    wait_until(lambda: len(members(catalog)) >= len(wanted), "all episodes")
    assert sorted(members(catalog)) == wanted
    tokens = [token for _, token, _ in history(catalog)]
    assert tokens == sorted(tokens)
    assert catalog.dead_letters() == []


def test_of_two_at_once_one_works(start, catalog, produce):
    both = [start(), start()]
    rows = []
    for seed in range(4):
        rows.append(produce(seed=seed))
        joined(catalog, rows)
    assert len({token for _, token, _ in history(catalog)}) == 1
    assert all(process.poll() is None for process in both)


@pytest.mark.slow
def test_a_leader_that_was_paused_wakes_into_somebody_elses_reign(start, catalog, produce):
    paused = start()
    rows = [produce(seed=1)]
    joined(catalog, rows)
    os.kill(paused.pid, signal.SIGSTOP)
    start()
    rows.append(produce(seed=2))
    joined(catalog, rows)
    os.kill(paused.pid, signal.SIGCONT)
    rows += [produce(seed=seed) for seed in range(3, 6)]
    joined(catalog, rows)
    assert len({token for _, token, _ in history(catalog)}) == 2
    assert paused.poll() is None


@pytest.mark.slow
def test_a_leader_that_dies_in_its_commit_leaves_nothing_of_it(start, catalog, produce):
    rows = [produce(seed=1)]
    assert start(IN_COMMIT.format(signal="SIGKILL")).wait(60) == -signal.SIGKILL
    assert (catalog.snapshot_version(), history(catalog), members(catalog)) == (0, [], [])
    assert len(catalog.unsnapshotted(9)) == 1
    start()
    joined(catalog, rows)


@pytest.mark.slow
def test_a_leader_that_dies_right_after_its_commit_is_not_repeated(start, catalog, produce):
    rows = [produce(seed=1)]
    assert start(AFTER_COMMIT).wait(60) == -signal.SIGKILL
    joined(catalog, rows)
    start()
    rows.append(produce(seed=2))
    joined(catalog, rows)
    assert [added for _, _, added in history(catalog)] == [1, 1]


def test_a_leader_that_is_paused_in_its_commit_finishes_it_or_loses_it_whole(
    start, catalog, produce
):
    rows = [produce(seed=1)]
    paused = start(IN_COMMIT.format(signal="SIGSTOP"))
    wait_until(lambda: psutil.Process(paused.pid).status() == psutil.STATUS_STOPPED, "the pause")
    assert members(catalog) == []
    standby = start()
    wait_until(lambda: Path(f"/proc/{standby.pid}/task").exists(), "the standby")
    while catalog.snapshot_version() < 1:  # it stops itself in every commit of a snapshot
        os.kill(paused.pid, signal.SIGCONT)
        wait_until(lambda: members(catalog) or stopped(paused.pid), "the commit, or another pause")
    joined(catalog, rows)
    assert standby.poll() is None


def stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


@pytest.mark.slow
def test_the_lease_of_one_whose_clock_is_ahead_is_taken_when_it_is_silent(
    start, config, catalog, produce
):
    with Catalog(config.catalog, lambda: 4e9) as ahead:
        assert ahead.acquire_lease(LEASE, "ahead", 10.0) == 1
    start()
    rows = [produce(seed=1)]
    joined(catalog, rows)
    assert [token for _, token, _ in history(catalog)] == [2]
