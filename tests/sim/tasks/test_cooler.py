import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.sim.bimanual import carried_by_both
from lwd.sim.expert import Expert
from lwd.sim.geometry import yawed
from lwd.sim.hands import NO_NOISE
from lwd.sim.measure import expert_success
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.task import TABLE_Z
from lwd.sim.tasks.cooler import CARTON, COOLER, SLOTS, carton_on_ledge, draw, in_carton
from lwd.sim.things import Thing


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("cooler", control=COMPACT)
    robot.reset(0)
    return robot


def cans(robot: SimRobot) -> list[Thing]:
    return [i.thing for i in robot.scene.layout.items if i.thing.shape.kind == "can"]


def load(robot: SimRobot, across_m: float = 0.0, drop: Thing | None = None) -> None:
    """Teleport carton and cans onto the ledge, without the can `drop`, off by some metres."""
    scene = robot.scene
    x, y, z, yaw = scene.layout.fixture
    before = scene.position(CARTON)
    turn = yawed(yaw)
    after = np.array([x, y, z + 0.136]) + turn @ [0.085, across_m, 0.0]
    back = turn @ scene.rotation(CARTON).T
    for can in cans(robot):
        if can is not drop:
            scene.teleport(can, tuple(after + back @ (scene.position(can) - before)))
    scene.teleport(CARTON, tuple(after), yaw)


def stock(robot: SimRobot, can: Thing) -> None:
    """Teleport a can into the named slot."""
    x, y, z = robot.scene.layout.goal
    robot.scene.teleport(can, (x, y, z + can.shape.height / 2 + 0.001))


def rest(robot: SimRobot) -> Status:
    """Status after half a second at rest."""
    return robot.apply(np.tile(REST, (5, 1)))[-1].status


def finish(robot: SimRobot) -> Status:
    expert = Expert(robot, np.random.default_rng(0), noise=NO_NOISE)
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
    return robot.status


def test_the_cans_start_in_the_carton_on_the_table(robot):
    scene = robot.scene
    assert all(in_carton(scene, can) for can in cans(robot))
    assert len(cans(robot)) == 4
    assert not carton_on_ledge(scene)
    assert COOLER.progress(scene) == 1


def test_a_loaded_carton_and_the_can_in_its_slot_are_a_success(robot):
    load(robot)
    assert rest(robot) is Status.RUNNING
    assert robot.scene.reached == 1
    stock(robot, robot.scene.layout.target)
    assert rest(robot) is Status.SUCCESS


@pytest.mark.parametrize("across_m", [-0.065, 0.065])
def test_a_carton_far_from_its_place_does_not_count(robot, across_m):
    load(robot, across_m)
    rest(robot)
    assert robot.scene.reached == 0


def test_a_carton_that_lacks_a_can_does_not_count(robot):
    target = robot.scene.layout.target
    other = next(can for can in cans(robot) if can is not target)
    robot.scene.teleport(other, (0.3, 0.4, TABLE_Z + 0.045))
    load(robot, drop=other)
    stock(robot, target)
    assert rest(robot) is Status.RUNNING
    assert robot.scene.reached == 0


def test_another_can_in_the_slot_is_no_success(robot):
    load(robot)
    rest(robot)
    stock(robot, next(can for can in cans(robot) if can is not robot.scene.layout.target))
    assert rest(robot) is Status.RUNNING


def test_a_can_on_the_floor_is_a_failure(robot):
    robot.scene.teleport(cans(robot)[0], (0.1, 0.5, 0.5))
    assert rest(robot) is Status.FAILURE


def test_the_expert_carries_with_both_arms(robot):
    expert = Expert(robot, np.random.default_rng(0))
    carried = 0
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
        high = robot.scene.position(CARTON)[2] > TABLE_Z + 0.06
        carried += high and carried_by_both(robot.scene, CARTON)
    assert robot.status is Status.SUCCESS
    assert carried > 10


def test_the_expert_returns_a_can_that_fell_out(robot):
    lost = cans(robot)[0]
    robot.scene.teleport(lost, (0.40, 0.30, TABLE_Z + 0.043))
    rest(robot)
    assert COOLER.progress(robot.scene) == 0
    assert finish(robot) is Status.SUCCESS


def test_the_expert_moves_a_carton_that_stands_askew(robot):
    load(robot, 0.07)
    rest(robot)
    assert finish(robot) is Status.SUCCESS


def test_no_can_cell_and_slot_are_both_trained_on_and_held_out():
    def drawn(evaluation: bool) -> set[tuple[str, int, str]]:
        layouts = [draw(np.random.default_rng(seed), evaluation) for seed in range(600)]
        order = [
            [i.thing.name for i in x.items if i.thing.shape.kind == "can"].index(x.target.name)
            for x in layouts
        ]
        return {(x.target.name, k, x.words["slot"]) for x, k in zip(layouts, order, strict=True)}

    train, held_out = drawn(False), drawn(True)
    assert not train & held_out
    assert len(train) == 40
    assert len(held_out) == 8
    for split in (train, held_out):
        assert len({can for can, _, _ in split}) == 4
        assert {slot for _, _, slot in split} == set(SLOTS)


def test_the_instruction_names_can_and_slot(robot):
    wordings = set()
    for seed in range(40):
        words = robot.reset(seed).instruction
        layout = robot.scene.layout
        assert len(words.split()) <= 16
        wordings.add(
            words.replace(layout.target.name, "X").replace(f"{layout.words['slot']} slot", "Y")
        )
    assert len(wordings) == 4
    assert all("X" in w and "Y" in w for w in wordings)


def test_the_expert_succeeds_on_held_out_layouts():
    assert expert_success("cooler", 2, 100, COMPACT, held_out=True).successes == 2
