from collections.abc import Iterator

import numpy as np
import pytest

from lwd.config import COMPACT
from lwd.sim.geometry import UP
from lwd.sim.hands import Hands
from lwd.sim.pouring import Stand, pour, pouring_direction, tip
from lwd.sim.robot import SimRobot
from lwd.sim.skills import pick
from lwd.sim.tasks.tea import cups
from lwd.sim.tasks.tea_set import BOWL, GAIWAN, KETTLE, PITCHER, SCOOP


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("tea", control=COMPACT)
    robot.reset(0)
    return robot


def carry_out(robot: SimRobot, hands: Hands, skill: Iterator[None]) -> float:
    """Run a skill; its length in robot seconds."""
    started = robot.elapsed_s
    for _ in skill:
        robot.apply(hands.target.astype(np.float32)[None])
        hands.target = robot.target.astype(np.float64)
    return robot.elapsed_s - started


def hands_on(robot: SimRobot) -> Hands:
    return Hands(scene=robot.scene, rate_hz=10.0, rng=np.random.default_rng(0))


def test_a_pour_stops_at_the_volume_and_the_next_empties_the_vessel(robot):
    scene, hands = robot.scene, hands_on(robot)
    cup = cups(scene)[0]
    scene.liquids.fill(PITCHER, 100.0)
    carry_out(robot, hands, pick(hands, PITCHER, "left", lean=np.deg2rad(55)))
    seconds = carry_out(robot, hands, pour(hands, PITCHER, cup, ml=30.0))
    assert scene.liquids.volume(cup) == pytest.approx(30.0, abs=3.0)
    assert seconds < 10.0
    assert scene.upright(PITCHER) > 0.98
    assert scene.holder(PITCHER) == "left"

    carry_out(robot, hands, pour(hands, PITCHER, BOWL))
    assert scene.liquids.volume(PITCHER) < 1.0
    assert scene.liquids.volume(BOWL) == pytest.approx(70.0, abs=4.0)
    assert sum(scene.liquids.spilled_ml.values()) < 1.0


def test_a_slow_hand_too_turns_as_far_as_it_must(robot):
    scene, hands = robot.scene, hands_on(robot)
    carry_out(robot, hands, pick(hands, SCOOP, "right", rise=-0.003))
    hands.pace = 0.35
    upright = []

    def steep() -> float:
        upright.append(scene.rotation(SCOOP)[2, 2])
        return np.deg2rad(110)

    carry_out(robot, hands, tip(hands, SCOOP, GAIWAN, steep))
    assert min(upright) < np.cos(np.deg2rad(105))
    assert scene.upright(SCOOP) > 0.98


def test_a_vessel_in_no_hand_is_not_poured(robot):
    hands = hands_on(robot)
    before = dict(robot.scene.liquids.ml)
    assert carry_out(robot, hands, pour(hands, KETTLE, BOWL)) == 0.0
    assert robot.scene.liquids.ml == before


def test_the_hand_turns_about_the_lip(robot):
    scene = robot.scene
    direction = pouring_direction(scene, "right", KETTLE, BOWL)
    assert direction @ UP == 0.0
    assert direction[1] > 0.9, "the right hand pours to the left"
    stand = Stand(scene, "right", KETTLE, direction)
    lip = np.array([0.5, 0.0, 0.9])
    position, rotation = scene.hand("right")
    grasp = scene.rotation(KETTLE).T @ rotation
    arm = scene.rotation(KETTLE).T @ (scene.position(KETTLE) - position)
    for tilt in (0.0, 0.7, 1.9):
        hand, turned = stand.pose(lip, tilt)
        vessel = turned @ grasp.T
        assert np.arccos(vessel[2, 2]) == pytest.approx(tilt, abs=1e-6)
        tip = hand + vessel @ arm + vessel @ [KETTLE.mouth_radius + KETTLE.spout, 0, 0.0425]
        np.testing.assert_allclose(tip, lip, atol=1e-9)
