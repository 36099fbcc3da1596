"""`lwd suite`: what it counts and prints, of a suite of one task: to push a pendulum."""

import sys
import threading
from itertools import count

import gymnasium
import numpy as np
import pytest

from lwd.cli import main
from lwd.config import ControlConfig
from lwd.serve.wire import pack
from lwd.suites import GymTask, Suite
from serve.elsewhere import foreign

CONTROL = ControlConfig(rate_hz=20.0, horizon=5, timestep_s=0.05)
PUSH, NOTHING = np.ones(1), np.zeros(1)


class Pushed(gymnasium.Wrapper):
    """A pendulum that is content with being pushed."""

    def step(self, action):
        seen, reward, terminated, truncated, info = self.env.step(action)
        return seen, reward, terminated, truncated, {**info, "success": action[0] > 0.5}


class Steady:
    """An expert that does one thing."""

    def __init__(self, action):
        self._action = action

    def act(self, observation, info):
        return self._action


def push(*actions):
    """The task, demonstrated by these actions in turn, one an episode."""
    number = count()
    return GymTask(
        name="toys-push",
        instruction="push",
        make=lambda: Pushed(gymnasium.make("Pendulum-v1", disable_env_checker=True)),
        time_limit_s=0.5,
        expert=lambda environment, rng: Steady(actions[next(number) % len(actions)]),
    )


def planned(action):
    """What a server answers whose policy does one thing."""
    return pack({"actions": np.tile(action, (CONTROL.horizon, 1))})


@pytest.fixture
def lwd_suite(tmp_path, monkeypatch, capsys):
    """Runs `lwd suite toys` on one task; what it printed."""

    def run(task, *flags):
        suite = Suite(name="toys", tasks=(task,), control=CONTROL)
        monkeypatch.setattr("lwd.suites.load", lambda name, cameras_px: suite)
        monkeypatch.setattr("lwd.actor.process.stop_on_signals", threading.Event)
        words = ["lwd", "suite", "toys", "--robot", "r0", "--root", str(tmp_path), *flags]
        monkeypatch.setattr(sys, "argv", words)
        main()
        return capsys.readouterr().out

    return run


def test_demonstrations_that_fail_are_counted_though_none_is_kept(lwd_suite, tmp_path):
    flags = ("--kind", "demo", "--episodes", "2")
    said = lwd_suite(push(NOTHING, NOTHING, PUSH), *flags)
    assert said == "toys-push: 2 of 6 succeeded [10%, 70%]\n"
    assert len(list((tmp_path / "spool/r0/pending").glob("*.arrow"))) == 2

    said = lwd_suite(push(PUSH), *flags)
    assert said == "0 episodes now; the 2 of kind demo that r0 had saved before are not counted\n"


def test_a_rate_is_of_the_policy_that_acts_now(lwd_suite):
    lwd_suite(push(PUSH), "--kind", "demo", "--episodes", "1")
    flags = ("--kind", "rollout", "--server")
    with foreign(lambda message: planned(NOTHING)) as (url, _):
        said = lwd_suite(push(), *flags, url, "--episodes", "2")
    assert said == "toys-push: 0 of 2 succeeded [0%, 66%]\n"

    with foreign(lambda message: planned(PUSH)) as (url, messages):
        with pytest.raises(SystemExit) as refused:
            lwd_suite(push(), *flags, url, "--episodes", "2")
        assert "r0 has saved 2 episodes of kind rollout" in str(refused.value.code)
        assert not messages
        said = lwd_suite(push(), *flags, url, "--episodes", "3")
    assert said.splitlines() == [
        "toys-push: 1 of 1 succeeded [21%, 100%]",
        "1 episodes now; the 2 of kind rollout that r0 had saved before are not counted",
    ]
