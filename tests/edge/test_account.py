"""Every episode that was made is somewhere, and what was dropped says why."""

import errno
import os
import subprocess
import sys

import pytest

from lwd.edge.account import NAME, Fate, account, note
from lwd.edge.spool import Spool
from lwd.episode.payload import new_id
from lwd.store import lines


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "arm-1", quota_bytes=1000) as opened:
        yield opened


def test_everything_that_was_made_is_somewhere(spool):
    waiting, refused = new_id(), new_id()
    for number in range(5):
        delivered = new_id()
        spool.save(delivered, bytes([number]) * 300)
        spool.acknowledge(delivered)
    spool.save(refused, b"r" * 100)
    spool.reject(refused, "not an episode")
    spool.save(waiting, b"w" * 200)
    spool.drop(new_id(), Fate.POLICY, "a demonstration that ended as failure is not kept")
    found = account(spool.root)
    assert (found.robot, found.waiting, found.waiting_bytes) == ("arm-1", 1, 200)
    assert found.delivered == 5
    assert found.fates == {Fate.EVICTED: 3, Fate.POLICY: 1}
    assert found.refused == {refused: "not an episode"}
    ((_, reason),) = found.dropped
    assert reason == "policy: a demonstration that ended as failure is not kept"


def test_a_copy_that_was_to_go_and_is_still_there_counts_once(spool):
    delivered = new_id()
    spool.save(delivered, b"x")
    spool.acknowledge(delivered)
    note(spool.root, Fate.EVICTED, delivered)
    assert account(spool.root).delivered == 1


def test_a_line_that_a_kill_cut_off_costs_no_other(spool):
    note(spool.root, Fate.INVALID, "a" * 32, "NaN")
    with (spool.root / NAME).open("ab") as file:
        file.write(b'\n{"fate": "full", "epi')
    note(spool.root, Fate.FULL, "b" * 32, "no room")
    assert [episode[0] for episode, _ in account(spool.root).dropped] == ["a", "b"]


def test_a_full_disk_still_makes_room(spool, monkeypatch):
    delivered = new_id()
    spool.save(delivered, b"x" * 900)
    spool.acknowledge(delivered)
    real, calls = os.write, []

    def full(descriptor, data):
        calls.append(data)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(lines.os, "write", full)
    spool.save(new_id(), b"y" * 900)
    monkeypatch.undo()
    assert account(spool.root).fates == {Fate.EVICTED: 1}


SHORT = """
import resource, sys
from pathlib import Path
from lwd.chaos.witness import Journal
from lwd.edge.account import Fate, note
folder = Path(sys.argv[1])
with Journal(folder / "journal") as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, resource.RLIM_INFINITY))
    for write in (
        lambda: note(folder, Fate.EVICTED, "a" * 32),
        lambda: journal.write(saved="a" * 32),
    ):
        try:
            write()
            print("written")
        except OSError as error:
            print(error.strerror)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    note(folder, Fate.EVICTED, "b" * 32)
    journal.write(saved="b" * 32)
"""


def test_a_line_that_is_not_whole_is_an_error_and_costs_no_other(spool):
    command = [sys.executable, "-c", SHORT, str(spool.root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.splitlines() == [os.strerror(errno.ENOSPC)] * 2
    assert account(spool.root).fates == {Fate.EVICTED: 1}
    assert list(lines.entries(spool.root / "journal")) == [{"saved": "b" * 32}]
