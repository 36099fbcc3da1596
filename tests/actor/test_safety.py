"""Limits, the watchdog, and a stop within one tick."""

import threading

import numpy as np
import pytest

from actor.fleet import until
from actor.point import CONTROL, PointPolicy, PointRobot
from lwd.actor.loop import run_episode
from lwd.actor.robot import Status
from lwd.actor.safety import LIMITED, STOPPED, ActionLimits, GuardedRobot
from lwd.episode.types import Kind, Outcome
from lwd.errors import ConfigError, IntegrityError

BOX = np.array([0.5, 0.5], np.float32)
LIMITS = ActionLimits(lowest=-BOX, highest=BOX, step=np.array([0.1, 0.2], np.float32))
FREE = ActionLimits(
    lowest=np.full(2, -9, np.float32),
    highest=np.full(2, 9, np.float32),
    step=np.full(2, np.inf, np.float32),
)


@pytest.fixture
def guarded():
    """Makes guarded point robots whose watchdogs end with the test."""
    made = []

    def make(limits=LIMITS, robot=None, **options) -> GuardedRobot:
        robot = robot or PointRobot()
        made.append(GuardedRobot(robot, limits, (0, 1), **{"silence_s": 30.0, **options}))
        made[-1].reset(7)
        return made[-1]

    yield make
    for robot in made:
        robot.close()


@pytest.mark.parametrize(
    ("target", "before", "allowed"),
    [
        ([0.05, -0.1], [0, 0], [0.05, -0.1]),
        ([1, 1], [0, 0], [0.1, 0.2]),
        ([-9, 9], [-0.45, 0.4], [-0.5, 0.5]),
        ([0, 0], [2, 2], [0.5, 0.5]),  # a robot outside of its range goes in, not on
    ],
)
def test_targets_are_cut_to_range_and_step(target, before, allowed):
    cut = LIMITS(np.array(target, np.float32), np.array(before, np.float32))
    assert np.allclose(cut, allowed)


def test_every_tick_of_a_chunk_is_limited_from_the_one_before(guarded):
    robot = guarded()
    ticks = robot.apply(np.tile(np.float32([[1.0, 0.3]]), (4, 1)))
    assert np.allclose([t.action[0] for t in ticks], [0.1, 0.2, 0.3, 0.4])
    assert np.allclose([t.action[1] for t in ticks], [0.2, 0.3, 0.3, 0.3])
    assert all(LIMITED in tick.events for tick in ticks)
    assert robot.apply(ticks[-1].action[None])[0].events == ("moved",)


def test_what_is_recorded_is_what_was_executed(guarded):
    episode = run_episode(guarded(), 7, PointPolicy(), None, kind=Kind.ONLINE)
    assert episode is not None
    assert (np.abs(episode.action) <= 0.5 + 1e-6).all()
    assert (np.abs(episode.action_policy) > 0.5).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_never_reach_the_robot(guarded, bad):
    robot = guarded()
    with pytest.raises(IntegrityError, match="1 targets for robot point-0 are not finite"):
        robot.apply(np.array([[0.0, 0.0], [0.1, bad]], np.float32))
    assert robot.inner.commands == []


@pytest.mark.parametrize(
    ("lowest", "step"), [(np.zeros(3), np.zeros(2)), (np.full(2, 0.6), np.zeros(2))]
)
def test_limits_that_make_no_sense_are_refused(lowest, step):
    with pytest.raises(ConfigError, match="expected three of"):
        ActionLimits(lowest=lowest, highest=BOX, step=step)


def test_a_stop_ends_a_chunk_within_one_tick(guarded):
    stop = threading.Event()
    inner = PointRobot()
    apply = inner.apply

    def stopping(chunk):
        if len(inner.commands) == 2:
            stop.set()
        return apply(chunk)

    inner.apply = stopping
    robot = guarded(FREE, inner, stop=stop)
    ticks = robot.apply(np.zeros((5, 2), np.float32))
    assert len(ticks) == 3
    assert (ticks[-1].status, STOPPED in ticks[-1].events) == (Status.INTERRUPTED, True)
    assert inner.stopped == 1


def test_a_stopped_robot_holds_where_it_is(guarded):
    robot = guarded(FREE)
    robot.apply(np.full((2, 2), 0.1, np.float32))
    robot.halt.set()
    here = robot.observe().state[:2]
    (tick,) = robot.apply(np.full((5, 2), 5.0, np.float32))
    assert np.allclose(tick.action, here)
    assert tick.status is Status.INTERRUPTED
    episode = run_episode(guarded(FREE, stop=robot.halt), 1, PointPolicy(), None, kind=Kind.ONLINE)
    assert episode is not None
    assert (episode.ticks, episode.header.outcome) == (1, Outcome.INTERRUPTED)


def test_the_watchdog_stops_a_robot_whose_loop_hangs(guarded):
    robot = guarded(FREE, silence_s=0.5)
    policy = PointPolicy(gain=0.3)
    plan = policy.chunk

    def hanging(observation, instruction):
        if policy.planned == 1:
            until(lambda: robot.tripped)
        return plan(observation, instruction)

    policy.chunk = hanging
    episode = run_episode(robot, 7, policy, None, kind=Kind.ONLINE)
    assert episode is not None
    assert episode.header.outcome is Outcome.INTERRUPTED
    assert episode.ticks == CONTROL.horizon + 1
    assert STOPPED in episode.events[-1]
    assert robot.inner.stopped >= 2


def test_the_watchdog_sleeps_between_episodes_and_wakes_for_the_next(guarded):
    robot = guarded(FREE, silence_s=0.5)
    run_episode(robot, 7, PointPolicy(), None, kind=Kind.ONLINE)
    assert not threading.Event().wait(0.7)
    assert not robot.tripped
    assert robot.inner.stopped == 1
    episode = run_episode(robot, 8, PointPolicy(), None, kind=Kind.ONLINE)
    assert episode is not None
    assert episode.header.outcome is Outcome.SUCCESS
