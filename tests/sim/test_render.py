import io
import os
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from lwd.actor.loop import run_episode
from lwd.actor.operator import Demonstration
from lwd.actor.recorder import Recording
from lwd.config import COMPACT, SightConfig
from lwd.episode.types import Kind
from lwd.errors import ConfigError
from lwd.sim import choose_backend
from lwd.sim.cameras import CAMERAS, check_opengl
from lwd.sim.expert import Expert
from lwd.sim.hands import NO_NOISE
from lwd.sim.render import contact_sheet, png, sheet_of
from lwd.sim.rig import Circumstances, rig
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from opengl import needs_opengl


def test_png_is_what_other_programs_read(rng):
    image = rng.integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)


@needs_opengl
@pytest.mark.parametrize("task", ["restocking", "freezer"])
def test_a_contact_sheet_shows_an_episode(task):
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(task, 1, every_s=2.0, size=64))))
    rows = sheet.reshape(-1, 64, 4, 64, 3)
    assert len(rows) >= 4, "some eight seconds"
    contrast = rows.astype(float).std(axis=(1, 3, 4))
    assert contrast.min() > 5.0, "no picture is empty"
    assert np.abs(np.diff(rows[:-1].astype(float), axis=0)).mean(axis=(1, 2, 3, 4)).min() > 1.0


@needs_opengl
def test_a_recorded_episode_is_shown_from_its_seed_and_its_actions(caplog):
    robot = SimRobot(("restocking", "freezer"), control=COMPACT, held_out=True)
    operator = Demonstration(partial(Expert, robot, np.random.default_rng(0), noise=NO_NOISE))
    recording = Recording(held_out=True)
    episode = run_episode(robot, 3, None, operator, kind=Kind.DEMO, recording=recording)
    assert episode is not None
    task, tasks = episode.header.task, ("restocking", "freezer")
    shown = sheet_of(episode, tasks=tasks, size=64)
    assert len(np.asarray(Image.open(io.BytesIO(shown)))) == 64 * (2 + episode.ticks // 10)
    assert caplog.text == ""
    shoved = replace(episode, state=episode.state + np.arange(episode.ticks + 1)[:, None] * 1.5e-4)
    sheet_of(shoved, tasks=tasks, every_s=60.0, size=32)
    assert "from_tick=7" in caplog.text
    others = replace(episode, header=replace(episode.header, seed=4))
    with pytest.raises(ConfigError, match=f"with tasks {task}; name all tasks of robot sim-0"):
        sheet_of(others)
    fast = replace(episode, header=replace(episode.header, rate_hz=50.0))
    with pytest.raises(ConfigError, match=r"50 Hz and chunks of 10; .* full, compact"):
        sheet_of(fast)


@needs_opengl
def test_a_robot_sees_its_cameras():
    robot = SimRobot("freezer", control=COMPACT, cameras=CAMERAS, image_size=48)
    robot.reset(0)
    images = robot.observe().images
    assert set(images) == set(CAMERAS)
    for image in images.values():
        assert image.shape == (48, 48, 3)
        assert image.std() > 5.0


@needs_opengl
def test_images_come_where_they_are_asked_for_and_once_a_chunk_otherwise():
    robot = SimRobot("freezer", control=COMPACT, cameras=("head",), image_size=32)
    robot.reset(0)
    looks = [bool(robot.apply(robot.target[None])[0].observation.images) for _ in range(21)]
    assert [tick for tick, look in enumerate(looks) if look] == [0, 10, 20]
    robot.observe()
    asked, *others = robot.apply(np.tile(robot.target, (3, 1)))
    assert asked.observation.images
    assert not any(tick.observation.images for tick in others)


class Waiting:
    """A policy that stays at rest."""

    version, normalisation_hash, tokenizer_hash = 1, "", ""

    def reset(self, seed):
        pass

    def chunk(self, observation, instruction):
        return np.tile(REST, (COMPACT.horizon, 1)).astype(np.float32)


@needs_opengl
@pytest.mark.parametrize(
    ("every", "kept"),
    [(2, {0, 2, 4, 5, 6, 8, 10, 12}), (7, {0, 5, 7, 10, 12}), (0, {0, 5, 10, 12})],
)
def test_a_rollout_keeps_its_images_inside_of_a_plan_too(monkeypatch, every, kept):
    sight = SightConfig(cameras=("head",), image_size=32, image_every=every)
    kit = rig(
        Kind.ROLLOUT, ["freezer"], COMPACT, robot_id="r", circumstances=Circumstances(sight=sight)
    )
    robot = kit.robot()
    reset = robot.reset
    monkeypatch.setattr(robot, "reset", lambda seed: replace(reset(seed), time_limit_s=1.2))
    episode = run_episode(robot, 3, Waiting(), None, kind=Kind.ROLLOUT, recording=kit.recording)
    assert episode is not None
    assert {tick for tick, image in enumerate(episode.images["head"]) if image} == kept


def test_a_machine_without_opengl_is_told_at_once_what_to_install(monkeypatch):
    def missing(*_):
        raise ImportError("libEGL.so.1 not found")

    monkeypatch.setattr("mujoco.Renderer", missing)
    check_opengl.cache_clear()
    with pytest.raises(ConfigError, match=r"libegl1.*MUJOCO_GL unset"):
        SimRobot("freezer", control=COMPACT, cameras=("head",))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("egl", "MUJOCO_GL is egl, whose library is not installed.*libegl1"),
        ("osmesa", "MUJOCO_GL is osmesa, whose library is not installed.*libosmesa6"),
        ("egll", "MUJOCO_GL is 'egll'; allowed: egl, osmesa"),
    ],
)
def test_a_backend_that_is_not_there_is_refused_before_mujoco_is_imported(monkeypatch, asked, said):
    monkeypatch.setattr("ctypes.CDLL", Mock(side_effect=OSError))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setenv("MUJOCO_GL", asked)
    with pytest.raises(ConfigError, match=said):
        choose_backend()
    monkeypatch.delenv("MUJOCO_GL")
    choose_backend()
    assert os.environ["MUJOCO_GL"] == "disable"
