"""Spool: what is saved stays, through full disks, full quotas and kills; nothing else appears."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lwd.edge.spool import Spool, spools
from lwd.episode.payload import decode, encode, new_id
from lwd.errors import ConflictError, EpisodeError, ServiceError
from lwd.store import disk
from sample_episodes import make_episode


@pytest.fixture
def spool(tmp_path: Path):
    with Spool(tmp_path / "robot-3") as spool:
        yield spool


def files(spool: Spool) -> set[str]:
    return {str(path.relative_to(spool.root)) for path in spool.root.rglob("*") if path.is_file()}


def test_saved_is_pending_then_done(spool: Spool) -> None:
    episode_id = new_id()
    spool.save(episode_id, b"payload")
    assert spool.pending() == [episode_id]
    assert spool.path(episode_id).read_bytes() == b"payload"
    spool.acknowledge(episode_id)
    spool.acknowledge(episode_id)
    assert spool.pending() == []
    assert files(spool) == {"writer.lock", f"done/{episode_id}.arrow"}


def test_pending_is_oldest_first(spool: Spool) -> None:
    ids = [new_id() for _ in range(5)]
    for age, episode_id in enumerate(ids):
        spool.save(episode_id, b"x")
        os.utime(spool.path(episode_id), ns=(0, 1000 - age))
    assert spool.pending() == ids[::-1]


def test_rejected_keeps_payload_and_reason(spool: Spool) -> None:
    episode_id = new_id()
    spool.save(episode_id, b"bad")
    spool.reject(episode_id, "state is NaN")
    assert spool.pending() == []
    assert spool.rejected() == {episode_id: "state is NaN"}
    assert (spool.root / "rejected" / f"{episode_id}.arrow").read_bytes() == b"bad"


def test_same_bytes_again_are_fine_and_others_are_not(spool: Spool) -> None:
    episode_id = new_id()
    spool.save(episode_id, b"one")
    spool.save(episode_id, b"one")
    with pytest.raises(ConflictError, match="already pending"):
        spool.save(episode_id, b"two")
    spool.acknowledge(episode_id)
    spool.save(episode_id, b"one")
    assert spool.pending() == []
    with pytest.raises(ConflictError, match="already done"):
        spool.save(episode_id, b"two")


@pytest.mark.parametrize("name", ["../../x", "A" * 32, "a" * 31, "", "a" * 32 + "\n"])
def test_names_never_become_paths(spool: Spool, name: str) -> None:
    with pytest.raises(EpisodeError, match="not 32 lower-case hex digits"):
        spool.save(name, b"x")
    assert files(spool) == set()


def test_quota_evicts_the_oldest_uploaded_only(tmp_path: Path) -> None:
    with Spool(tmp_path / "r", quota_bytes=100) as spool:
        ids = [new_id() for _ in range(4)]
        for age, episode_id in enumerate(ids):
            spool.save(episode_id, b"x" * 30) if age < 3 else None
            if age < 2:
                spool.acknowledge(episode_id)
                os.utime(spool.root / "done" / f"{episode_id}.arrow", ns=(age, age))
        spool.save(ids[3], b"x" * 30)
        assert set(spool.pending()) == {ids[2], ids[3]}
        assert not (spool.root / "done" / f"{ids[0]}.arrow").exists()
        assert (spool.root / "done" / f"{ids[1]}.arrow").exists()


def test_full_quota_refuses_and_keeps_what_waits(tmp_path: Path) -> None:
    with Spool(tmp_path / "r", quota_bytes=100) as spool:
        kept = [new_id(), new_id()]
        for episode_id in kept:
            spool.save(episode_id, b"x" * 50)
        before = files(spool)
        with pytest.raises(ServiceError, match="quota of 100 bytes is used up and 2 episodes"):
            spool.save(new_id(), b"y")
        assert files(spool) == before
        spool.acknowledge(kept[0])
        spool.save(new_id(), b"y")
        assert len(spool.pending()) == 2


def test_an_episode_larger_than_the_quota_costs_no_copy(tmp_path: Path) -> None:
    with Spool(tmp_path / "r", quota_bytes=100) as spool:
        for _ in range(3):
            episode_id = new_id()
            spool.save(episode_id, b"x" * 30)
            spool.acknowledge(episode_id)
        before = files(spool)
        for size in (101, 10_000):
            with pytest.raises(ServiceError, match="quota of 100 bytes"):
                spool.save(new_id(), b"y" * size)
        assert files(spool) == before
        spool.save(new_id(), b"y" * 100)
        assert list((spool.root / "done").iterdir()) == []


def test_what_somebody_else_delivered_or_deleted_is_room(tmp_path: Path) -> None:
    """The uploader, another process, moves files; a person deletes some."""
    with Spool(tmp_path / "r", quota_bytes=100) as spool:
        ids = [new_id() for _ in range(8)]
        for episode_id in ids[:3]:
            spool.save(episode_id, b"x" * 30)
        Spool(spool.root).acknowledge(ids[0])
        spool.save(ids[3], b"x" * 30)
        assert set(spool.pending()) == set(ids[1:4])
        spool.path(ids[1]).unlink()
        spool.save(ids[4], b"x" * 30)
        Spool(spool.root).reject(ids[2], "not an episode")
        Spool(spool.root).acknowledge(ids[3])
        spool.close()
        with Spool(spool.root, quota_bytes=100) as other:
            other.save(ids[5], b"x" * 30)
            with pytest.raises(ServiceError, match="quota of 100 bytes"):
                other.save(ids[6], b"x" * 30)
        Spool(spool.root).acknowledge(ids[5])
        spool.save(ids[7], b"x" * 30)
        assert set(spool.pending()) == {ids[4], ids[7]}


@pytest.mark.parametrize("full", [False, True])
def test_the_cost_of_saving_does_not_grow_with_the_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    copies, looks, real = 300, [], os.scandir
    with Spool(tmp_path / "r", quota_bytes=10 * copies if full else 1 << 30) as spool:
        for _ in range(copies):
            (spool.root / "done" / f"{new_id()}.arrow").write_bytes(b"x" * 10)
        monkeypatch.setattr(os, "scandir", lambda path: (looks.append(path), real(path))[1])
        for _ in range(100):
            episode_id = new_id()
            spool.save(episode_id, b"y" * 10)
            spool.acknowledge(episode_id)
        monkeypatch.undo()
        assert len(looks) < 20
        assert len(list((spool.root / "done").iterdir())) == copies + (0 if full else 100)


class FullDisk:
    """fsync that fails with ENOSPC `times` times: where a delayed allocation shows up."""

    def __init__(self, times: int):
        self.times = times
        self.real = os.fsync

    def __call__(self, descriptor: int) -> None:
        if self.times:
            self.times -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self.real(descriptor)


def test_full_disk_refuses_and_leaves_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = new_id()
    spool.save(kept, b"x")
    monkeypatch.setattr(disk.os, "fsync", FullDisk(times=1))
    with pytest.raises(ServiceError, match="the disk is full and 1 episodes"):
        spool.save(new_id(), b"y")
    assert files(spool) == {"writer.lock", f"pending/{kept}.arrow"}
    spool.save(new_id(), b"y")
    assert len(spool.pending()) == 2


def test_full_disk_is_relieved_by_uploaded_episodes(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_id(), new_id()
    spool.save(old, b"x")
    spool.acknowledge(old)
    monkeypatch.setattr(disk.os, "fsync", FullDisk(times=1))
    spool.save(new, b"y")
    assert files(spool) == {"writer.lock", "account.jsonl", f"pending/{new}.arrow"}


def test_other_disk_errors_say_so(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk.os, "fsync", broken)
    with pytest.raises(ServiceError, match="Input/output error"):
        spool.save(new_id(), b"y")
    assert files(spool) == {"writer.lock"}


def test_only_one_process_writes(spool: Spool) -> None:
    spool.save(new_id(), b"x")
    with Spool(spool.root) as second:
        assert len(second.pending()) == 1  # reading and acknowledging needs no lock
        with pytest.raises(ServiceError, match="Another process writes the spool"):
            second.save(new_id(), b"y")
        spool.close()
        second.save(new_id(), b"y")


def test_unfinished_file_is_removed_and_reported(tmp_path: Path, caplog) -> None:
    root = tmp_path / "r"
    Spool(root)
    part = root / "pending" / f".{new_id()}.arrow.123.part"
    part.write_bytes(b"half")
    with Spool(root) as spool, caplog.at_level(logging.WARNING):
        assert part.exists()  # an uploader that only looks must not touch it
        spool.save(new_id(), b"x")
        assert len(spool.pending()) == 1
    assert not part.exists()
    assert f"unfinished episode lost file={part.name} bytes=4" in caplog.text


def test_spools_of_a_folder(tmp_path: Path) -> None:
    for name in ("robot-2", "robot-1"):
        Spool(tmp_path / name)
    (tmp_path / "unrelated").mkdir()
    assert [spool.root.name for spool in spools(tmp_path)] == ["robot-1", "robot-2"]


WRITER = """
import sys
from pathlib import Path
from lwd.edge.spool import Spool
from lwd.episode.payload import new_id
payload = Path(sys.argv[2]).read_bytes()
with Spool(Path(sys.argv[1])) as spool:
    while True:
        episode_id = new_id()
        spool.save(episode_id, payload.replace(b"0" * 32, episode_id.encode()))
        print(episode_id, flush=True)
"""


def test_killed_writer_loses_nothing_it_called_saved(tmp_path: Path) -> None:
    """SIGKILL at arbitrary points: every id that was printed is there, whole, and decodes."""
    template = tmp_path / "template"
    template.write_bytes(encode(make_episode(ticks=200, episode_id="0" * 32)))
    said: list[str] = []
    for round_ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "r"), str(template)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            deadline = time.monotonic() + 60
            for count, line in enumerate(writer.stdout):
                said.append(line.strip())
                assert time.monotonic() < deadline
                if count == 12 + 7 * round_:
                    writer.send_signal(signal.SIGKILL)
                    break
            said += [line.strip() for line in writer.stdout if line.endswith("\n")]
    with Spool(tmp_path / "r") as spool:
        spool.save(new_id(), b"a new writer takes over")
        assert set(said) <= set(spool.pending())
        assert not list((spool.root / "pending").glob(".*"))
        assert len(said) > 30
        for episode_id in said:
            assert decode(spool.path(episode_id)).header.episode_id == episode_id
