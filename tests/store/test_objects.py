"""Objects: whole or absent, harmless to repeat, verified on the way down, clear when refused."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import obstore
import pytest

from lwd.errors import ConfigError, IntegrityError, MissingError, ServiceError
from lwd.store.objects import PART_BYTES, Objects, episode_key, sha256_of

DATA = bytes(range(256)) * 40_000


@pytest.fixture(params=["file", "memory", "s3"])
def objects(request, tmp_path: Path) -> Objects:
    if request.param == "s3":
        return Objects(request.getfixturevalue("s3_url"))
    return Objects(
        "memory:///" if request.param == "memory" else (tmp_path / "my objects").as_uri()
    )


def test_an_object_comes_back_as_it_was_put(objects):
    key = episode_key(sha256_of(DATA))
    assert key == f"episodes/{hashlib.sha256(DATA).hexdigest()}"
    assert not objects.exists(key)
    objects.put(key, DATA)
    objects.put(key, DATA)
    assert objects.exists(key)
    assert objects.head(key) == len(DATA)
    assert objects.get(key) == DATA
    objects.put("weights/x", b"small")
    assert list(objects.list("episodes")) == [key]
    assert sorted(objects.list()) == [key, "weights/x"]
    objects.delete(key)
    objects.delete(key)
    assert not objects.exists(key)


def test_an_object_that_is_not_there_is_named(objects):
    for read in (objects.get, objects.head):
        with pytest.raises(MissingError, match="episodes/abc"):
            read("episodes/abc")


def test_a_download_appears_only_when_its_hash_is_right(objects, tmp_path):
    objects.put("episodes/x", DATA)
    path = tmp_path / "cache" / "x"
    with pytest.raises(IntegrityError, match="episodes/x"):
        objects.get_to("episodes/x", path, sha256="0" * 64)
    with pytest.raises(MissingError):
        objects.get_to("episodes/y", path, sha256="0" * 64)
    assert list(path.parent.iterdir()) == []
    objects.get_to("episodes/x", path, sha256=sha256_of(DATA))
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_is_full_is_not_blamed_on_the_store(tmp_path, monkeypatch):
    objects = Objects("memory:///")
    objects.put("episodes/x", DATA)

    @contextmanager
    def full(path: Path) -> Iterator[BinaryIO]:
        with open("/dev/full", "wb", buffering=0) as file:
            yield file

    monkeypatch.setattr("lwd.store.objects.written_aside", full)
    with pytest.raises(OSError, match="No space left"):
        objects.get_to("episodes/x", tmp_path / "x", sha256=sha256_of(DATA))


WRITER = """
import sys
from lwd.store.objects import Objects, sha256_of
objects, number = Objects(sys.argv[1]), 0
while True:
    data = number.to_bytes(4, "big") * 100_000
    objects.put("episodes/" + sha256_of(data), data)
    print(sha256_of(data), flush=True)
    number += 1
"""


def test_a_writer_killed_at_any_point_leaves_only_whole_objects(tmp_path):
    url = (tmp_path / "objects").as_uri()
    acknowledged = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(5)]
        process.kill()
        acknowledged += process.stdout.read().split()
        process.stdout.close()
        process.wait(10)
    objects = Objects(url)
    keys = set(objects.list("episodes"))
    assert {episode_key(sha) for sha in acknowledged if len(sha) == 64} <= keys
    assert len(keys) >= 5
    for key in keys:
        assert episode_key(sha256_of(objects.get(key))) == key


def test_a_read_with_a_hash_is_verified(objects):
    objects.put("episodes/x", b"whole")
    assert objects.get("episodes/x", sha256=sha256_of(b"whole")) == b"whole"
    with pytest.raises(IntegrityError, match=r"episodes/x.*damaged"):
        objects.get("episodes/x", sha256=sha256_of(b"other"))


def test_a_damaged_object_is_replaced_by_the_next_upload(objects):
    objects.put("episodes/x", b"dam\x00ged")
    objects.put("episodes/x", b"damaged")
    assert objects.get("episodes/x") == b"damaged"


def test_an_intact_object_is_not_written_again():
    objects = Objects("memory:///")
    objects.put("episodes/x", DATA[:1000])
    first = obstore.head(objects._store, "episodes/x")
    objects.put("episodes/x", DATA[:1000])
    assert obstore.head(objects._store, "episodes/x") == first


def test_many_writers_of_one_object_leave_it_whole(objects):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: objects.put("episodes/x", DATA[:100_000]), range(16)))
    assert objects.get("episodes/x") == DATA[:100_000]
    assert list(objects.list("episodes")) == ["episodes/x"]


def test_an_object_of_several_parts_comes_back(objects, tmp_path):
    data = DATA * 2
    assert len(data) > 2 * PART_BYTES
    objects.put("weights/a", data)
    assert objects.head("weights/a") == len(data)
    objects.get_to("weights/a", tmp_path / "back", sha256=sha256_of(data))


@pytest.mark.parametrize("url", ["gopher:///x", "objects", "", "s3://[", "S3_//bucket"])
def test_an_unusable_url_says_what_to_give(url):
    with pytest.raises(ConfigError, match="file://"):
        Objects(url)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="Cannot create folder"):
        Objects((tmp_path / "file" / "objects").as_uri())


def test_an_unwritable_folder_is_a_clear_error(forbidden_folder):
    with pytest.raises(ServiceError, match="not writable"):
        Objects(forbidden_folder.as_uri())


def test_an_unreachable_store_is_a_service_error_on_one_line(tmp_path):
    objects = Objects((tmp_path / "objects").as_uri())
    objects.put("folder", b"a file where a folder is needed")
    with pytest.raises(ServiceError) as error:
        objects.put("folder/key", b"x")
    assert "folder/key" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_went_away_is_not_taken_for_missing_objects(tmp_path):
    objects = Objects((tmp_path / "objects").as_uri())
    objects.check()
    (tmp_path / "objects").rmdir()
    for use in (objects.get, objects.head, objects.exists, objects.delete):
        with pytest.raises(ServiceError, match="is not there: create it"):
            use("episodes/x")
