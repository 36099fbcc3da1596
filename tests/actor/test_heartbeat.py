"""A robot's signs of life."""

from dataclasses import replace

import numpy as np

from actor.point import PointPolicy, PointRobot
from lwd.actor.heartbeat import Heart, Watched, beating
from lwd.actor.loop import run_episode
from lwd.actor.process import Rig, heard
from lwd.actor.robot import Tick
from lwd.episode.types import Kind
from lwd.errors import ServiceError
from lwd.store.heartbeats import Beat
from processes import wait_until


class Ears:
    """Hears beats, or does not."""

    def __init__(self) -> None:
        self.heard: list[Beat] = []
        self.deaf = 0

    def __call__(self, beat: Beat) -> None:
        if self.deaf:
            self.deaf -= 1
            raise ServiceError("the service is away")
        self.heard.append(beat)


class Someone:
    """An operator who wants control when told."""

    wants = False

    def wants_control(self, tick: Tick | None) -> bool:
        return self.wants

    def act(self) -> np.ndarray:
        return np.ones(2, np.float32)


class Acting:
    version, normalisation_hash, tokenizer_hash = 7, "", ""

    def reset(self, seed: int) -> None: ...

    def chunk(self, observation, instruction: str) -> np.ndarray:
        return np.zeros((1, 2), np.float32)


def test_a_change_of_hands_is_said_at_once():
    ears, someone = Ears(), Someone()
    with Heart("a", ears, pending=lambda: 3, every_s=600.0, clock=lambda: 5.0) as heart:
        wait_until(lambda: ears.heard, "the first beat")
        first = Beat(robot="a", state="waiting", at=5.0, pending=3)
        assert replace(ears.heard[0], process="") == first
        assert beating(Acting(), heart).version == 7
        wait_until(lambda: len(ears.heard) == 2, "the beat of a robot that acts")
        watched = Watched(someone, heart)
        assert not watched.wants_control(None)
        someone.wants = True
        assert watched.wants_control(None)
        assert watched.act().tolist() == [1, 1]
        wait_until(lambda: len(ears.heard) == 3, "the beat of a robot that is corrected")
    acting = replace(ears.heard[0], state="acting", policy_version=7)
    assert ears.heard[1:] == [acting, replace(acting, state="correcting")]


def test_a_beat_says_which_episode_of_which_task_the_robot_is_in():
    heart = Heart("point-0", lambda beat: None)
    rig = heard(Rig(robot=PointRobot), heart, lambda device: None)
    policy = PointPolicy(1.0, 3)
    episode = run_episode(rig.robot(), 1, policy, None, kind=Kind.ROLLOUT, recording=rig.recording)
    assert episode is not None
    assert (heart._beat.task, heart._beat.episode_id) == ("reach", episode.header.episode_id)


def test_nobody_stops_because_a_beat_was_not_heard():
    ears = Ears()
    ears.deaf = 2
    with Heart("a", ears, every_s=0.0) as heart:
        wait_until(lambda: ears.heard, "a beat after two that were lost")
        heart.note("paused")
        wait_until(lambda: ears.heard[-1].state == "paused", "the next one")
