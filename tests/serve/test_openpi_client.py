"""The real openpi-client 0.1.2, in an environment of its own, drives our server unchanged."""

import fcntl
import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from lwd.episode.payload import decode
from lwd.store.access import issue, load_access
from processes import wait_until
from serve.point import GoalPolicy

CLIENT = "openpi-client==0.1.2"
"""It needs numpy<2, so it can share no environment with jax; `typing_extensions` it forgets."""
ROBOT = Path(__file__).with_name("openpi_robot.py")


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of openpi-client's environment, which is made once beside ours."""
    folder = Path(sys.prefix) / CLIENT.replace("==", "-")
    found = folder / "bin" / "python"
    with folder.with_suffix(".lock").open("w") as lock:  # other workers wait for the first one
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            venv.create(folder, with_pip=True, clear=True)
            install = [found, "-m", "pip", "install", "--quiet", CLIENT, "typing_extensions"]
            done = subprocess.run(install, capture_output=True, text=True, timeout=150)
            if done.returncode:
                pytest.skip(f"{CLIENT} cannot be installed: {done.stderr[-200:]}")
            (folder / "ready").touch()
    return found


def drive(python: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [python, ROBOT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_the_real_client_drives_the_server(python, serving, tmp_path):
    url = serving(GoalPolicy(3), layout="libero", record=True, executed=4)
    done = drive(python, f"{url}/?robot=libero-1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["actions"] == [[1, 2, 0, 0, 0, 0]] * 8
    assert found["timing"][0] == ["infer_ms", "waited_ms"]
    assert "prev_total_ms" in found["timing"][4]
    assert found["metadata"]["policy_version"] == 3
    assert "Error in inference server:\nkey 'observation/state' is missing" in found["error"]
    assert found["after"] == [5, 6]


@pytest.mark.slow
def test_the_real_client_with_a_key(python, serving, tmp_path):
    key = issue(tmp_path / "tokens.json", "libero-1")
    url = serving(GoalPolicy(3), layout="libero", access=load_access(tmp_path / "tokens.json"))
    assert drive(python, url, key).returncode == 0
    refused = drive(python, url, "wrong")
    assert "server rejected WebSocket connection: HTTP 401" in refused.stderr


@pytest.mark.slow
def test_what_the_real_client_does_is_recorded(python, serving, tmp_path):
    url = serving(layout="libero", record=True, executed=4, gap_s=0.5)
    assert drive(python, f"{url}/?robot=libero-1").returncode == 0
    pending = tmp_path / "spool" / "libero-1" / "pending"
    wait_until(lambda: list(pending.glob("*.arrow")), "the episode")
    (path,) = pending.glob("*.arrow")
    episode = decode(path)
    assert (episode.header.robot, episode.ticks) == ("libero-1", 8)
    assert episode.images.keys() == {"base_0_rgb", "left_wrist_0_rgb"}
    assert (episode.action == [1, 2, 0, 0, 0, 0]).all()
