"""The device whose person sits at the fleet's page."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from actor.fleet import until
from actor.point import PointPolicy, PointRobot
from lwd.actor.attended import AttendedRobot, Mode, Press
from lwd.actor.devices import device
from lwd.actor.devices.page import HOLD_S, SILENCE_S, Joints, PageDevice, page
from lwd.actor.heartbeat import Heart
from lwd.actor.loop import run_episode
from lwd.actor.process import Rig, heard
from lwd.actor.safety import ActionLimits, GuardedRobot
from lwd.episode.types import Kind, Source
from lwd.errors import ConfigError, ServiceError
from lwd.store.seats import Live, Orders, Seats, Word


@dataclass
class Service:
    """Orders of a service in memory, and what robots have shown it."""

    next: Orders = field(default_factory=Orders)
    shown: list[Live] = field(default_factory=list)
    away: bool = False
    closed: threading.Event = field(default_factory=threading.Event)

    def orders(self, live: Live, wait_s: float) -> Orders:
        if self.away:
            raise ServiceError("connection refused")
        self.shown.append(live)
        return self.next

    def close(self) -> None:
        self.closed.set()


class Watch:
    """A clock that stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def held(watch: Watch) -> Iterator[PageDevice]:
    """A device that no thread feeds."""
    made = PageDevice("point-0", Joints(2), 1e9, clock=watch)
    yield made
    made.close()


def orders(*presses: str, motion=(0.0, 0.0), silent_s=0.0, first=1) -> Orders:
    numbered = [(first + k, press, "ana") for k, press in enumerate(presses)]
    return Orders(presses=numbered, motion=motion, person="ana", silent_s=silent_s, watched=True)


def test_a_press_that_comes_twice_counts_once(held):
    robot = AttendedRobot(PointRobot(), held, (0, 1))
    robot.reset(1)
    for _ in range(2):
        held._take(orders("take over"))
    assert robot.wants_control(None)
    assert robot.mode is Mode.CORRECTING
    held._take(orders("take over", "hand back"))
    assert held.presses() == [Press.HAND_BACK]


def test_a_press_after_a_restart_of_the_service_reaches_a_robot_that_has_not_taken_the_last(held):
    service, ana = Seats(), Word(robot=held._live.robot, seat="page", press="pause")

    def ask() -> None:
        held._take(asyncio.run(service.orders(held._shown())))

    ask()
    service.say(ana, "ana")
    ask()
    service = Seats()
    ask()
    service.say(replace(ana, press="stop"), "ana")
    ask()
    assert held.presses() == [Press.PAUSE, Press.STOP]


def test_a_speed_holds_for_some_words_and_never_after(held, watch):
    held._take(orders(motion=(1.0, -0.5)))
    step = held.move(np.zeros(2, np.float32))
    assert step[0] > 0 > step[1]
    watch.now += HOLD_S
    assert np.array_equal(held.move(np.ones(2, np.float32)), [1, 1])
    held._take(orders(motion=(1.0, 1.0, 1.0)))  # of another robot
    assert np.array_equal(held.move(np.ones(2, np.float32)), [1, 1])


def test_a_person_who_is_lost_pauses_the_robot_within_one_tick_and_that_is_recorded(held, watch):
    """Words come until tick 5; then the connection is gone, and the clock goes on."""
    inner = PointRobot(time_limit_s=1.0)
    robot, modes, apply = AttendedRobot(inner, held, (0, 1)), [], inner.apply
    robot.on_mode = modes.append
    held._take(orders("take over", motion=(0.1, 0.0)))
    moved_since: list[int] = []

    def going_on(chunk):
        if len(inner.commands) == 5:
            watch.now += SILENCE_S + 0.01
        moved_since.append(len(inner.commands))
        return apply(chunk)

    inner.apply = going_on
    found: list = []
    thread = threading.Thread(
        target=lambda: found.append(
            run_episode(robot, 7, PointPolicy(gain=0.0), robot, kind=Kind.ONLINE)
        )
    )
    thread.start()
    until(lambda: robot.mode is Mode.PAUSED)
    until(lambda: inner.stopped == 1)
    assert moved_since[-1] == 5  # the tick under way, and no other
    held._take(orders("hand back", first=2))
    thread.join(10)
    (episode,) = found
    assert np.flatnonzero(episode.source == Source.HUMAN).tolist() == [0, 1, 2, 3, 4, 5]
    assert episode.events[0][:2] == ("moved", "mode:correcting")
    assert "by:ana" in episode.events[0]
    assert episode.events[6][1:3] == ("mode:paused", "by:the robot, which lost ana")
    assert modes == [Mode.CORRECTING, Mode.PAUSED, Mode.AUTONOMOUS]


def test_what_is_pressed_between_episodes_holds_in_the_next_unless_it_is_a_verdict(held):
    robot = AttendedRobot(PointRobot(), held, (0, 1))
    held._take(orders("pause", "take over", "success"))
    robot.reset(1)
    assert robot.mode is Mode.CORRECTING
    assert robot.wants_control(None)
    (tick,) = robot.apply(robot.act()[None])
    assert tick.events[1:] == ("mode:paused", "by:ana", "mode:correcting", "by:ana")
    assert tick.status == "running"


def test_the_robot_is_seen_only_while_somebody_looks(held, watch):
    robot = AttendedRobot(PointRobot(camera=True), held, (0, 1))
    robot.reset(1)
    robot.apply(np.zeros((1, 2)))
    assert (held._live.task, held._live.picture) == ("reach", "")
    held._take(orders())
    robot.apply(np.zeros((1, 2)))
    assert held._live.picture.startswith("/9j/")  # base64 of a JPEG's first bytes
    assert held._live.seconds == pytest.approx(0.2)


def test_a_robot_asks_again_when_the_service_was_away_and_says_that_it_is_paused():
    service, beats = Service(away=True), []
    rig = Rig(robot=lambda: AttendedRobot(PointRobot(), page(PointRobot(), "2"), (0, 1)))
    heart = Heart("point-0", beats.append, every_s=600.0)
    robot = heard(rig, heart, lambda found: found.connect(service)).robot()
    assert isinstance(robot, AttendedRobot)
    robot.reset(1)
    service.away, service.next = False, orders("pause", "hand back")
    until(lambda: service.shown)
    until(lambda: robot.device._pending)
    robot.wants_control(None)
    assert heart._beat.state == "acting"
    robot.on_mode(Mode.PAUSED)
    assert heart._beat.state == "paused"
    robot.device._take(orders("take over", "pause", "take over", first=3))
    robot.wants_control(None)
    assert heart._beat.state == "correcting"
    robot.device.close()
    assert service.closed.wait(10)


def test_a_robot_that_says_nothing_of_its_steering_needs_a_number_of_dimensions():
    limits = ActionLimits(lowest=np.zeros(2), highest=np.ones(2), step=np.ones(2))
    guarded = GuardedRobot(PointRobot(), limits, (0, 1))
    with pytest.raises(ConfigError, match="--device page:7"):
        device("page", guarded)
    made = device("page:2", guarded)
    assert isinstance(made, PageDevice)
    assert made._live.axes == ("dimension 1", "dimension 2")
    guarded.close()
