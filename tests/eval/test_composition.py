"""Table IV and Fig. 7 of a buffer that is not finished."""

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lwd.episode.types import Kind
from lwd.eval.composition import HEAD, draw, line, missing, rows, table, write
from lwd.sim.collect.composition import TABLE_IV, Buffer, streams
from lwd.sim.collect.journal import Entry

MADE = [
    ("restocking", "demo", "success", "demo", 3600.0),
    ("restocking", "rollout", "failure", "failure", 900.0),
    ("restocking", "rollout", "success", "", 900.0),
    ("tea", "demo", "success", "demo", 7200.0),
    ("tea", "play", "invalid", "", 30.0),
]
"""Task, kind, outcome, cell and seconds of each attempt."""


@pytest.fixture
def buffer() -> Buffer:
    """A tenth of the paper's hours is wanted; little of it has been made."""
    of = {(s.task, s.kind): s for s in streams(["tea", "restocking"], 0.1, 1.0)}
    entries = []
    for number, (task, kind, outcome, cell, seconds) in enumerate(MADE):
        entries.append(
            Entry(
                task=task, kind=kind, number=number, episode_id=f"{number:032x}",
                outcome=outcome, seconds=seconds, cell=cell,
            )
        )  # fmt: skip
        of[task, Kind(kind)].add(entries[-1])
    return Buffer(scale=0.1, streams=tuple(of.values()), entries=tuple(entries))


def test_the_table_has_made_and_wanted_hours_of_every_cell(buffer):
    found = {row[0]: dict(zip(HEAD, row, strict=True)) for row in rows(buffer)}
    assert list(found) == ["restocking", "tea", "all tasks"]
    assert found["restocking"]["Demo"] == "1 / 1.45"
    assert found["restocking"]["Rollout (Fail)"] == "0.25 / 0.17"
    assert found["restocking"]["Rollout (Succ)"] == "0 / 1.07"
    assert found["tea"]["Play"] == "0 / 4.36"
    assert found["tea"]["Invalid"] == "1"
    everything = found["all tasks"]
    assert everything["Total"] == "3.25 / 19.7"
    assert (everything["Attempts"], everything["Kept"], everything["Invalid"]) == ("5", "3", "1")
    screen = Console(width=150, file=io.StringIO())
    screen.print(table(buffer))
    assert line(buffer) == "3.25 of 19.7 h, 3 episodes kept of 5 attempts, 1 invalid"


def test_what_is_missing_is_said_with_the_reason(buffer):
    said = missing(buffer)
    assert "restocking, demo: 1 of 1.45 h after 1 attempts" in said
    assert "tea, success: 0 of 1.24 h after 0 attempts; rollouts need --policies" in said
    assert not any(words.startswith("restocking, failure") for words in said)


def test_the_picture_and_the_table_are_written(buffer, tmp_path):
    text, picture = write(buffer, tmp_path)
    assert "| tea | 2 / 10.2 |" in text.read_text()
    assert "Not filled: tea, demo" in text.read_text()
    shown = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    green, red = (47, 143, 91), (192, 80, 77)
    for colour in (green, red):
        assert (np.abs(shown.astype(int) - colour).max(1) < 3).mean() > 0.005


def test_no_two_labels_of_the_papers_buffer_overlap(caplog):
    full = streams(TABLE_IV, 1.0, 1.0)
    for stream in full:
        stream.made = dict(stream.wanted)
    figure = draw(Buffer(scale=1.0, streams=tuple(full), entries=()))
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert len(boxes) == (8 if axes is figure.axes[0] else 4)
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert caplog.text == "", "matplotlib's words would stand among those of `lwd sim collect`"


def test_an_empty_buffer_has_a_picture_too(tmp_path):
    nothing = Buffer(scale=0.1, streams=tuple(streams(["tea"], 0.1, 1.0)), entries=())
    assert write(nothing, tmp_path)[1].stat().st_size > 1000
