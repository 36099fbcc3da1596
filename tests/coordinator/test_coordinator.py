"""The coordinator against a real queue: nothing lost, nothing twice, one leader, poison aside."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lwd.cli import main
from lwd.coordinator.service import Plane, Reign, _lead, catch_up, follow_notices, reconcile, run
from lwd.coordinator.snapshots import Fate
from lwd.errors import ConflictError
from lwd.store import parts
from lwd.store.catalog import COORDINATOR as LEASE
from lwd.store.catalog import EPISODES, Catalog
from lwd.store.objects import Objects, episode_key
from lwd.store.queue import Message, Queue
from processes import COORDINATOR, wait_until


@pytest.fixture
def queue(config, queue_server):
    with Queue(config.queue_url) as opened:
        yield opened


@pytest.fixture
def plane(catalog, objects, queue):
    with ThreadPoolExecutor(2) as pool:
        yield Plane(catalog=catalog, objects=objects, queue=queue, pool=pool, patience_s=60.0)


@pytest.fixture
def coordinator(config):
    """Starts a coordinator in a thread; it is stopped and joined at the end."""
    stop, threads = threading.Event(), []

    def _start(**changes) -> threading.Event:
        threads.append(threading.Thread(target=run, args=(replace(config, **changes), stop)))
        threads[-1].start()
        return stop

    yield _start
    stop.set()
    for thread in threads:
        thread.join(20)


def announce(catalog, queue) -> None:
    """What the service's relay does."""
    for notice in catalog.unpublished(100):
        queue.publish(notice.subject, notice.payload.encode(), notice.key)
        catalog.mark_published([notice.outbox_id])


def reign_of(catalog, holder: str = "me", lease_s: float = 60.0):
    """The lease, taken."""
    token = catalog.acquire_lease(LEASE, holder, lease_s)
    assert token is not None
    return Reign(catalog, holder, token, 60.0)


def noticed(plane) -> list[Message]:
    """What a coordinator takes from the queue at a time."""
    return plane.queue.pull("coordinator", 64, 0.5)


def reconciled(plane, reign) -> int:
    """How many joined that no notice brought."""
    verdicts, _ = reconcile(plane, reign, 0.0)
    return sum(verdict.fate is Fate.JOIN for verdict in verdicts)


def members(catalog) -> list[str]:
    return [row.episode_id for row in catalog.snapshot_episodes(catalog.snapshot_version())]


def test_noticed_episodes_join_once_although_notices_come_twice(plane, catalog, queue, produce):
    rows = [produce(seed=n) for n in range(3)]
    announce(catalog, queue)
    for row in rows:
        queue.publish(EPISODES, b'{"episode_id": "%s"}' % row.episode_id.encode(), "again")
    reign = reign_of(catalog)
    for _ in range(2):
        follow_notices(plane, reign, noticed(plane))
    assert sorted(members(catalog)) == sorted(row.episode_id for row in rows)
    assert catalog.dead_letters() == []
    assert queue.pull("coordinator", 10, 0.1) == []


def test_a_payload_that_came_in_parts_is_joined(plane, catalog, objects, produce, payloads):
    row, other = produce(seed=1, upload=False), produce(seed=2, upload=False)
    payload = payloads[episode_key(row.sha256)]
    reign = reign_of(catalog)
    parts.send(objects, row.sha256, payload, part_bytes=1000)
    parts.send(objects, other.sha256, payloads[episode_key(other.sha256)][:-1], part_bytes=1000)
    assert reconciled(plane, reign) == 1
    assert members(catalog) == [row.episode_id]
    assert objects.get(episode_key(row.sha256)) == payload
    assert parts.present(objects, row.sha256) == []
    assert parts.present(objects, other.sha256) != []
    assert catalog.dead_letters() == []


def test_poison_goes_to_the_dead_letters_and_the_others_join(plane, catalog, queue, produce):
    good = produce(seed=1)
    lying = produce(seed=2, task="another")
    torn = produce(seed=3)
    plane.objects.put(f"episodes/{torn.sha256}", b"x" * torn.size_bytes)
    last = produce(seed=4)
    announce(catalog, queue)
    queue.publish(EPISODES, b"\x80not a notice", "poison")
    queue.publish(EPISODES, b'{"episode_id": "stranger"}', "stranger")
    reign = reign_of(catalog)
    follow_notices(plane, reign, noticed(plane))
    assert set(members(catalog)) == {good.episode_id, last.episode_id}
    reasons = {letter.episode_id: letter.reason for letter in catalog.dead_letters()}
    assert set(reasons) == {lying.episode_id, torn.episode_id, "poison", "stranger"}
    assert "task" in reasons[lying.episode_id]
    assert "sha256" in reasons[torn.episode_id]
    assert queue.pull("coordinator", 10, 0.1) == []
    assert reconciled(plane, reign) == 0


def test_a_notice_whose_payload_is_late_comes_again(
    plane, catalog, queue, produce, payloads, monkeypatch
):
    monkeypatch.setattr("lwd.coordinator.service.RETRY_S", 0.1)
    late = produce(upload=False)
    announce(catalog, queue)
    reign = reign_of(catalog)
    follow_notices(plane, reign, noticed(plane))
    assert (members(catalog), catalog.dead_letters()) == ([], [])
    ((key, payload),) = payloads.items()
    plane.objects.put(key, payload)
    wait_until(
        lambda: follow_notices(plane, reign, noticed(plane)) or members(catalog), "the notice"
    )
    assert members(catalog) == [late.episode_id]


def test_a_stale_leader_cannot_commit_and_its_notices_come_again(plane, catalog, queue, produce):
    row = produce()
    announce(catalog, queue)
    stale = reign_of(catalog, "old", 0.0)
    reign = reign_of(catalog, "new")
    with pytest.raises(ConflictError, match="stale"):
        follow_notices(plane, stale, noticed(plane))
    assert members(catalog) == []
    assert reconciled(plane, reign) == 1
    assert members(catalog) == [row.episode_id]


def test_a_stale_leader_gives_nothing_up(plane, catalog, queue, produce):
    torn = produce()
    plane.objects.put(episode_key(torn.sha256), b"x" * torn.size_bytes)
    queue.publish(EPISODES, b"not a notice", "poison")
    stale = reign_of(catalog, "old", 0.0)
    reign = reign_of(catalog, "new")
    for work in (
        lambda: reconcile(plane, stale, 0.0),
        lambda: follow_notices(plane, stale, noticed(plane)),
    ):
        with pytest.raises(ConflictError, match="stale"):
            work()
    assert catalog.dead_letters() == []
    reconcile(plane, reign, 0.0)
    assert [letter.episode_id for letter in catalog.dead_letters()] == [torn.episode_id]


def test_a_leader_that_was_overtaken_steps_down(plane, config, catalog, produce):
    stop, row = threading.Event(), produce()
    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(_lead, plane, replace(config, lease_s=0.5), "slow", stop)
        try:
            wait_until(lambda: members(catalog) == [row.episode_id], "the leader")
            with Catalog(config.catalog, clock=lambda: time.time() + 1000.0) as hasty:
                assert hasty.acquire_lease(LEASE, "hasty", 10.0) is not None
            with pytest.raises(ConflictError, match="not the newest"):
                leading.result(20)
        finally:
            stop.set()


def test_of_two_the_one_whose_downloads_outlast_its_lease_keeps_it(
    coordinator, catalog, produce, monkeypatch
):
    get = Objects.get

    def _get(self, key: str, **options) -> bytes:
        time.sleep(0.5)
        return get(self, key, **options)

    monkeypatch.setattr(Objects, "get", _get)
    monkeypatch.setattr("lwd.coordinator.service.DOWNLOADS", 1)
    rows = {produce(seed=n).episode_id for n in range(5)}
    for _ in range(2):
        coordinator(lease_s=1.0)
    wait_until(lambda: set(members(catalog)) == rows, "a snapshot", 30.0)


def test_an_episode_whose_notice_was_lost_is_found(coordinator, catalog, queue, produce):
    row = produce()
    catalog.mark_published([notice.outbox_id for notice in catalog.unpublished(10)])
    coordinator()
    wait_until(lambda: members(catalog) == [row.episode_id], "reconciliation")


def test_without_a_queue_episodes_still_join(coordinator, catalog, produce, caplog):
    rows = [produce(seed=n) for n in range(3)]
    coordinator()
    wait_until(lambda: len(members(catalog)) == 3, "reconciliation")
    rows.append(produce(seed=4))
    wait_until(lambda: len(members(catalog)) == 4, "reconciliation")
    assert set(members(catalog)) == {row.episode_id for row in rows}
    assert caplog.text.count("queue away") == 1


def test_what_is_there_can_be_taken_in_once_without_a_queue(config, catalog, produce, monkeypatch):
    rows = {produce(seed=n).episode_id for n in range(3)}
    assert catch_up(config) == (1, [])
    assert set(members(catalog)) == rows
    assert catch_up(config) == (1, [])
    catalog.acquire_lease(LEASE, "another", 60.0)
    monkeypatch.setattr(
        "lwd.coordinator.service._acquire", lambda *_: None
    )  # it never falls silent
    with pytest.raises(ConflictError, match="at work, another: it takes"):
        catch_up(config)


def test_one_that_waits_keeps_nobody_else_out(config, catalog, produce, monkeypatch, capsys):
    monkeypatch.setattr("lwd.coordinator.service.RECONCILE_BATCH", 4)
    rows = [produce(seed=n, upload=n != 1) for n in range(10)]
    monkeypatch.setattr(sys, "argv", ["lwd", "coordinator", "--once", "--root", str(config.root)])
    with pytest.raises(SystemExit, match=f"still wait: 1; .*{rows[1].sha256} is not there yet"):
        main()
    assert "at version 3" in capsys.readouterr().out
    assert set(members(catalog)) == {row.episode_id for row in rows} - {rows[1].episode_id}


def test_what_waits_longest_keeps_nobody_else_out(coordinator, catalog, produce, monkeypatch):
    monkeypatch.setattr("lwd.coordinator.service.RECONCILE_BATCH", 2)
    rows = [produce(seed=n, upload=n > 3) for n in range(6)]
    coordinator(patience_s=600.0)
    wait_until(lambda: len(members(catalog)) == 2, "those whose payloads are there")
    assert catalog.count_unsnapshotted() == 4
    assert set(members(catalog)) == {row.episode_id for row in rows[4:]}


def test_a_payload_that_never_comes_is_given_up(coordinator, catalog, produce):
    row = produce(upload=False)
    coordinator()
    wait_until(catalog.dead_letters, "the dead letter")
    assert [letter.episode_id for letter in catalog.dead_letters()] == [row.episode_id]
    assert members(catalog) == []


def test_a_killed_leader_is_replaced_and_nothing_is_lost_or_twice(
    config, catalog, queue, produce, processes
):
    leader = processes.start(COORDINATOR, config.root, config.queue_url)
    first = produce(seed=1)
    announce(catalog, queue)
    wait_until(lambda: members(catalog) == [first.episode_id], "the first snapshot")
    standby = processes.start(COORDINATOR, config.root, config.queue_url)
    processes.kill(leader)
    rows = [first, *(produce(seed=n) for n in range(2, 6))]
    announce(catalog, queue)
    wait_until(lambda: len(members(catalog)) == 5, "the takeover")
    assert sorted(members(catalog)) == sorted(row.episode_id for row in rows)
    assert processes.stop(standby) == 0


def test_a_stopped_leader_gives_the_lease_back_at_once(coordinator, config, catalog, produce):
    row = produce()
    stop = coordinator(lease_s=600.0)
    wait_until(lambda: members(catalog) == [row.episode_id], "work")
    assert catalog.acquire_lease(LEASE, "next", 1.0) is None
    stop.set()
    wait_until(lambda: catalog.acquire_lease(LEASE, "next", 1.0), "the lease")
