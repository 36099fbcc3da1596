"""Ticks on a clock that moves only where a test or a sleep says so."""

import pytest

from lwd.actor.metronome import Metronome
from sample_rows import Clock


@pytest.fixture
def time() -> Clock:
    return Clock()


def ticks(time: Clock, *took: float) -> list[float]:
    """When ticks of 0.5 s end that take so long themselves; a start, and two ticks of patience."""
    metronome = Metronome(0.5, 2, clock=time, sleep=time.sleep)
    time.now += 7.0
    metronome.start()
    started, ends = time.now, []
    for seconds in took:
        time.now += seconds
        metronome.wait()
        ends.append(time.now - started)
    return ends


def test_ticks_end_a_period_apart_whatever_they_take(time):
    assert ticks(time, 0.0, 0.25, 0.5, 0.125) == [0.5, 1.0, 1.5, 2.0]


def test_who_is_late_catches_up(time):
    assert ticks(time, 0.25, 1.25, 0.125, 0.25, 0.25) == [0.5, 1.75, 1.875, 2.125, 2.5]


def test_who_stood_still_does_not_race(time):
    assert ticks(time, 0.25, 60.0, 0.25, 0.25) == [0.5, 60.5, 61.0, 61.5]


def test_who_is_always_late_never_sleeps(time):
    assert ticks(time, *[0.75] * 9) == [0.75 * k for k in range(1, 10)]
