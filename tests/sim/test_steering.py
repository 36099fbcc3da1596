"""A person's hands on a simulated robot."""

import base64

import numpy as np
import pytest

from lwd.actor.attended import Mode, View
from lwd.actor.devices import device
from lwd.actor.devices.page import PageDevice
from lwd.config import COMPACT
from lwd.config.fleet import DisturbanceConfig
from lwd.errors import ConfigError
from lwd.sim.robot import SimRobot
from lwd.sim.steering import MOTIONS, SIDE_PX, SPEED_M, HandSteering
from lwd.sim.trouble import TroubledRobot
from lwd.store.seats import Orders


@pytest.fixture
def robot() -> SimRobot:
    made = SimRobot("restocking", control=COMPACT)
    made.reset(3)
    return made


def speeds(side: int, motion: str, speed: float) -> np.ndarray:
    wanted = np.zeros((2, len(MOTIONS)), np.float32)
    wanted[side, MOTIONS.index(motion)] = speed
    return wanted.ravel()


def driven(robot: SimRobot, steering: HandSteering, wanted: np.ndarray, ticks: int) -> None:
    for _ in range(ticks):
        robot.apply(steering.steer(robot.target, wanted, 0.1)[None])


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("forward", 0, 1), ("left", 1, -1), ("up", 2, 1)]
)
def test_a_hand_goes_where_it_is_sent_and_the_other_stays(robot, motion, axis, sign):
    steering = HandSteering(robot)
    (left, turned), right = robot.scene.hand("left"), robot.scene.hand("right")[0]
    driven(robot, steering, speeds(0, motion, 0.5 * sign), 8)
    moved = robot.scene.hand("left")[0] - left
    assert sign * moved[axis] == pytest.approx(0.5 * SPEED_M * 0.8, abs=0.03)
    assert np.abs(np.delete(moved, axis)).max() < 0.02
    assert np.allclose(robot.scene.hand("left")[1], turned, atol=0.1)
    assert np.allclose(robot.scene.hand("right")[0], right, atol=0.01)


def test_a_hand_turns_and_a_gripper_closes(robot):
    steering = HandSteering(robot)
    before, turned = robot.scene.hand("right")
    driven(robot, steering, speeds(1, "turn", 1.0) + speeds(1, "open", -1.0), 7)
    after, now = robot.scene.hand("right")
    angle = np.arccos((np.trace(now @ turned.T) - 1) / 2)
    assert 0.4 < angle < 1.2
    assert np.allclose(after, before, atol=0.03)
    assert robot.scene.opening("right") < 0.01
    assert steering.facts()["right gripper"].endswith("mm open")


def test_a_hand_that_the_shelf_stops_comes_back_at_once(robot):
    steering = HandSteering(robot)
    driven(robot, steering, speeds(0, "forward", 1.0), 60)
    far = robot.scene.hand("left")[0][0]
    driven(robot, steering, speeds(0, "forward", -1.0), 10)
    assert robot.scene.hand("left")[0][0] < far - 0.1


def test_the_page_sees_a_troubled_robot_by_its_hands(robot):
    found = device("page", TroubledRobot(robot, DisturbanceConfig()))
    assert isinstance(found, PageDevice)
    assert found._live.axes[:2] == ("left hand: forward", "left hand: left")
    found._take(Orders(watched=True))
    task, seen = robot.reset(4), robot.observe()
    found.show(View(mode=Mode.PAUSED, task=task, seconds=0.0, observation=seen))
    assert found._live.facts["steps done"].startswith("0 of ")
    try:
        picture = HandSteering(robot).picture()
    except ConfigError:
        picture = None
    if picture is not None:  # there is OpenGL here
        assert picture.shape == (SIDE_PX, 2 * SIDE_PX, 3)
        assert base64.b64decode(found._live.picture)[:2] == b"\xff\xd8"
    found._take(Orders())
    found.show(View(mode=Mode.PAUSED, task=task, seconds=0.0, observation=seen))
    assert found._live.picture == ""
