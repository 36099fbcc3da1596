"""Heartbeats at the service."""

from dataclasses import replace

import pytest

from lwd.errors import EpisodeError
from lwd.store import heartbeats
from lwd.store.heartbeats import Beat, Heartbeats, check_beat
from sample_rows import Clock

BEAT = Beat(robot="a", state="acting", at=1.0, task="pour", policy_version=3)


def test_the_last_beat_of_each_robot_counts_by_the_services_clock():
    clock = Clock()
    beats = Heartbeats(clock)
    beats.note(BEAT)
    clock.now += 10
    beats.note(replace(BEAT, robot="b", received_at=5.0))
    beats.note(replace(BEAT, state="paused"))
    assert {(b.robot, b.state, b.received_at) for b in beats.last()} == {
        ("a", "paused", 1010.0),
        ("b", "acting", 1010.0),
    }
    assert beats.last(after=1010.0) == []


def test_of_too_many_robots_the_longest_silent_one_is_forgotten(monkeypatch):
    monkeypatch.setattr(heartbeats, "MOST_ROBOTS", 2)
    beats = Heartbeats(Clock())
    for name in ("a", "b", "a", "c"):
        beats.note(replace(BEAT, robot=name))
    assert [beat.robot for beat in beats.last()] == ["a", "c"]


def test_a_robot_that_was_started_again_is_one_and_two_that_take_turns_are_two():
    beats = Heartbeats(Clock())
    first, second = replace(BEAT, process="1"), replace(BEAT, process="2")
    assert all(map(beats.note, (first, first, second, second)))
    assert not beats.note(first)
    assert not beats.note(second)
    assert beats.note(replace(first, robot="b"))
    assert [(beat.process, beat.shared) for beat in beats.last()] == [("2", True), ("1", False)]
    assert beats.note(second)  # the first has ended
    assert not any(beat.shared for beat in beats.last())


@pytest.mark.parametrize(
    "wrong",
    [
        {"robot": ""},
        {"robot": "a" * 129},
        {"task": "\ud800"},  # no JSON that the list of all robots could be answered in
        {"state": "dancing"},
        {"at": float("nan")},
        {"policy_version": -1},
        {"pending": 2**31},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict):
    assert check_beat(BEAT) is BEAT
    with pytest.raises(EpisodeError, match="Heartbeat is not valid"):
        check_beat(replace(BEAT, **wrong))
