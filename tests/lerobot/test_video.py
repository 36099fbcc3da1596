"""Frames of a video by time."""

import numpy as np
import pytest

from lwd.lerobot.video import Video, VideoWriter

FPS = 30


@pytest.fixture
def video(tmp_path):
    writer = VideoWriter(tmp_path / "v.mp4", fps=FPS, size=(32, 32))
    for number in range(12):
        writer.add(np.full((32, 32, 3), 10 * number, np.uint8))
    writer.close()
    with Video(tmp_path / "v.mp4") as opened:
        yield opened


@pytest.mark.parametrize("tolerance_s", [0.003, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("off", [0.0, 0.002, -0.002])
def test_the_nearest_frame_is_given_however_far_one_may_be(video, tolerance_s, off):
    times = [number / FPS + off for number in range(1, 7)]
    assert [round(frame.time * FPS) for frame in video.read(times, tolerance_s)] == [*range(1, 7)]


def test_an_episode_that_begins_a_little_back_in_the_file_gets_its_own_frames(video):
    for first in (4, 2, 3):
        times = [number / FPS for number in range(first, first + 5)]
        found = [round(frame.time * FPS) for frame in video.read(times, 0.2)]
        assert found == [*range(first, first + 5)]
