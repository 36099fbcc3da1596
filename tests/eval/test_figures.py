"""The picture of a run, drawn from made-up test data."""

import re

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lwd.eval.figures import (
    Check,
    Deployment,
    Quantile,
    Rate,
    Story,
    ValueCurve,
    draw,
    draw_deployment,
    draw_stages,
    moving_rate,
)


@pytest.fixture
def story() -> Story:
    rng = np.random.default_rng(0)
    time_s, update = np.arange(0, 8, 0.1), np.arange(0, 3000, 20)
    success = rng.random(300) < np.linspace(0.4, 0.95, 300)
    rising = 0.3 + 0.7 * (time_s / 8) ** 2
    falling = 0.3 - 0.3 * (time_s / 8)
    return Story(
        title="TEST DATA, not a result",
        stages=[
            Rate(label="SFT", successes=24, episodes=60),
            Rate(label="offline", successes=36, episodes=60),
            Rate(label="online", successes=60, episodes=60),
        ],
        deployment=Deployment(
            success=success,
            human=rng.random(300) < np.linspace(0.5, 0.05, 300),
            checks=[
                Check(after=100 * i, successes=int(s), episodes=30)
                for i, s in enumerate((12, 19, 25, 29))
            ],
        ),
        values=[
            ValueCurve(
                label="success",
                success=True,
                time_s=time_s,
                value=rising,
                low=rising - 0.1,
                high=rising + 0.1,
            ),
            ValueCurve(label="failure", success=False, time_s=time_s, value=falling),
        ],
        quantile=Quantile(
            update=update,
            tau=0.5 + 0.3 * update / 3000,
            entropy=0.8 - 0.4 * update / 3000,
            online_from=2000,
        ),
    )


def test_the_picture_is_a_whole_png_and_leaves_matplotlib_alone(story, tmp_path):
    before = dict(matplotlib.rcParams)
    path = tmp_path / "demo.png"
    draw(story, path)
    with Image.open(path) as image:
        image.load()
        assert image.size == (1575, 1080)
        colours = image.convert("RGB").getcolors(1 << 20)
    assert len(colours) > 50
    assert list(tmp_path.iterdir()) == [path]
    assert dict(matplotlib.rcParams) == before


def test_a_run_that_has_just_begun_can_be_drawn(story, tmp_path):
    nothing = np.zeros(0)
    early = Story(
        title="TEST DATA",
        stages=story.stages[:1],
        deployment=Deployment(success=nothing.astype(bool), human=nothing.astype(bool)),
        values=[],
        quantile=Quantile(update=nothing, tau=nothing, entropy=nothing),
    )
    draw(early, tmp_path / "early.png")
    assert (tmp_path / "early.png").stat().st_size > 1000


def test_bars_have_the_height_of_the_rate_and_say_the_counts(story):
    axes = Figure().add_subplot()
    draw_stages(axes, story.stages)
    assert [bar.get_height() for bar in axes.patches] == [0.4, 0.6, 1.0]
    assert [re.sub(r"\s", " ", text.get_text()) for text in axes.texts] == [
        "40% 24/60",
        "60% 36/60",
        "100% 60/60",
    ]


def test_moving_rate_counts_the_last_episodes():
    after, rate, low, high = moving_rate(np.array([0, 0, 1, 1, 1], bool), 2)
    assert after.tolist() == [2, 3, 4, 5]
    assert rate.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert (low <= rate).all()
    assert (rate <= high).all()
    assert low[0] == 0.0
    assert high[-1] == 1.0


def test_success_without_a_human_is_drawn_apart(story):
    axes = Figure().add_subplot()
    draw_deployment(axes, story.deployment)
    everything, alone = (line.get_ydata() for line in axes.lines[:2])
    assert (everything >= alone).all()
    assert (everything > alone).any()
