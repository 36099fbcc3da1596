"""The cache: bounded by bytes, least recently read first, and whole after any kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lwd.replay.cache import Cache
from lwd.store.objects import Objects, episode_key, sha256_of


def filled(folder: Path, names: str, *, limit: int = 100, size: int = 10) -> Cache:
    """A cache with files that were read in the order of their names."""
    cache = Cache(folder, limit)
    for order, name in enumerate(names):
        cache.path(name).write_bytes(bytes(size))
        os.utime(cache.path(name), (order, order))
    return cache


def test_order_is_that_of_reading_and_survives_a_restart(tmp_path: Path) -> None:
    filled(tmp_path, "abc").touch("a")
    assert list(Cache(tmp_path, 100).sizes()) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("wanted", "keep", "dropped"),
    [(0, "", ""), (70, "", ""), (71, "", "a"), (90, "", "ab"), (90, "a", "bc"), (99, "abc", "")],
)
def test_makes_room_by_bytes_but_never_of_what_is_needed(
    tmp_path: Path, wanted: int, keep: str, dropped: str
) -> None:
    cache = filled(tmp_path, "abc")
    assert cache.make_room(wanted, set(keep)) == list(dropped)
    assert set(cache.sizes()) == set("abc") - set(dropped)


def test_parts_and_files_that_go_meanwhile_are_fine(tmp_path: Path) -> None:
    cache = filled(tmp_path, "a")
    (tmp_path / ".b.arrow.1.part").write_bytes(b"half")
    assert cache.sizes() == {"a": 10}
    cache.drop("a")
    cache.drop("a")
    cache.touch("a")
    assert cache.sizes() == {}


DOWNLOAD = """
import sys
from pathlib import Path
from lwd.replay.cache import Cache
from lwd.store.objects import Objects
url, folder, *keys = sys.argv[1:]
objects, cache = Objects(url), Cache(Path(folder), 1 << 30)
while True:
    for key in keys:
        objects.get_to("episodes/" + key, cache.path(key), sha256=key)
        print(key, flush=True)
        cache.drop(key)
"""


@pytest.mark.parametrize("lines", [1, 4, 9])
def test_a_kill_leaves_only_whole_files(tmp_path: Path, lines: int) -> None:
    objects, keys = Objects((tmp_path / "objects").as_uri()), []
    for number in range(3):
        data = bytes([number]) * (4 << 20)
        keys.append(sha256_of(data))
        objects.put(episode_key(keys[-1]), data)
    command = [sys.executable, "-c", DOWNLOAD, objects.url, str(tmp_path / "cache"), *keys]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    cache = Cache(tmp_path / "cache", 1 << 30)
    assert all(sha256_of(cache.path(key).read_bytes()) == key for key in cache.sizes())
