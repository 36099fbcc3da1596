"""The processes of a run: real ones, killed, stopped and orphaned."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lwd import processes
from lwd.errors import ServiceError
from lwd.processes import RESTARTS, Processes, last_lines
from processes import free_port, wait_until


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path / "logs") as started:
        yield started


def queue(root: Path) -> tuple:
    """Arguments of a process that runs until it is told to stop."""
    return ("queue", "--root", root, "--port", free_port())


def pid(log: Path, marker: str) -> int:
    """Of the running child whose command line holds the marker."""

    def found() -> list[int]:
        children = psutil.Process().children()
        return [p.pid for p in children if marker in " ".join(p.cmdline())]

    wait_until(lambda: len(found()) == 1, f"one process that writes {log}")
    return found()[0]


@pytest.mark.slow
def test_a_killed_child_is_restarted_and_one_that_is_stopped_is_forgotten(children, tmp_path):
    children.start("queue", *queue(tmp_path / "run"))
    log = tmp_path / "logs" / "queue.log"
    wait_until(log.read_text, "its first words")
    first = pid(log, str(tmp_path))
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not children.running("queue"), "the death")
    children.check()
    assert children.running("queue")
    assert pid(log, str(tmp_path)) != first
    children.stop("queue")
    assert not children.running("queue")
    assert children.names == []


def test_a_child_that_keeps_dying_ends_the_run_with_its_last_words(children, tmp_path):
    children.start("robot", "robot", "--tasks", "restokcing")

    with pytest.raises(ServiceError, match=f"for the {RESTARTS + 1}th time") as error:
        wait_until(children.check, "the end of patience", 60)
    assert "Did you mean 'restocking'" in str(error.value)
    log = (tmp_path / "logs" / "robot.log").read_text()
    assert log.count("Did you mean 'restocking'") == RESTARTS + 1


def test_a_child_that_ends_well_is_not_restarted(children):
    children.start("help", "--help")
    wait_until(lambda: not children.running("help"), "the end")
    children.check()
    assert children.names == []


def test_children_stop_in_the_given_order_and_get_sigterm_first(children, monkeypatch, tmp_path):
    ended = []
    monkeypatch.setattr(
        subprocess.Popen, "terminate", lambda self: ended.append(self.pid) or self.kill()
    )
    for name in ("first", "second"):
        children.start(name, "--help")
    assert children.names == ["second", "first"]
    children.stop(*children.names)
    assert len(ended) == 2
    assert ended[0] > ended[1]


def test_who_ignores_sigterm_is_killed(children, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(processes, "GRACE_S", 0.2)
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda self: None)
    others = psutil.Process().children()
    children.start("queue", *queue(tmp_path / "run"))
    (child,) = set(psutil.Process().children()) - {*others}
    children.stop("queue")
    assert not child.is_running()
    assert "killed process=queue" in caplog.text


PARENT = """
import sys, time
from pathlib import Path
from lwd.processes import Processes
with Processes(Path(sys.argv[1]) / "logs") as children:
    children.start("queue", "queue", "--root", sys.argv[1], "--port", sys.argv[2])
    time.sleep(600)
"""


@pytest.mark.slow
def test_children_die_with_a_parent_that_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), str(free_port())])
    log = tmp_path / "logs" / "queue.log"
    try:
        wait_until(lambda: log.exists() and log.read_text(), "the child's first words")
        family = psutil.Process(parent.pid).children(recursive=True)
        assert family
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_last_lines_of_a_log(tmp_path):
    assert last_lines(tmp_path / "none.log") == ""
    log = tmp_path / "some.log"
    log.write_text("".join(f"line {i}\n" for i in range(9)))
    assert last_lines(log, 2) == "  line 7\n  line 8"
