"""The catalog: idempotence, conflicts, fencing, monotonic snapshots, racing writers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import event

from lwd.errors import ConfigError, ConflictError, IntegrityError
from lwd.store.catalog import COORDINATOR, EPISODES, Catalog
from lwd.store.rows import LoadRow
from sample_rows import POLICY, Clock, row


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


def test_the_coordinator_gives_up_nothing_with_a_stale_token_and_no_member(catalog):
    for number in (1, 2):
        catalog.insert_episode(row(number))
    stale = catalog.acquire_lease(COORDINATOR, "a", 0.0)
    token = catalog.acquire_lease(COORDINATOR, "b", 10.0)
    catalog.commit_snapshot([row(1).episode_id], token=token)
    with pytest.raises(ConflictError, match="stale"):
        catalog.dead_letter(row(2).episode_id, "torn", "coordinator", token=stale)
    for number in (1, 2):
        catalog.dead_letter(row(number).episode_id, "torn", "coordinator", token=token)
    assert [letter.episode_id for letter in catalog.dead_letters()] == [row(2).episode_id]


def test_reconciliation_skips_young_episodes_and_dead_letters(catalog, clock):
    catalog.insert_episode(row(1))
    catalog.insert_episode(row(2))
    clock.now += 5.0
    catalog.insert_episode(row(3))
    catalog.dead_letter(row(1).episode_id, "torn", "coordinator")
    catalog.dead_letter(row(1).episode_id, "another reason", "coordinator")
    assert [r.episode_id for r in catalog.unsnapshotted(10, 3.0)] == [row(2).episode_id]
    assert len(catalog.unsnapshotted(1)) == 1
    assert catalog.count_unsnapshotted() == 2
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
    assert catalog.unpublished(10) == [], "robots ask the service for weights, not the queue"


def test_loads_availability_and_counts(catalog):
    load = LoadRow(robot="arm-1", version=2, loaded_at=5.0)
    catalog.report_load(load)
    catalog.report_load(load)
    assert catalog.loads() == [load]
    catalog.report_load(LoadRow(robot="arm-1", version=1, loaded_at=6.0))
    catalog.report_load(LoadRow(robot="arm-2", version=2, loaded_at=4.0))
    assert catalog.acting() == {"arm-1": 1, "arm-2": 2}
    catalog.report_load(LoadRow(robot="arm-1", version=3, loaded_at=5.5))  # its clock was set back
    assert catalog.acting() == {"arm-1": 3, "arm-2": 2}
    catalog.record_available("e", "host-1", 9.0)
    catalog.record_available("e", "host-0", 7.0)
    catalog.record_available("e", "host-0", 3.0)
    assert catalog.availability() == {"e": 7.0}
    catalog.record_available([], "host-0", 9.0)
    catalog.insert_episode(row(1))
    catalog.insert_episode(row(2, task="make_juice", held_out=True))
    assert catalog.count_episodes() == 2
    assert catalog.count_episodes(task="make_tea", held_out=False) == 1
    with pytest.raises(ConfigError, match="task"):
        catalog.count_episodes(tsk="make_tea")


def test_many_ids_at_once(catalog, monkeypatch):
    monkeypatch.setattr("lwd.store.engine.CHUNK", 7)
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


def test_any_number_of_episodes_is_made_available_by_one_statement(catalog):
    catalog.record_available("7", "host-0", 3.0)
    inserts = []

    @event.listens_for(catalog._engine, "before_cursor_execute")
    def note(connection, cursor, statement: str, *rest) -> None:
        inserts.extend([statement] if statement.startswith("INSERT") else [])

    catalog.record_available([str(number) for number in range(1000)], "host-0", 9.0)
    assert len(inserts) == 1
    found = catalog.availability()
    assert (len(found), found.pop("7"), set(found.values())) == (1000, 3.0, {9.0})
