import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT, FULL
from lwd.sim.body import SIDES
from lwd.sim.expert import Expert
from lwd.sim.goods import SKUS
from lwd.sim.measure import expert_success
from lwd.sim.robot import SimRobot
from lwd.sim.tasks.freezer import FREEZER, closed, draw, held_out, inside, stowed


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("freezer", control=COMPACT)
    robot.reset(0)
    return robot


def into_freezer(robot: SimRobot) -> None:
    """Teleport the named item to the goal."""
    layout = robot.scene.layout
    x, y, z = layout.goal
    robot.scene.teleport(layout.target, (x, y, z + layout.target.shape.height / 2 + 0.001))


def turn_door(robot: SimRobot, angle: float) -> None:
    robot.scene.data.joint("door").qpos[0] = angle


def hold_still(robot: SimRobot, seconds: float) -> None:
    for _ in range(round(seconds * robot.control.rate_hz)):
        robot.apply(robot.target[None])


def test_the_scene_starts_closed_and_empty(robot):
    thing = robot.scene.layout.target
    assert closed(robot.scene, thing)
    assert not inside(robot.scene, thing)
    assert robot.scene.reached == 0
    assert FREEZER.progress(robot.scene) == 0


def test_success_needs_a_door_that_was_open(robot):
    into_freezer(robot)
    hold_still(robot, 0.3)
    thing = robot.scene.layout.target
    assert inside(robot.scene, thing)
    assert stowed(robot.scene, thing)
    assert closed(robot.scene, thing)
    assert robot.status is Status.RUNNING

    turn_door(robot, 1.0)
    hold_still(robot, 0.2)
    assert robot.scene.reached == 1
    assert robot.status is Status.RUNNING, "the door is open"

    turn_door(robot, 0.05)
    hold_still(robot, 0.1)
    assert robot.status is Status.SUCCESS


def test_success_needs_the_named_item(robot):
    layout = robot.scene.layout
    other = next(i.thing for i in layout.items if i.thing is not layout.target)
    x, y, z = layout.goal
    robot.scene.teleport(other, (x, y, z + other.shape.height / 2))
    turn_door(robot, 1.0)
    hold_still(robot, 0.1)
    turn_door(robot, 0.0)
    hold_still(robot, 0.1)
    assert inside(robot.scene, other)
    assert robot.scene.reached == 1
    assert robot.status is Status.RUNNING


def test_an_item_on_top_of_the_freezer_is_not_inside(robot):
    x, y, _ = robot.scene.layout.goal
    robot.scene.teleport(robot.scene.layout.target, (x, y, 1.2))
    hold_still(robot, 0.5)
    assert robot.scene.position(robot.scene.layout.target)[2] > 1.1
    assert not inside(robot.scene, robot.scene.layout.target)


def test_a_lost_item_ends_the_episode(robot):
    robot.scene.teleport(robot.scene.layout.target, (0.5, -0.8, 0.5))
    hold_still(robot, 0.1)
    assert robot.status is Status.FAILURE


def test_a_closed_door_touches_nothing(robot):
    """Contact between a door and its static frame is not filtered and would jam it."""
    hold_still(robot, 0.2)
    scene = robot.scene
    touching = scene.model.geom_bodyid[scene.data.contact.geom]
    assert scene.model.body("door").id not in touching


@pytest.mark.parametrize("evaluation", [False, True])
def test_layouts_keep_the_two_splits_apart(evaluation):
    rng = np.random.default_rng(0)
    for _ in range(100):
        layout = draw(rng, evaluation)
        first = layout.items[0]
        assert first.thing is layout.target
        spots = np.array([[x, y] for x in (0.40, 0.51) for y in (-0.47, -0.36, -0.25, -0.14)])
        spot = int(np.argmin(np.linalg.norm(spots - first.position[:2], axis=1)))
        assert held_out(first.thing, spot) is evaluation
        assert len({item.thing for item in layout.items}) == len(layout.items)
        assert 6 <= len(layout.items) <= 8


def test_both_splits_name_every_item():
    rng = np.random.default_rng(0)
    for evaluation in (False, True):
        assert {draw(rng, evaluation).target for _ in range(300)} == set(SKUS)


def test_the_expert_succeeds_on_held_out_layouts():
    result = expert_success("freezer", 6, 100, COMPACT, held_out=True)
    assert result.successes == result.episodes
    assert result.mean_s < 15.0


def test_the_expert_succeeds_at_the_full_rate():
    assert expert_success("freezer", 1, 7, FULL).successes == 1


def test_the_right_arm_serves_the_item_and_the_left_arm_the_door(robot):
    expert = Expert(robot, np.random.default_rng(0))
    holders, door_hands = set(), set()
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
        scene = robot.scene
        holders.add(scene.holder(scene.layout.target))
        handle = scene.data.site("handle").xpos
        door_hands |= {s for s in SIDES if np.linalg.norm(scene.hand(s)[0] - handle) < 0.03}
    assert holders == {None, "right"}
    assert door_hands == {"left"}


@pytest.mark.parametrize("seed", range(4))
def test_the_expert_recovers_from_a_bad_start(robot, seed):
    """Both arms astray, one gripper closed, the door ajar."""
    rng = np.random.default_rng(seed)
    robot.reset(seed)
    turn_door(robot, rng.uniform(0.0, 0.6))
    goal = robot.target + rng.normal(0.0, 0.25, 16)
    goal[7::8] = (0.0, 0.09)
    for _ in range(15):
        robot.apply(np.clip(goal, robot.target - 0.1, robot.target + 0.1)[None])
    expert = Expert(robot, rng)
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
    assert robot.status is Status.SUCCESS
