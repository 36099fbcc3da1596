import numpy as np
import pytest

from lwd.actor.robot import Status, Tick
from lwd.config import COMPACT
from lwd.sim.body import MAX_OPENING
from lwd.sim.operator import SimOperator
from lwd.sim.robot import SimRobot

PATIENCE_S = 2.0


def watched(task: str, seed: int, policy) -> tuple[SimRobot, list[bool]]:
    """Run an episode of a policy under an operator: who acted in each tick."""
    robot = SimRobot(task, control=COMPACT)
    operator = SimOperator(robot, np.random.default_rng(seed), patience_s=PATIENCE_S)
    robot.reset(seed)
    tick: Tick | None = None
    human: list[bool] = []
    while robot.status is Status.RUNNING:
        human.append(operator.wants_control(tick))
        action = operator.act() if human[-1] else policy(robot)
        tick = robot.apply(action[None])[-1]
    return robot, human


def frozen(robot: SimRobot) -> np.ndarray:
    """A policy that does nothing."""
    return robot.target


@pytest.mark.parametrize("task", ["restocking", "freezer"])
def test_an_operator_finishes_for_a_policy_that_is_stuck(task):
    robot, human = watched(task, 3, frozen)
    assert robot.status is Status.SUCCESS
    first = human.index(True) / COMPACT.rate_hz
    assert PATIENCE_S + 0.4 < first < PATIENCE_S + 1.1, "patience, then a reaction time"


def test_an_operator_hands_back_after_each_step():
    _, human = watched("restocking", 3, frozen)
    takeovers = sum(now and not before for before, now in zip([False, *human], human, strict=False))
    assert takeovers == 2, "one to hold the item, one to place it"


def test_a_robot_that_needs_help_again_gets_it_for_more_steps():
    robot = SimRobot("restocking", control=COMPACT)
    operator = SimOperator(robot, np.random.default_rng(3), patience_s=PATIENCE_S)
    robot.reset(3)
    human, tick, dropped = [], None, False
    while robot.status is Status.RUNNING:
        human.append(operator.wants_control(tick))
        if human[-1]:
            action = operator.act()
        else:  # the policy opens its hands, with the item in one of them
            dropped |= robot.scene.holder(robot.scene.layout.target) is not None
            action = robot.target.copy()
            action[[7, 15]] = MAX_OPENING
        tick = robot.apply(action[None])[-1]
    takeovers = sum(now and not before for before, now in zip([False, *human], human, strict=False))
    assert dropped
    assert robot.status is Status.SUCCESS
    assert takeovers == 2, "the second time the operator does both steps"


def test_an_operator_leaves_a_good_policy_alone():
    robot = SimRobot("restocking", control=COMPACT)
    expert = SimOperator(robot, np.random.default_rng(0))
    operator = SimOperator(robot, np.random.default_rng(1), patience_s=8.0)
    robot.reset(3)
    tick = None
    while robot.status is Status.RUNNING:
        assert not operator.wants_control(tick)
        tick = robot.apply(expert.act()[None])[-1]
    assert robot.status is Status.SUCCESS


@pytest.mark.parametrize(("task", "name"), [("restocking", None), ("tea", "kettle")])
def test_an_operator_reacts_before_what_is_needed_falls_off_the_table(task, name):
    robot = SimRobot(task, control=COMPACT)
    operator = SimOperator(robot, np.random.default_rng(0))
    robot.reset(0)
    assert not operator.wants_control(None)
    thing = robot.scene.layout.target
    if name:
        thing = next(each for each in robot.spec.things if each.name == name)
    height = robot.scene.position(thing)[2]
    robot.scene.teleport(thing, (0.45, -0.58, height))
    wanted = [operator.wants_control(None)]
    for _ in range(10):
        wanted.append(operator.wants_control(robot.apply(robot.target[None])[-1]))
    assert not wanted[0]
    assert wanted[-1]
