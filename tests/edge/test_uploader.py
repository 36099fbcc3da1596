"""Uploader: every episode arrives exactly once, whatever fails and however often."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from lwd.edge import priority
from lwd.edge import uploader as uploader_module
from lwd.edge.announce import describe
from lwd.edge.spool import Spool
from lwd.edge.uploader import Uploader, run
from lwd.episode.payload import encode, new_id
from lwd.episode.types import Episode
from lwd.errors import ConflictError, ServiceError
from lwd.store import disk, parts
from lwd.store.backoff import Backoff
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.service import create_app
from processes import Processes, free_port, wait_until
from sample_episodes import JPEG, make_episode

GO = threading.Event()
"""A stop event that is never set."""


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool" / "robot-3") as spool:
        yield spool


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects((tmp_path / "objects").as_uri())


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        yield catalog


def saved(spool: Spool, **changes) -> Episode:
    episode = make_episode(**changes)
    spool.save(episode.header.episode_id, encode(episode))
    return episode


class Flaky:
    """Catalog whose service is away for the first `failures` calls, before or after the insert."""

    def __init__(self, catalog: Catalog, failures: int, *, late: bool = False):
        self.catalog, self.failures, self.late = catalog, failures, late
        self.calls: list[str] = []

    def insert_episode(self, row) -> bool:
        self.calls.append(row.episode_id)
        if self.failures == 0:
            return self.catalog.insert_episode(row)
        self.failures -= 1
        if self.late:
            self.catalog.insert_episode(row)
        raise ServiceError("The service is away.")


def test_row_says_what_the_episode_says() -> None:
    episode = make_episode(ticks=40, held_out=True)
    row = describe(episode, sha256="c" * 64, size_bytes=9)
    assert (row.ticks, row.interventions, row.held_out) == (40, 10, True)
    assert (row.kind, row.outcome, row.policy_version) == ("online", "success", 7)
    assert row.produced_at == episode.header.ended_at
    assert row.instruction == "put the red can on the shelf"


def test_episode_arrives(spool: Spool, objects: Objects, catalog: Catalog) -> None:
    episode = saved(spool)
    payload = spool.path(episode.header.episode_id).read_bytes()
    assert Uploader(objects, catalog).sweep([spool], GO) == (1, 0)
    row = catalog.episode(episode.header.episode_id)
    assert row is not None
    assert row.sha256 == sha256_of(payload)
    assert objects.get(episode_key(row.sha256)) == payload
    assert spool.pending() == []


@pytest.mark.parametrize("late", [False, True])
def test_service_away_is_retried(spool: Spool, objects: Objects, catalog: Catalog, late) -> None:
    """Also when the answer is lost after the insert: the second insert is the same row."""
    episode = saved(spool)
    sink = Flaky(catalog, failures=2, late=late)
    uploader = Uploader(objects, sink)
    results = [uploader.sweep([spool], GO) for _ in range(3)]
    assert results == [(0, 1), (0, 1), (1, 0)]
    assert catalog.count_episodes() == 1
    assert sink.calls == [episode.header.episode_id] * 3


def test_payload_is_stored_once_while_the_service_is_away(
    spool: Spool, objects: Objects, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(spool)
    puts: list[str] = []
    real = objects.put
    monkeypatch.setattr(objects, "put", lambda key, data: (puts.append(key), real(key, data)))
    uploader = Uploader(objects, Flaky(catalog, failures=3))
    while spool.pending():
        uploader.sweep([spool], GO)
    assert len(puts) == 1


def test_a_payload_that_was_collected_while_the_service_was_away_is_stored_again(
    spool: Spool, objects: Objects, catalog: Catalog
) -> None:
    now = 0.0
    uploader = Uploader(objects, Flaky(catalog, failures=2), lambda: now)
    saved(spool)
    uploader.sweep([spool], GO)
    (key,) = objects.list("episodes")
    now = 60.0
    uploader.sweep([spool], GO)
    objects.delete(key)
    now = 30 * 86_400.0
    assert uploader.sweep([spool], GO) == (1, 0)
    assert list(objects.list("episodes")) == [key]


def test_several_are_under_way_at_once_and_the_rows_of_a_robot_keep_their_order(
    spool: Spool, objects: Objects, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest payload is stored last, since it waits for the two others."""
    sink = Flaky(catalog, failures=0)
    uploader = Uploader(objects, sink)
    for _ in range(3):
        saved(spool, ticks=3)
    assert uploader.sweep([spool], GO) == (3, 0)
    made = [saved(spool, ticks=3).header.episode_id for _ in range(3)]
    oldest = episode_key(sha256_of(spool.path(made[0]).read_bytes()))
    stored, others, real = [], threading.Event(), objects.put

    def put(key: str, data: bytes) -> None:
        if key == oldest and not others.wait(20):
            raise ServiceError("The others were not under way.")
        real(key, data)
        stored.append(key)
        if len(stored) == 2:
            others.set()

    monkeypatch.setattr(objects, "put", put)
    assert uploader.sweep([spool], GO) == (3, 0)
    assert stored[-1] == oldest
    assert sink.calls[3:] == made


@pytest.mark.parametrize("earlier", [0, 6])
def test_away_service_is_not_asked_for_every_episode(
    spool: Spool, objects: Objects, catalog: Catalog, earlier
) -> None:
    """After good times the first failures may come from several that are under way."""
    sink = Flaky(catalog, failures=0)
    uploader = Uploader(objects, sink, at_once=4)
    for _ in range(earlier):
        saved(spool, ticks=3)
    assert uploader.sweep([spool], GO) == (earlier, 0)
    for _ in range(12):
        saved(spool, ticks=3)
    sink.failures = 100
    if earlier:
        assert 3 <= uploader.sweep([spool], GO)[1] <= 3 + 4
    sink.calls.clear()
    assert uploader.sweep([spool], GO) == (0, 3)
    assert len(sink.calls) == 3


def test_one_odd_episode_does_not_hold_up_the_others(
    spool: Spool, objects: Objects, catalog: Catalog
) -> None:
    odd, *good = [saved(spool, ticks=3).header.episode_id for _ in range(6)]

    class Sink:
        def insert_episode(self, row) -> bool:
            if row.episode_id == odd:
                raise ServiceError("The service fails at this one.")
            return catalog.insert_episode(row)

    uploader = Uploader(objects, Sink())
    assert uploader.sweep([spool], GO) == (5, 1)
    late = saved(spool, ticks=3).header.episode_id
    assert uploader.sweep([spool], GO) == (1, 1)
    assert spool.pending() == [odd]
    assert all(catalog.episode(i) is not None for i in [*good, late])


def test_bad_payload_is_quarantined_with_its_reason(
    spool: Spool, objects: Objects, catalog: Catalog
) -> None:
    good = saved(spool).header.episode_id
    episode = make_episode()
    nan = np.full(6, np.nan, np.float32).tobytes()
    poison = encode(episode).replace(episode.state[4].tobytes(), nan)
    bad, torn, other = episode.header.episode_id, new_id(), new_id()
    spool.save(bad, poison)
    spool.save(torn, encode(make_episode())[:1000])
    spool.save(other, encode(make_episode()))
    assert Uploader(objects, catalog).sweep([spool], GO) == (4, 0)
    assert catalog.count_episodes() == 1
    assert catalog.episode(good) is not None
    reasons = spool.rejected()
    assert set(reasons) == {bad, torn, other}
    assert "state is not finite" in reasons[bad]
    assert "cut off" in reasons[torn]
    assert "is of" in reasons[other]
    assert len(list(objects.list("episodes"))) == 1


def test_conflict_is_quarantined(spool: Spool, objects: Objects) -> None:
    class Sink:
        def insert_episode(self, row) -> bool:
            raise ConflictError(f"Episode {row.episode_id} has another hash.")

    episode_id = saved(spool).header.episode_id
    assert Uploader(objects, Sink()).sweep([spool], GO) == (1, 0)
    assert "another hash" in spool.rejected()[episode_id]


def test_store_that_forgets_is_no_fault_of_the_episode(
    spool: Spool, objects: Objects, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing bucket, or an object that is not there right after its put: keep and try again."""
    episode_id = saved(spool).header.episode_id
    monkeypatch.setattr(objects, "put", lambda key, data: None)
    uploader = Uploader(objects, catalog)
    assert uploader.sweep([spool], GO) == (0, 1)
    assert spool.pending() == [episode_id]
    assert catalog.count_episodes() == 0
    monkeypatch.undo()
    assert uploader.sweep([spool], GO) == (1, 0)
    assert spool.rejected() == {}


def test_full_disk_only_delays_a_rejection(
    spool: Spool, objects: Objects, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode_id = new_id()
    spool.save(episode_id, b"not an episode")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    uploader = Uploader(objects, catalog)
    assert uploader.sweep([spool], GO) == (0, 1)
    assert spool.pending() == [episode_id]
    monkeypatch.undo()
    assert uploader.sweep([spool], GO) == (1, 0)
    assert set(spool.rejected()) == {episode_id}


def test_delays_grow_with_jitter_up_to_a_limit() -> None:
    backoff = Backoff(first_s=1.0, limit_s=8.0)
    assert [backoff.delay(n, 0.0) for n in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 8, 8]
    assert backoff.delay(3, 0.5) == 3.0
    assert backoff.delay(3, 1.0) == 2.0


def test_run_backs_off_while_the_service_is_away_and_then_catches_up(
    tmp_path: Path, objects: Objects, catalog: Catalog
) -> None:
    """Time is injected: the stop event notes each wait and sets itself when all is done."""
    spools = [Spool(tmp_path / "spool" / f"robot-{i}") for i in range(2)]
    for spool in spools:
        saved(spool, ticks=3)
        spool.close()

    class Waits(threading.Event):
        waits: tuple[float, ...] = ()

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            self.waits += (timeout,)
            if len(self.waits) == 2:
                saved(Spool(tmp_path / "spool" / "robot-new"), ticks=3)  # noticed without a restart
            if len(self.waits) == 4:
                self.set()
            return self.is_set()

    stop = Waits()
    backoff = Backoff(first_s=1.0, limit_s=8.0)
    sink = Flaky(catalog, failures=4)
    uploader = Uploader(objects, sink)
    run(tmp_path / "spool", uploader, stop, poll_s=0.1, backoff=backoff, draw=lambda: 0.0)
    assert stop.waits == (1.0, 2.0, 0.1, 0.1)
    assert catalog.count_episodes() == 3


def test_a_stray_file_or_an_odd_folder_holds_up_no_other_robot(
    tmp_path: Path, objects: Objects, catalog: Catalog, caplog
) -> None:
    root = tmp_path / "spool"
    with Spool(root / "robot-a") as first, Spool(root / "robot-b") as other:
        stray = first.root / "pending" / "copy of it.arrow"
        stray.write_bytes(b"x")
        os.utime(stray, (1, 1))
        ids = [saved(each, ticks=3).header.episode_id for each in (first, other)]
    (root / "odd" / "pending").mkdir(parents=True)
    (root / "odd" / "done").write_bytes(b"no folder")
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, root, Uploader(objects, catalog), stop, poll_s=0.01)
        try:
            wait_until(lambda: catalog.count_episodes() == 2 or running.done(), "the episodes")
        finally:
            stop.set()
        running.result(20)
    assert all(catalog.episode(episode_id) is not None for episode_id in ids)
    assert stray.exists()
    assert caplog.text.count("copy of it.arrow") == 1
    assert caplog.text.count("spool left out spool=odd") == 1


def test_a_spool_that_vanishes_holds_up_no_other_robot(
    tmp_path: Path, spool: Spool, objects: Objects, catalog: Catalog, caplog
) -> None:
    gone = Spool(tmp_path / "spool" / "gone")
    shutil.rmtree(gone.root)
    saved(spool, ticks=3)
    assert Uploader(objects, catalog).sweep([gone, spool], GO) == (1, 0)
    assert "spool left out spool=gone" in caplog.text


PROCESS = """
import sys, threading
from pathlib import Path
from lwd.edge.uploader import Uploader, run
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects
from lwd.store.process import stop_on_signals
stop = stop_on_signals()
uploader = Uploader(Objects(sys.argv[2]), Catalog(sys.argv[3]))
run(Path(sys.argv[1]), uploader, stop, poll_s=0.02)
"""


MAIN = """
import sys
from pathlib import Path
from lwd.edge.uploader import main
main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


@contextmanager
def service(catalog: Catalog, port: int) -> Iterator[None]:
    """The metadata service on a port, without its queue."""
    server = uvicorn.Server(uvicorn.Config(create_app(catalog), port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the service")
        yield
    finally:
        server.should_exit = True
        thread.join(20)


def test_process_waits_for_the_service_and_ends_on_sigterm(
    tmp_path: Path, spool: Spool, objects: Objects, catalog: Catalog
) -> None:
    first = saved(spool, ticks=3).header.episode_id
    port = free_port()
    processes = Processes()
    try:
        url = f"http://127.0.0.1:{port}"
        process = processes.start(MAIN, tmp_path / "spool", objects.url, url)
        wait_until(lambda: list(objects.list("episodes")), "the payload")
        assert spool.pending() == [first]
        with service(catalog, port):
            wait_until(lambda: not spool.pending(), "the row")
            second = saved(spool, ticks=3).header.episode_id
            wait_until(lambda: catalog.episode(second) is not None, "the second episode")
        assert processes.stop(process) == 0
    finally:
        processes.close()
    assert catalog.count_episodes() == 2
    assert spool.rejected() == {}


def test_killed_uploader_delivers_each_episode_exactly_once(
    tmp_path: Path, spool: Spool, objects: Objects, catalog: Catalog
) -> None:
    ids = {saved(spool, ticks=50, seed=i).header.episode_id for i in range(30)}
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "spool"), objects.url, url]
    for target in (4, 12, 30):
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 60
            while catalog.count_episodes() < target and time.monotonic() < deadline:
                time.sleep(0.01)
            last = target == 30
            while last and spool.pending() and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM if last else signal.SIGKILL)
            assert process.wait(60) == (0 if last else -signal.SIGKILL)
    assert catalog.count_episodes() == 30
    assert spool.pending() == []
    assert spool.rejected() == {}
    rows = [catalog.episode(i) for i in ids]
    assert all(row is not None and objects.exists(episode_key(row.sha256)) for row in rows)


SLOW = """
import sys
from pathlib import Path
from lwd.config import EdgeConfig
from lwd.edge.uploader import main
edge = EdgeConfig(bytes_per_s=float(sys.argv[4]))
main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], edge=edge)
"""


def large_episode() -> Episode:
    """An episode of some five megabytes."""
    episode = make_episode(40)
    noise = JPEG + np.random.default_rng(0).bytes(130_000)
    return replace(episode, images={"wrist": tuple(noise for _ in range(episode.ticks + 1))})


def test_a_killed_upload_goes_on_where_it_broke_off(
    tmp_path: Path, spool: Spool, catalog: Catalog, s3_url: str
) -> None:
    """A real store: what was sent before the kill is not sent again, and the parts are joined."""
    store, episode = Objects(s3_url), large_episode()
    spool.save(episode.header.episode_id, encode(episode))
    payload = spool.path(episode.header.episode_id).read_bytes()
    sha256, port, processes = sha256_of(payload), free_port(), Processes()
    arguments = (tmp_path / "spool", s3_url, f"http://127.0.0.1:{port}")
    try:
        first = processes.start(SLOW, *arguments, 1_000_000)
        wait_until(lambda: len(parts.present(store, sha256)) >= 2, "some parts")
        processes.kill(first)
        before = {s.key: s.modified_at for s in store.inventory(parts.INCOMING)}
        assert 0 < sum(part.size for part in parts.present(store, sha256)) < len(payload)
        with service(catalog, port):
            second = processes.start(SLOW, *arguments, 0)
            wait_until(lambda: not spool.pending(), "the row")
            assert processes.stop(second) == 0
    finally:
        processes.close()
    after = {s.key: s.modified_at for s in store.inventory(parts.INCOMING)}
    assert before.items() <= after.items()
    assert parts.read(store, sha256, len(payload)) == payload


def test_parts_that_rotted_after_a_kill_are_sent_again(spool: Spool, catalog: Catalog) -> None:
    store, episode = Objects("memory:///"), large_episode()
    payload = encode(episode)
    spool.save(episode.header.episode_id, payload)
    sha256 = sha256_of(payload)
    store.put(f"{parts.INCOMING}/{sha256}/0-5000", bytes(5000))
    store.put(f"{parts.INCOMING}/{sha256}/5000-5000", payload[5000:10000])
    Uploader(store, catalog).upload(spool, episode.header.episode_id)
    assert parts.Part(5000, 5000) in parts.present(store, sha256)
    assert parts.read(store, sha256, len(payload)) == payload


@pytest.mark.parametrize(
    ("first", "order"),
    [
        ((), ["success", "helped", "failure"]),
        (("failure",), ["failure", "success", "helped"]),
        (("intervention",), ["helped", "success", "failure"]),
        (("failure", "intervention"), ["helped", "failure", "success"]),
    ],
)
def test_failures_and_interventions_go_first_where_asked(
    spool: Spool, objects: Objects, catalog: Catalog, first, order
) -> None:
    made = [saved(spool, ticks=3), saved(spool, ticks=8), saved(spool, ticks=3, outcome="failure")]
    names = dict(
        zip((e.header.episode_id for e in made), ("success", "helped", "failure"), strict=True)
    )
    sink = Flaky(catalog, failures=0)
    assert Uploader(objects, sink, first=first).sweep([spool], GO) == (3, 0)
    assert [names[call] for call in sink.calls] == order


def test_what_goes_first_is_asked_of_a_bounded_part_of_a_backlog_in_each_sweep(
    spool: Spool, objects: Objects, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is asked about in later sweeps, and nothing twice."""
    monkeypatch.setattr(uploader_module, "_SWEEP", 2)
    monkeypatch.setattr(uploader_module, "_ASKED", 5)
    asked, before = [], []

    def urgent(path: Path, first: object) -> bool:
        asked.append(path.stem)
        return path.stem == ids[8]

    monkeypatch.setattr(priority, "urgent", urgent)
    ids = [saved(spool, ticks=3).header.episode_id for _ in range(12)]
    sink = Flaky(catalog, failures=0)
    uploader = Uploader(objects, sink, first=("failure",))
    while spool.pending():
        before.append(len(asked))
        uploader.sweep([spool], GO)
    assert before == [0, 5, 10, 12, 12, 12]
    assert asked == ids
    assert sink.calls == [*ids[:2], ids[8], *ids[2:8], *ids[9:]]
