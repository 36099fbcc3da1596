"""A large download goes on after a kill, and takes its name only when it is whole and right."""

import os
import time
from pathlib import Path

import pytest

from lwd.errors import IntegrityError, ServiceError
from lwd.store import download as module
from lwd.store.download import clear, download
from lwd.store.objects import Objects, sha256_of
from processes import Processes, wait_until

DATA = os.urandom(10_000)
HASH = sha256_of(DATA)

FETCH = """
import sys, time
from pathlib import Path
from lwd.store import download as module
from lwd.store.objects import Objects

module.PIECE_BYTES, module.PIECES_AT_ONCE = 1000, 2

class Slow(Objects):
    def get_range(self, key, offset, size):
        print(offset, file=sys.stderr, flush=True)
        time.sleep(float(sys.argv[4]))
        return super().get_range(key, offset, size)

module.download(Slow(sys.argv[1]), "w", Path(sys.argv[2]), size=10_000, sha256=sys.argv[3])
"""


@pytest.fixture
def objects(tmp_path, monkeypatch) -> Objects:
    monkeypatch.setattr(module, "PIECE_BYTES", 900)
    store = Objects((tmp_path / "objects").as_uri())
    store.put("w", DATA)
    return store


def partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def test_pieces_give_the_object(objects, tmp_path):
    path = tmp_path / "here" / "w"
    download(objects, "w", path, size=len(DATA), sha256=HASH)
    assert path.read_bytes() == DATA
    assert not partial(path).exists()


@pytest.mark.parametrize("done", [1, 900, 4567, 10_000])
def test_what_is_there_is_not_fetched_again(objects, tmp_path, monkeypatch, done):
    path, asked = tmp_path / "w", []
    real = objects.get_range
    monkeypatch.setattr(objects, "get_range", lambda *a: (asked.append(a[1:]), real(*a))[1])
    partial(path).write_bytes(DATA[:done])
    download(objects, "w", path, size=len(DATA), sha256=HASH)
    assert path.read_bytes() == DATA
    assert sum(size for _, size in asked) == len(DATA) - done


@pytest.mark.parametrize("left", [b"x" * 50, DATA + b"more"])
def test_what_is_there_and_wrong_is_thrown_away(objects, tmp_path, left):
    path = tmp_path / "w"
    partial(path).write_bytes(left)
    if len(left) < len(DATA):
        with pytest.raises(IntegrityError, match="has sha256"):
            download(objects, "w", path, size=len(DATA), sha256=HASH)
        assert not path.exists()
        assert not partial(path).exists()
    download(objects, "w", path, size=len(DATA), sha256=HASH)
    assert path.read_bytes() == DATA


def test_an_object_that_ends_early_takes_no_name(objects, tmp_path):
    with pytest.raises(IntegrityError, match="ends before"):
        download(objects, "w", tmp_path / "w", size=len(DATA) + 1, sha256=HASH)
    assert not (tmp_path / "w").exists()


def test_two_at_once_do_not_mix(objects, tmp_path):
    with (
        module._partial(tmp_path / "w"),
        pytest.raises(ServiceError, match="Another process downloads w"),
    ):
        download(objects, "w", tmp_path / "w", size=len(DATA), sha256=HASH)


def test_what_nobody_takes_up_can_be_cleared(objects, tmp_path):
    partial(tmp_path / "w").write_bytes(b"x")
    clear(tmp_path)
    assert not partial(tmp_path / "w").exists()


def test_a_killed_download_goes_on(objects, tmp_path):
    path, processes = tmp_path / "w", Processes()
    arguments = (objects.url, path, HASH)
    try:
        first = processes.start(FETCH, *arguments, 0.1)
        wait_until(lambda: partial(path).exists() and partial(path).stat().st_size > 2000, "a bit")
        processes.kill(first)
        done = partial(path).stat().st_size
        assert not path.exists()
        assert done < len(DATA)
        started = time.time()
        assert processes.start(FETCH, *arguments, 0).wait(60) == 0
    finally:
        processes.close()
    assert path.read_bytes() == DATA
    assert path.stat().st_mtime >= started
