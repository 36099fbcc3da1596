import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.sim.expert import Expert
from lwd.sim.goods import SKUS
from lwd.sim.hands import NO_NOISE
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.task import TABLE_Z
from lwd.sim.tasks.restocking import draw, neighbours
from lwd.sim.things import Thing


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("restocking", control=COMPACT)
    robot.reset(1)
    return robot


def stand(robot: SimRobot, thing: Thing, foot: np.ndarray) -> None:
    """Put an item upright on a point."""
    robot.scene.teleport(thing, (foot[0], foot[1], foot[2] + thing.shape.height / 2))


def settled(robot: SimRobot) -> Status:
    """Status after a second at rest."""
    return robot.apply(np.tile(REST, (10, 1)))[-1].status


def finished(robot: SimRobot) -> Status:
    """Status when the expert has done what it can."""
    expert = Expert(robot, np.random.default_rng(0), noise=NO_NOISE)
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
    return robot.status


@pytest.mark.parametrize(("offset_m", "status"), [(0.03, Status.SUCCESS), (-0.045, Status.RUNNING)])
def test_the_named_item_in_the_gap_is_a_success(robot, offset_m, status):
    layout = robot.scene.layout
    x, y, z = layout.goal
    stand(robot, layout.target, np.array([x, y + offset_m, z]))
    assert settled(robot) is status


def test_a_lying_item_is_not_placed(robot):
    layout = robot.scene.layout
    stand(robot, layout.target, np.array(layout.goal))
    q = robot.scene.model.joint(layout.target.name).qposadr[0]
    robot.scene.data.qpos[q + 3 : q + 7] = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    assert settled(robot) is Status.RUNNING
    assert robot.scene.upright(layout.target) < 0.9


def test_another_item_in_the_gap_is_no_success_and_the_expert_takes_it_out(robot):
    layout = robot.scene.layout
    others = [i for i in layout.items if i.thing is not layout.target]
    wrong = next(i.thing for i in others if i.position[2] < 0.8)
    stand(robot, wrong, np.array(layout.goal))
    assert settled(robot) is Status.RUNNING
    assert finished(robot) is Status.SUCCESS
    assert robot.scene.position(wrong)[2] < TABLE_Z + 0.1, "back on the table"


def test_a_neighbour_that_was_moved_spoils_success_and_the_expert_puts_it_back(robot):
    layout = robot.scene.layout
    moved = neighbours(robot.scene)[0]
    spot = np.array([0.42, 0.0, TABLE_Z])
    stand(robot, moved.thing, spot)
    stand(robot, layout.target, np.array(layout.goal))
    assert settled(robot) is Status.RUNNING
    assert finished(robot) is Status.SUCCESS
    assert np.linalg.norm(robot.scene.position(moved.thing) - moved.position) < 0.03


def test_the_named_item_on_the_floor_is_a_failure(robot):
    robot.scene.teleport(robot.scene.layout.target, (0.1, 0.5, 0.5))
    tick = robot.apply(np.tile(REST, (20, 1)))[-1]
    assert tick.status is Status.FAILURE


def test_a_neighbour_on_the_floor_is_a_failure_and_other_goods_are_not(robot):
    scene = robot.scene
    on_table = [i.thing for i in scene.layout.items if i.position[2] < TABLE_Z + 0.1]
    spare = next(thing for thing in on_table if thing is not scene.layout.target)
    scene.teleport(spare, (0.1, 0.5, 0.3))
    ticks = robot.apply(np.tile(REST, (10, 1)))
    assert ticks[-1].status is Status.RUNNING
    assert [e for tick in ticks for e in tick.events] == [f"fell:{spare.name}"]
    scene.teleport(neighbours(scene)[0].thing, (0.1, -0.5, 0.3))
    assert robot.apply(np.tile(REST, (10, 1)))[-1].status is Status.FAILURE


def test_a_held_item_is_not_placed_yet(robot):
    expert = Expert(robot, np.random.default_rng(0), noise=NO_NOISE)
    goal, target = np.array(robot.scene.layout.goal), robot.scene.layout.target
    held_there = 0
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
        foot = robot.scene.position(target) - [0, 0, target.shape.height / 2]
        near = np.linalg.norm(foot - goal) < 0.008
        held_there += near and robot.scene.touched(target)
        assert not (robot.scene.touched(target) and robot.status is Status.SUCCESS)
    assert robot.status is Status.SUCCESS
    assert held_there > 0


def test_scenes_hold_six_to_ten_distinct_items_with_room_around_the_gap():
    for seed in range(200):
        layout = draw(np.random.default_rng(seed), evaluation=bool(seed % 2))
        skus = [item.thing for item in layout.items]
        assert 6 <= len(skus) <= 10
        assert len(set(skus)) == len(skus)
        assert layout.target in skus
        feet = np.array([item.position[:2] for item in layout.items])
        apart = np.linalg.norm(feet[:, None] - feet[None], axis=-1) + np.eye(len(feet))
        assert apart.min() > 0.075
        assert np.linalg.norm(feet - layout.goal[:2], axis=1).min() > 0.075


def test_no_pair_of_item_and_gap_is_both_trained_on_and_held_out():
    def pairs(evaluation: bool) -> set[tuple[int, int]]:
        layouts = [draw(np.random.default_rng(seed), evaluation) for seed in range(600)]
        return {(SKUS.index(layout.target), gap(layout)) for layout in layouts}

    train, held_out = pairs(False), pairs(True)
    assert not train & held_out
    assert {sku for sku, _ in train} == {sku for sku, _ in held_out} == set(range(len(SKUS)))
    assert len(train) == 60
    assert len(held_out) == 12


def gap(layout) -> int:
    """Number of the place that a goal is, by its height and by the side of the shelf it is on."""
    column = round((layout.goal[1] - layout.fixture[1]) / 0.14)
    return (column + 1) + 3 * (layout.goal[2] > TABLE_Z + 0.15)


def test_the_instruction_names_the_item_in_several_wordings(robot):
    wordings = set()
    for seed in range(30):
        task = robot.reset(seed)
        name = robot.scene.layout.target.name
        assert name in task.instruction
        wordings.add(task.instruction.replace(name, "it"))
    assert len(wordings) == 4
