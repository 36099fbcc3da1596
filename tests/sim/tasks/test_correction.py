import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.sim.expert import Expert
from lwd.sim.goods import SKUS
from lwd.sim.hands import NO_NOISE
from lwd.sim.measure import expert_success
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.shelf import COLUMNS, PLACES, from_shelf, neighbours, on_shelf
from lwd.sim.task import TABLE_Z, Layout
from lwd.sim.tasks.correction import draw, zone
from lwd.sim.things import Thing


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("correction", control=COMPACT)
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


def place_of(layout: Layout, point: np.ndarray) -> int:
    """Number of the shelf's place that is nearest to a point."""
    offset = from_shelf(point, layout.fixture)[:2] - [place[:2] for place in PLACES]
    return int(np.argmin(np.linalg.norm(offset, axis=1)))


@pytest.mark.parametrize("across_m", [-0.05, 0.05])
def test_the_intruder_anywhere_in_its_zone_is_a_success(robot, across_m):
    layout = robot.scene.layout
    x, y, z = layout.goal
    stand(robot, layout.target, np.array([x, y + across_m, z]))
    assert settled(robot) is Status.SUCCESS


def test_the_intruder_in_another_zone_or_on_the_table_is_not(robot):
    layout = robot.scene.layout
    own = place_of(layout, np.array(layout.goal)) % 3
    beside = (-0.01, COLUMNS[own] + (0.07 if own < 2 else -0.07), 0.08)
    stand(robot, layout.target, np.array(on_shelf(beside, layout.fixture)))
    assert settled(robot) is Status.RUNNING
    assert zone(robot.scene, layout.target, robot.scene.position(layout.target)) != own
    stand(robot, layout.target, np.array([0.42, 0.0, TABLE_Z]))
    assert settled(robot) is Status.RUNNING


def test_another_item_out_of_its_zone_spoils_success_and_the_expert_puts_it_back(robot):
    layout = robot.scene.layout
    moved = neighbours(robot.scene)[0]
    stand(robot, layout.target, np.array(layout.goal))
    stand(robot, moved.thing, np.array([0.30, 0.0, TABLE_Z]))
    assert settled(robot) is Status.RUNNING
    assert finished(robot) is Status.SUCCESS
    assert np.linalg.norm(robot.scene.position(moved.thing) - moved.position) < 0.03


def test_an_item_on_the_floor_is_a_failure(robot):
    robot.scene.teleport(neighbours(robot.scene)[0].thing, (0.1, 0.5, 0.5))
    assert settled(robot) is Status.FAILURE


def test_every_zone_holds_one_kind_and_the_intruder_is_in_a_wrong_one():
    for seed in range(200):
        layout = draw(np.random.default_rng(seed), evaluation=bool(seed % 2))
        columns: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
        shelved = [i for i in layout.items if i.position[2] > TABLE_Z + 0.1]
        for item in shelved:
            column = place_of(layout, np.array(item.position)) % 3
            if item.thing is layout.target:
                assert column != place_of(layout, np.array(layout.goal)) % 3
            else:
                columns[column].add(item.thing.shape.kind)
        assert {len(kinds) for kinds in columns.values()} == {1}
        assert columns[place_of(layout, np.array(layout.goal)) % 3] == {layout.target.shape.kind}
        assert len(shelved) == 5
        assert 6 <= len({item.thing for item in layout.items}) == len(layout.items) <= 8


def test_no_pair_of_item_and_place_is_both_trained_on_and_held_out():
    def pairs(evaluation: bool) -> set[tuple[int, int]]:
        layouts = [draw(np.random.default_rng(seed), evaluation) for seed in range(600)]
        return {(SKUS.index(x.target), place_of(x, np.array(x.goal))) for x in layouts}

    train, held_out = pairs(False), pairs(True)
    assert not train & held_out
    assert {sku for sku, _ in train} == {sku for sku, _ in held_out} == set(range(len(SKUS)))


def test_the_instruction_names_the_item_and_where_it_belongs(robot):
    wordings = set()
    for seed in range(60):
        words = robot.reset(seed).instruction
        layout = robot.scene.layout
        assert layout.target.name in words
        assert layout.words["group"] in words or layout.words["zone"] in words
        assert len(words.split()) <= 16
        for word in (layout.target.name, *layout.words.values()):
            words = words.replace(word, "X")
        wordings.add(words)
    assert len(wordings) == 5


@pytest.mark.parametrize("held_out", [False, True])
def test_the_expert_corrects(held_out):
    measured = expert_success("correction", 5, 0, COMPACT, held_out=held_out)
    assert measured.successes == 5
    assert measured.mean_s < 10
