"""Runs of the learner: in this process, and on hosts that are processes of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.fleet import commit, learn, tiny
from processes import free_port

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes for all three stages; nobody learns in this folder."""
    folder = tmp_path_factory.mktemp("collected")
    commit(folder, *5 * ["demo"], "rollout", *5 * ["online"])
    return folder


@pytest.fixture(scope="session")
def finished(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on `root`'s episodes, to be read."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(collected, folder)
    assert learn(folder, tiny())
    return folder


@pytest.fixture
def root(collected: Path, tmp_path: Path) -> Path:
    """A run's folder before the learner's start."""
    folder = tmp_path / "run"
    shutil.copytree(collected, folder)
    return folder


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator["Hosts"]:
    group = Hosts(tmp_path)
    yield group
    group.close()


class Hosts:
    """Learner hosts as real processes; all are dead when the test ends."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.started = logs, []

    def start(self, root: Path, *, host: int = 0, hosts: int = 1, at: str = "", held: str = ""):
        """Start a host; with `held` it waits in that stage after its first update, or trains what
        `learner.host` says of that word."""
        log = self.logs / f"{len(self.started)}.log"
        command = [sys.executable, str(TESTS / "learner" / "host.py")]
        path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = {"JAX_NUM_CPU_DEVICES": str(2 // hosts), "PYTHONPATH": path}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, str(root), at, str(host), str(hosts), held],
                env=os.environ | settings,
                stdout=output,
                stderr=output,
            )
        process.log = log
        self.started.append(process)
        return process

    def pair(self, root: Path, *, held: str = ""):
        """Two hosts of one job."""
        at = f"127.0.0.1:{free_port()}"
        return [self.start(root, host=host, hosts=2, at=at, held=held) for host in (0, 1)]

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
