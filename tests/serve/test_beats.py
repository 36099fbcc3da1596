"""Signs of life that a server sends for its robots."""

from types import SimpleNamespace

import numpy as np

from lwd.serve.beats import EVERY_S, Beats
from lwd.serve.session import Running, Session, Sessions
from serve.point import GoalPolicy


def acting(session: Session, *, human: bool = False) -> None:
    session.running = Running(
        key="",
        policy=GoalPolicy(7),
        instruction="pick up the cube " * 20,
        rng=np.random.default_rng(0),
        track=None,
        started_at=0.0,
        shapes={},
        human=human,
    )


def test_a_beat_is_due_when_something_has_changed_or_it_is_time():
    now, sessions = SimpleNamespace(s=100.0), Sessions()
    beats = Beats(sessions, lambda beat: None, clock=lambda: now.s)
    assert beats.due() == []
    holder = object()
    arm, ours = sessions.join("arm", holder), sessions.join("ours", object())
    ours.beats = True  # it runs our code, and would be taken for two
    (beat,) = beats.due()
    assert (beat.robot, beat.state, beat.at, beat.policy_version) == ("arm", "waiting", 100.0, 0)
    assert beats.due() == []
    acting(arm)
    (beat,) = beats.due()
    assert (beat.state, beat.policy_version) == ("acting", 7)
    assert beat.task.startswith("pick up the cube")
    assert len(beat.task) == 128
    acting(arm, human=True)
    assert [beat.state for beat in beats.due()] == ["correcting"]
    now.s += EVERY_S
    assert [beat.state for beat in beats.due()] == ["correcting"]
    sessions.leave(arm, holder)
    now.s += EVERY_S
    assert beats.due() == []


def test_recorded_episodes_have_the_servers_task():
    sessions = Sessions()
    acting(sessions.join("arm", object()))
    assert Beats(sessions, lambda beat: None, task="tidy-up").due()[0].task == "tidy-up"
