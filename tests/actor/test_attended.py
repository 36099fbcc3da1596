"""A person beside the robot: every transition, what is recorded of it, and the devices."""

import os
import pty
import struct
import threading
import time
from itertools import product

import numpy as np
import pytest

from actor.fleet import until
from actor.point import PointPolicy, PointRobot
from lwd.actor.attended import AttendedRobot, Device, Mode, Press, after
from lwd.actor.devices import device
from lwd.actor.devices.fed import FedDevice
from lwd.actor.devices.gamepad import Gamepad
from lwd.actor.devices.keyboard import Keyboard
from lwd.actor.loop import run_episode
from lwd.actor.realtime import RealtimePolicy
from lwd.episode.types import Kind, Outcome, Source
from lwd.errors import ConfigError

A, P, C = Mode.AUTONOMOUS, Mode.PAUSED, Mode.CORRECTING
TABLE = {
    A: {Press.PAUSE: P, Press.TAKE_OVER: C},
    P: {Press.TAKE_OVER: C, Press.HAND_BACK: A},
    C: {Press.PAUSE: P, Press.HAND_BACK: A},
}


@pytest.mark.parametrize(("mode", "press"), list(product(Mode, Press)))
def test_every_press_in_every_mode(mode, press):
    assert after(mode, press) is TABLE[mode].get(press, mode)


class Scripted(FedDevice):
    """Presses at given ticks; a person's motion is always the same."""

    def __init__(self, script: dict[int, Press], motion=(0.05, 0.0)):
        super().__init__()
        self._script, self._tick = script, -2  # the reset listens once before the first tick
        self._step = np.array(motion, np.float32)

    def presses(self):
        self._tick += 1
        pressed = super().presses()
        return pressed + ([self._script[self._tick]] if self._tick in self._script else [])

    def move(self, target):
        return target + self._step


def attended(device_: Device, robot=None, **options) -> AttendedRobot:
    return AttendedRobot(robot or PointRobot(), device_, (0, 1), **options)


def episode_of(robot: AttendedRobot, policy=None, **options):
    policy = policy or PointPolicy(gain=0.0)
    episode = run_episode(robot, 7, policy, robot, kind=Kind.ONLINE, **options)
    assert episode is not None
    return episode


def changes(episode) -> dict[int, list[str]]:
    own = {t: [e for e in events if e != "moved"] for t, events in enumerate(episode.events)}
    return {tick: events for tick, events in own.items() if events}


def test_nobody_presses_and_nothing_changes():
    alone = run_episode(PointRobot(), 7, PointPolicy(), None, kind=Kind.ONLINE)
    watched = episode_of(attended(FedDevice()), PointPolicy())
    assert alone is not None
    assert np.array_equal(watched.action, alone.action)
    assert changes(watched) == {}


def test_a_person_takes_over_corrects_and_hands_back():
    robot = attended(Scripted({3: Press.TAKE_OVER, 6: Press.HAND_BACK}))
    episode = episode_of(robot)
    assert np.flatnonzero(episode.source == Source.HUMAN).tolist() == [3, 4, 5]
    assert np.allclose(episode.action[3:6, 0], [0.05, 0.10, 0.15])
    assert changes(episode) == {3: ["mode:correcting"], 6: ["mode:autonomous"]}
    assert robot.mode is A


def test_a_person_may_take_over_before_the_first_tick():
    episode = episode_of(attended(Scripted({0: Press.TAKE_OVER})))
    assert np.allclose(episode.action[:2, 0], [0.05, 0.10])
    assert (episode.source == Source.HUMAN).all()


def test_a_paused_robot_rests_and_nothing_is_recorded_of_it():
    inner, given = PointRobot(time_limit_s=1.0), FedDevice()
    robot = attended(given, inner)
    apply = inner.apply

    def pausing(chunk):
        if len(inner.commands) == 3:
            given.press(Press.PAUSE)
        return apply(chunk)

    inner.apply = pausing
    thread = threading.Thread(target=lambda: found.append(episode_of(robot)))
    found: list = []
    thread.start()
    until(lambda: robot.mode is P)
    until(lambda: inner.stopped)
    assert len(inner.commands) == 4
    given.press(Press.HAND_BACK)
    thread.join(10)
    (episode,) = found
    assert episode.ticks == 10
    (events,) = changes(episode).values()
    assert events[0] == "mode:paused"
    assert events[1] == "mode:autonomous"
    assert events[2].startswith("paused:0.")
    assert list(changes(episode)) == [4]


@pytest.mark.parametrize(
    ("press", "outcome"),
    [
        (Press.SUCCESS, Outcome.SUCCESS),
        (Press.FAILURE, Outcome.FAILURE),
        (Press.STOP, Outcome.INTERRUPTED),
    ],
)
def test_a_verdict_ends_the_episode_after_a_tick_at_rest(press, outcome):
    episode = episode_of(attended(Scripted({4: press})), PointPolicy(gain=0.4))
    assert episode.ticks == 5
    assert episode.header.outcome is outcome
    assert np.allclose(episode.action[4], episode.state[4, :2])
    assert changes(episode) == {4: [f"verdict:{press}"]}


@pytest.mark.parametrize("ends", ["verdict", "stop"])
def test_a_paused_robot_can_be_judged_and_its_process_can_end(ends):
    stop, given = threading.Event(), Scripted({2: Press.PAUSE})
    robot, found = attended(given, stop=stop), []
    thread = threading.Thread(target=lambda: found.append(episode_of(robot, stop=stop)))
    thread.start()
    until(lambda: robot.mode is P)
    if ends == "stop":
        stop.set()
    else:
        given.press(Press.FAILURE)
    thread.join(10)
    (episode,) = found
    assert episode.header.outcome is (Outcome.INTERRUPTED if ends == "stop" else Outcome.FAILURE)
    assert episode.ticks == 3


def test_what_is_pressed_between_episodes_is_about_none_of_them():
    given = FedDevice()
    robot = attended(given)
    given.press(Press.SUCCESS)
    assert episode_of(robot).header.outcome is Outcome.TIMEOUT


def test_a_person_takes_over_from_a_policy_that_plans_ahead():
    robot = attended(Scripted({3: Press.TAKE_OVER, 6: Press.HAND_BACK}), PointRobot(tick_s=0.02))
    policy = RealtimePolicy([PointPolicy(gain=0.0)], robot.control)
    episode = episode_of(robot, policy)
    policy.close()
    assert np.flatnonzero(episode.source == Source.HUMAN).tolist() == [3, 4, 5]
    assert (episode.action[6:, 0] > 0.1).all()


def test_pushes_add_up_until_the_next_tick():
    fed = FedDevice()
    fed.push(np.array([0.1, 0.0]))
    fed.push(np.array([0.1, 0.2]))
    assert np.allclose(fed.move(np.ones(2, np.float32)), [1.2, 1.2])
    assert np.allclose(fed.move(np.ones(2, np.float32)), [1, 1])


@pytest.fixture
def terminal():
    """The person's end and the process' end of a terminal."""
    person, process = pty.openpty()
    yield person, process
    for descriptor in (person, process):
        os.close(descriptor)


def test_the_keyboard(terminal):
    person, process = terminal
    keyboard = Keyboard(process, step=0.5)
    os.write(person, b"t \x1b[C\x1b[A\x1b[A")
    seen: list[Press] = []
    until(lambda: seen.extend(keyboard.presses()) or len(seen) == 2)
    assert seen == [Press.TAKE_OVER, Press.PAUSE]
    target = np.zeros(2, np.float32)
    end = time.monotonic() + 10
    while target[1] != 1.0:
        target = keyboard.move(target)
        assert time.monotonic() < end
    assert target[0] == 0
    os.write(person, b"hynqx")
    seen.clear()
    until(lambda: seen.extend(keyboard.presses()) or len(seen) == 4)
    assert seen == [Press.HAND_BACK, Press.SUCCESS, Press.FAILURE, Press.STOP]
    keyboard.close()


def test_the_keyboard_gives_the_terminal_back(terminal):
    import termios

    _, process = terminal
    before = termios.tcgetattr(process)
    keyboard = Keyboard(process)
    assert termios.tcgetattr(process) != before
    keyboard.close()
    assert termios.tcgetattr(process) == before


def test_the_keyboard_needs_a_terminal(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="a terminal"):
        Keyboard(file.fileno())


def event(kind: int, number: int, value: int) -> bytes:
    return struct.pack("<IhBB", 0, value, kind, number)


@pytest.fixture
def pad(tmp_path):
    """A gamepad, and where its events are written."""
    os.mkfifo(tmp_path / "js0")
    gamepad = Gamepad(str(tmp_path / "js0"), rate_hz=10.0, speed=1.0)
    with open(tmp_path / "js0", "wb", buffering=0) as events:
        yield gamepad, events
    gamepad.close()


def test_the_gamepad(pad):
    gamepad, events = pad
    events.write(event(0x81, 2, 0) + event(1, 2, 1) + event(1, 2, 0) + event(1, 1, 1)[:5])
    assert gamepad.presses() == [Press.TAKE_OVER]
    events.write(event(1, 1, 1)[5:] + event(2, 0, 32767) + event(2, 1, -16384) + event(2, 2, 900))
    assert gamepad.presses() == [Press.PAUSE]
    moved = gamepad.move(np.zeros(16, np.float32))
    assert np.allclose(moved[:3], [0.1, -0.05, 0.0], atol=1e-5)
    assert np.allclose(gamepad.move(moved)[:2], [0.2, -0.1], atol=1e-5)
    events.write(event(1, 5, 1))
    moved = gamepad.move(np.zeros(16, np.float32))
    assert np.allclose(moved[8:10], [0.1, -0.05], atol=1e-5)
    assert (moved[:8] == 0).all()


def test_a_gamepad_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"/dev/input/none cannot be opened: No such file"):
        Gamepad("/dev/input/none", 10.0)


def test_devices_are_plugins(monkeypatch):
    asked, pedal = [], FedDevice()

    class Point:
        name = "pedal"

        def load(self):
            return lambda robot, where: asked.append((robot.robot_id, where)) or pedal

    monkeypatch.setattr("lwd.actor.devices.entry_points", lambda group: [Point()])
    assert device("pedal:/dev/ttyUSB0", PointRobot()) is pedal
    assert asked == [("point-0", "/dev/ttyUSB0")]
    with pytest.raises(ConfigError, match=r"device 'petal' is unknown. Did you mean 'pedal'"):
        device("petal", PointRobot())
