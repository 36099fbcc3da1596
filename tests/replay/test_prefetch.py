"""Prefetching: pure plans, verified downloads, and a process that may die at any time."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lwd.edge.announce import describe
from lwd.replay.cache import local_path
from lwd.replay.order import START
from lwd.replay.prefetch import Downloader, Inbox, Settings, plan
from lwd.replay.reader import Options
from lwd.replay.supervisor import Subprocess
from lwd.store.objects import episode_key
from lwd.store.rows import EpisodeRow
from processes import wait_until
from sample_episodes import make_episode


def row_of(name: str, size: int = 10, **changes) -> EpisodeRow:
    return replace(describe(make_episode(ticks=1), sha256=name, size_bytes=size), **changes)


ROWS = [row_of(name) for name in "abcdef"]


def planned(loaded: int, local: str, cache_bytes: int, **options) -> tuple[str, str]:
    found = plan(ROWS, loaded, dict.fromkeys(local, 10), cache_bytes=cache_bytes, **options)
    return "".join(found.evict), "".join(row.sha256 for row in found.fetch)


@pytest.mark.parametrize(
    ("loaded", "local", "cache_bytes", "expected"),
    [
        (0, "", 1000, ("", "abcdef")),
        (0, "", 30, ("", "abc")),
        (0, "abc", 30, ("", "")),
        (2, "abc", 30, ("ab", "de")),
        (2, "abc", 40, ("ab", "def")),
        (2, "xabc", 40, ("xab", "def")),
        (2, "xabc", 50, ("xa", "def")),
        (6, "abcdef", 10, ("", "")),
        (0, "", 5, ("", "a")),
        (3, "abc", 5, ("abc", "d")),
        (3, "d", 5, ("", "")),
    ],
)
def test_plan(loaded: int, local: str, cache_bytes: int, expected: tuple[str, str]) -> None:
    """Strangers go first, then the oldest loaded; what is ahead stays; one always has room."""
    assert planned(loaded, local, cache_bytes) == expected


def test_plan_goes_round_what_rests_and_what_is_held_out() -> None:
    assert planned(0, "", 1000, waiting=frozenset("ac")) == ("", "bdef")
    rows = [ROWS[0], replace(ROWS[1], held_out=True), ROWS[2]]
    assert [row.sha256 for row in plan(rows, 0, {}, cache_bytes=99).fetch] == ["a", "c"]


class Looked(list):
    """Rows that count how often one of them was looked at."""

    looks = 0

    def __getitem__(self, index):
        found = super().__getitem__(index)
        self.looks += len(found) if isinstance(index, slice) else 1
        return found


def test_every_row_is_looked_at_a_few_times_however_many_there_are(plane, monkeypatch) -> None:
    monkeypatch.setattr(plane.objects, "get_to", lambda *args, **options: None)
    rows = Looked(replace(ROWS[0], sha256=f"{n:064x}", held_out=n % 9 == 0) for n in range(900))
    given = downloader(plane)
    while given.step(rows, 0):
        continue
    assert len(given.local) == 800
    assert rows.looks < 5 * len(rows)


def downloader(plane, clock=lambda: 0.0, **settings) -> Downloader:
    return Downloader(
        plane.objects,
        Settings(
            catalog_url=plane.catalog.url,
            objects_url=plane.objects.url,
            cache_dir=str(plane.folder / "cache"),
            **settings,
        ),
        clock=clock,
    )


def test_downloads_are_verified_and_whole(plane, fleet) -> None:
    rows = [plane.put(episode) for episode in fleet]
    damaged = plane.folder / "objects" / episode_key(rows[3].sha256)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    given = downloader(plane)
    assert given.step(rows, 0) == 5
    names = {path.name for path in (plane.folder / "cache").iterdir()}
    assert names == {f"{row.sha256}.arrow" for i, row in enumerate(rows) if i != 3}
    assert given.step(rows, 0) == 0


def test_retries_are_bounded_then_rest_then_go_on(plane, fleet) -> None:
    lost = plane.put(fleet[0], store=False)
    now = 0.0
    given = downloader(plane, clock=lambda: now, attempts=3, rest_s=30.0)
    tries = []
    while now < 40.0:
        before = given.troubles[lost.sha256].failures if given.troubles else 0
        given.step([lost], 0)
        if given.troubles[lost.sha256].failures > before:
            tries.append(round(now, 1))
        now += 0.1
    assert tries == pytest.approx([0.0, 0.2, 0.6, 30.6, 30.8, 31.2], abs=0.11)
    plane.put(fleet[0])
    now = 100.0
    assert given.step([lost], 0) == 1
    assert given.troubles == {}


def test_restart_keeps_whole_files_and_drops_parts(plane, fleet) -> None:
    rows = [plane.put(episode) for episode in fleet]
    downloader(plane).step(rows[:2], 0)
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        part = plane.folder / "cache" / f".abc.arrow.{killed.pid}.part"
    part.write_bytes(b"half")
    again = downloader(plane)
    assert set(again.local) == {row.sha256 for row in rows[:2]}
    assert not part.exists()


def test_a_restart_leaves_alone_what_a_live_process_downloads(plane, fleet, monkeypatch) -> None:
    row, whole = plane.put(fleet[0]), plane.objects._chunks

    def meanwhile(key: str) -> Iterator[bytes]:
        yield from whole(key)
        downloader(plane)

    monkeypatch.setattr(plane.objects, "_chunks", meanwhile)
    path = local_path(plane.folder / "cache", row.sha256)
    plane.objects.get_to(episode_key(row.sha256), path, sha256=row.sha256)
    assert path.stat().st_size == row.size_bytes


def test_inbox_hears_progress_damage_and_the_end() -> None:
    read_end, write_end = os.pipe()
    with io.FileIO(read_end), io.FileIO(write_end, "w") as pipe:
        inbox = Inbox(read_end)
        inbox.wait(0.0)
        assert (inbox.loaded, inbox.closed) == (START, False)
        pipe.write(b'{"loaded": [3, "ab"]}\n{"damaged": "ab"}\n{"loa')
        inbox.wait(1.0)
        assert (inbox.loaded, inbox.forgotten, inbox.closed) == ((3, "ab"), ["ab"], False)
        pipe.write(b'ded": [44, "cd"]}\n')
        inbox.wait(1.0)
        assert inbox.loaded == (44, "cd")
        pipe.close()
        inbox.wait(1.0)
        assert inbox.closed


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_killed_prefetcher_is_replaced_and_the_data_arrives(plane, read, fleet) -> None:
    plane.commit(*fleet[:3])
    reader = read(options=Options())
    wait_until(lambda: reader.sync() == 1, "the first snapshot")
    supervised = reader._prefetch
    assert isinstance(supervised, Subprocess)
    first = supervised.pid
    os.kill(first, signal.SIGKILL)
    plane.commit(*fleet[3:])
    wait_until(lambda: reader.sync() == 2, "the second snapshot")
    assert supervised.pid != first
    reader.close()
    assert not alive(supervised.pid)


def test_prefetcher_fetches_before_the_reader_asks(plane, read, fleet) -> None:
    reader = read(options=Options())
    rows = [plane.put(episode) for episode in fleet]
    plane.snapshot(*rows)
    cache = plane.folder / "cache"
    wait_until(lambda: all(local_path(cache, row.sha256).exists() for row in rows), "payloads")
    assert reader.version == 0
    assert reader.sync() == 1


def test_prefetcher_fetches_a_damaged_file_again(plane, read, fleet) -> None:
    rows = [plane.put(episode) for episode in fleet]
    plane.snapshot(*rows)
    reader = read(options=Options())
    paths = [local_path(plane.folder / "cache", row.sha256) for row in rows]
    wait_until(lambda: all(path.exists() for path in paths), "payloads")
    paths[0].write_bytes(b"rot")
    wait_until(lambda: reader.sync() == 1, "the snapshot")
    assert paths[0].stat().st_size == rows[0].size_bytes


ORPHAN = """
import sys
from pathlib import Path
from lwd.replay.reader import Reader
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects
catalog, objects, cache = sys.argv[1:]
reader = Reader(Catalog(catalog), Objects(objects), Path(cache), horizon=5, discount=0.9)
print(reader._prefetch.pid, flush=True)
sys.stdin.read()
"""


def test_prefetcher_ends_with_a_killed_learner(plane) -> None:
    arguments = [plane.catalog.url, plane.objects.url, str(plane.folder / "cache")]
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as learner:
        assert learner.stdout is not None
        pid = int(learner.stdout.readline())
        assert alive(pid)
        learner.kill()
        wait_until(lambda: not alive(pid), "the prefetcher to end")


def test_prefetcher_ends_on_sigterm_with_zero(plane) -> None:
    given = Subprocess(downloader(plane).settings)
    wait_until(lambda: _catches_sigterm(given.pid), "its signal handler")
    given._process.terminate()
    assert given._process.wait(20) == 0
    given.close()


def _catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
