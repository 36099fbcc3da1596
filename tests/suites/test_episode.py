"""A real episode of every suite, by its own process and in its own environment, to an edge's spool.

Run by `make test-suites`, which sets the environments up.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from lwd.episode import payload
from lwd.episode.types import Outcome
from lwd.serve.wire import pack
from serve.elsewhere import foreign

pytestmark = [pytest.mark.suites, pytest.mark.timeout(600)]
ENVIRONMENTS = Path(__file__).parents[2] / ".suites"


def run(suite: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [ENVIRONMENTS / suite / "bin" / "python", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def demonstrated(suite: str, task: str, root: Path, *flags: str):
    """One demonstration that the suite's robot spooled."""
    flags = ("--robot", "r0", "--episodes", "1", "--root", str(root), *flags)
    done = run(suite, "-m", "lwd", "suite", suite, "--tasks", task, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (root / "spool" / "r0" / "pending").glob("*.arrow")
    episode = payload.decode(file)
    assert episode.header.task == task
    assert episode.header.outcome is Outcome.SUCCESS
    assert np.ptp(episode.action, axis=0).max() > 0.1
    assert np.ptp(episode.state, axis=0).max() > 0.01
    return episode


@pytest.mark.parametrize("task", ["reach", "push", "pick-place", "door-open", "drawer-open"])
def test_metaworld(tmp_path, task):
    episode = demonstrated("metaworld", f"metaworld-{task}", tmp_path)
    assert episode.state.shape[1] == 39
    assert episode.action.shape[1] == 4


@pytest.mark.parametrize(
    "task",
    [*(f"metaworld-{name}" for name in ("reach", "push", "door-open")), "ogbench-cube-single-1"],
)
def test_a_seed_decides_where_an_episode_begins(tmp_path, task):
    suite, script = task.partition("-")[0], Path(__file__).parent / "starts.py"

    def starts(*seeds: str) -> list[list[float]]:
        done = run(suite, str(script), str(tmp_path / "starts.npy"), suite, task, *seeds)
        assert done.returncode == 0, done.stderr[-2000:]
        return np.load(tmp_path / "starts.npy").tolist()

    first, again, other = starts("1", "1", "2")
    assert first == again != other
    assert starts("2", "1") == [other, first]  # of another robot, in another order


@pytest.mark.parametrize("goal", [1, 2, 3, 4, 5])
def test_ogbench_scene(tmp_path, goal):
    episode = demonstrated("ogbench", f"ogbench-scene-{goal}", tmp_path)
    assert episode.state.shape[1] == 40
    assert episode.action.shape[1] == 5


def test_ogbench_cube_with_its_camera(tmp_path):
    episode = demonstrated("ogbench", "ogbench-cube-single-1", tmp_path, "--cameras-px", "64")
    kept = [image for image in episode.images["front"] if image is not None]
    assert len(kept) > episode.ticks / episode.header.horizon
    first, last = (simplejpeg.decode_jpeg(kept[i]) for i in (0, -1))
    assert first.shape == (64, 64, 3)
    assert np.abs(first.astype(float) - last).mean() > 1  # the arm has moved


def test_libero_knows_its_language_its_success_and_its_cameras(tmp_path):
    """Nobody demonstrates LIBERO: the stove's knob is turned by hand in the simulation."""
    done = run("libero", str(Path(__file__).parent / "turn_on_the_stove.py"), str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    untouched, turned = (payload.decode(tmp_path / f"{name}.arrow") for name in ("no", "yes"))
    for episode in (untouched, turned):
        assert episode.header.instruction == "turn on the stove"
        assert episode.state.shape[1] == 8
        assert episode.action.shape[1] == 7
        image = simplejpeg.decode_jpeg(episode.images["base_0_rgb"][0])
        assert image.shape == (128, 128, 3)
        assert image.std() > 20
    assert untouched.header.outcome is Outcome.TIMEOUT
    assert turned.header.outcome is Outcome.SUCCESS
    assert turned.ticks < untouched.ticks


def test_libero_asks_openpis_server(tmp_path):
    held = pack({"actions": np.tile([0.2, 0, 0, 0, 0, 0, -1.0], (10, 1))})
    flags = ("--kind", "rollout", "--episodes", "1", "--cameras-px", "64", "--layout", "libero")
    flags += ("--robot", "r0", "--root", str(tmp_path), "--tasks", "libero-spatial-0")
    with foreign(lambda message: held) as (url, messages):
        done = run("libero", "-m", "lwd", "suite", "libero", "--server", url, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "libero-spatial-0: 0 of 1 succeeded [0%, 79%]" in done.stdout
    assert len(messages) == 22  # the time limit is 220 ticks
    assert messages[0]["observation/image"].shape == (64, 64, 3)
    assert messages[0]["observation/state"].shape == (8,)
    assert "bowl" in messages[0]["prompt"]
    first, last = (messages[k]["observation/state"][0] for k in (0, -1))
    assert last > first + 0.05  # the hand has moved where the server said
