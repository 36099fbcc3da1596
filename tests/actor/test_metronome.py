"""Ticks on a clock that moves only where a test or a sleep says so."""

import pytest

from lwd.actor.metronome import Metronome


class Time:
    """A clock, and the sleep that moves it."""

    now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


def ticks(time: Time, *took: float) -> list[float]:
    """When ticks of 0.5 s end that take so long themselves; a start, and two ticks of patience."""
    metronome = Metronome(0.5, 2, clock=time.clock, sleep=time.sleep)
    time.now += 7.0
    metronome.start()
    ends = []
    for seconds in took:
        time.now += seconds
        metronome.wait()
        ends.append(time.now - 107.0)
    return ends


def test_ticks_end_a_period_apart_whatever_they_take(time):
    assert ticks(time, 0.0, 0.25, 0.5, 0.125) == [0.5, 1.0, 1.5, 2.0]


def test_who_is_late_catches_up(time):
    assert ticks(time, 0.25, 1.25, 0.125, 0.25, 0.25) == [0.5, 1.75, 1.875, 2.125, 2.5]


def test_who_stood_still_does_not_race(time):
    assert ticks(time, 0.25, 60.0, 0.25, 0.25) == [0.5, 60.5, 61.0, 61.5]


def test_who_is_always_late_never_sleeps(time):
    assert ticks(time, *[0.75] * 9) == [0.75 * k for k in range(1, 10)]
