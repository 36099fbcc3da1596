"""The live view, recorded by a console."""

import io
import time

import pytest
from rich.console import Console

from lwd.config import DemoConfig
from lwd.demo.plan import assignments
from lwd.demo.progress import Progress
from lwd.demo.view import line, render, sparkline

CONFIG = DemoConfig(
    robots=2, seed=7, sft_updates=20, offline_updates=40, online_updates=10, tasks=("restocking",)
)


def shown(now: Progress, *, width: int = 120) -> str:
    screen = Console(record=True, width=width, file=io.StringIO())
    screen.print(render(now, assignments(CONFIG), CONFIG, time.monotonic() - 65))
    return screen.export_text()


def row(text: str, begins: str) -> list[str]:
    (found,) = [at for at in text.splitlines() if at.strip("│ ").startswith(begins)]
    return found.strip("│ ").split()


def test_a_run_that_begins_shows_zeros_and_dashes():
    text = shown(Progress())
    assert "2 robots   seed 7   starting   65 s" in text
    for stage, updates in (("sft", 20), ("offline", 40), ("online", 10)):
        assert f"0/{updates}" in text, stage
    assert row(text, "robot-01") == ["robot-01", "restocking", "-", "0", "0", "-", "0"]
    assert "v0" in text


def test_a_running_fleet_shows_its_numbers(finished):
    now = finished.observer.look()
    now.phase = "deployed: online RL"
    text = shown(now)
    assert "deployed: online RL" in text
    for done in ("20/20", "10/40", "5/10"):
        assert done in text, done
    assert row(text, "robot-00") == [
        "robot-00", "restocking", "v3", "4", "2", "50%", "2",
    ]  # fmt: skip
    for wanted in ("P50 2.5 s P99 9.8 s", "demo success 1/1", "online success 2/4", "τ"):
        assert wanted in " ".join(text.replace("│", " ").split()), wanted


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_view_fits_the_terminal(finished, width):
    lines = shown(finished.observer.look(), width=width).splitlines()
    assert max(len(line) for line in lines) <= width


def test_the_view_in_one_line(finished):
    now = finished.observer.look()
    now.phase = "draining"
    assert line(now) == (
        "draining: stage=online update=5 demo=1/1 play=- rollout=0/1 online=2/4 "
        "produced=6 acknowledged=6 in_snapshot=6 sampled=6 weights=3"
    )
    assert line(Progress()).startswith("starting: stage=- update=0 demo=- play=-")


def test_a_curve_spans_its_own_range():
    assert sparkline([0.0, 7.0]) == "▁█"
    assert sparkline([3.0, 3.0, 3.0]) == "▁▁▁"
    assert sparkline([float(i) for i in range(8)]) == "▁▂▃▄▅▆▇█"
    assert len(sparkline([float(i) for i in range(100)], width=24)) == 24
