from collections.abc import Callable

import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.sim.bimanual import carried_by_both
from lwd.sim.expert import Expert
from lwd.sim.footwear import HINGE, PAIRS, SHOEBOX
from lwd.sim.hands import NO_NOISE
from lwd.sim.liquids import Liquids
from lwd.sim.packing import box_frame, inside, on_lid
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.task import TABLE_Z
from lwd.sim.tasks.shoes import BAYS, SHOES, draw, rack_error


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("shoes", control=COMPACT)
    robot.reset(0)
    return robot


def rest(robot: SimRobot) -> Status:
    """Status after half a second at rest."""
    return robot.apply(np.tile(REST, (5, 1)))[-1].status


def turn_lid(robot: SimRobot, degrees: float) -> None:
    robot.scene.data.joint("lid").qpos[0] = np.deg2rad(degrees)


def pack(robot: SimRobot, k: int, yaw: float, lane: float) -> None:
    """Teleport a shoe of the named pair into the box, at a yaw and a y of the box's frame."""
    shoe = PAIRS[robot.scene.layout.target.colour][k]
    position, rotation = box_frame(robot.scene)
    centre = position + rotation @ [0.0, lane, 0.0]
    box_yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    robot.scene.teleport(shoe, tuple(centre), box_yaw + yaw)


def works_until(robot: SimRobot, done: Callable[[], bool]) -> bool:
    """Whether the expert comes to a point before its time is over."""
    expert = Expert(robot, np.random.default_rng(0), noise=NO_NOISE)
    while robot.status is Status.RUNNING and not done():
        robot.apply(expert.act()[None])
    return done()


def test_sub_steps_count_in_their_order(robot):
    scene = robot.scene
    pack(robot, 0, 0.0, 0.043)
    rest(robot)
    assert scene.reached == 0, "a shoe in the box before the lid was open"
    turn_lid(robot, 105)
    rest(robot)
    assert scene.reached == 2
    assert scene.angle("lid") > np.deg2rad(100), "an open lid stays open"
    pack(robot, 1, np.pi, -0.043)
    rest(robot)
    assert scene.reached == 3
    turn_lid(robot, 5)
    rest(robot)
    assert scene.reached == 4
    assert robot.status is Status.RUNNING, "the box is not on the rack"


@pytest.mark.parametrize(("yaw_deg", "reached"), [(0, 2), (140, 2), (165, 3), (-175, 3)])
def test_the_shoes_lie_head_to_tail(robot, yaw_deg, reached):
    turn_lid(robot, 105)
    rest(robot)
    pack(robot, 0, 0.0, 0.043)
    # A turned shoe would not fit beside the other: only what predicates read is set.
    pack(robot, 1, np.deg2rad(yaw_deg), -0.043)
    scene = robot.scene
    assert all(inside(scene, shoe) for shoe in PAIRS[scene.layout.target.colour])
    done = [subtask.done(scene) for subtask in SHOES.subtasks[1:3]]
    assert 1 + sum(done) == reached


def test_a_box_that_only_stands_higher_was_not_lifted_by_both_arms(robot):
    scene = robot.scene
    x, y, z = scene.position(SHOEBOX)
    scene.teleport(SHOEBOX, (x, y, z + 0.2))
    assert not SHOES.subtasks[4].done(scene)


@pytest.mark.parametrize(
    ("off_m", "off_deg", "done"), [(0.0, 0, True), (0.025, 8, True), (0.035, 0, False), (0, 12, 0)]
)
def test_the_box_counts_within_3_cm_and_10_degrees_of_its_bay(robot, off_m, off_deg, done):
    scene = robot.scene
    x, y, z = scene.layout.goal
    yaw = scene.layout.fixture[3] + np.deg2rad(off_deg)
    scene.teleport(SHOEBOX, (x + off_m, y, z + 0.04), yaw)
    for k, (turn, lane) in enumerate(((0.0, 0.043), (np.pi, -0.043))):
        pack(robot, k, turn, lane)
    final = SHOES.subtasks[5]
    assert final.done(scene) is bool(done)
    assert final.flawed(scene, Liquids()) is (off_m > 0.02 or off_deg > 7)
    assert rack_error(scene)[0] == pytest.approx(off_m, abs=1e-6)


def test_an_other_shoe_that_was_moved_is_one_imperfection(robot):
    scene = robot.scene
    named = PAIRS[scene.layout.target.colour]
    other = next(i for i in scene.layout.items if i.thing not in (*named, SHOEBOX))
    scene.data.joint("lid").qpos[0] = np.deg2rad(110)
    rest(robot)
    x, y, z = other.position
    scene.teleport(other.thing, (x + 0.04, y, z))
    rest(robot)
    pack(robot, 0, 0.0, 0.043)
    rest(robot)
    pack(robot, 1, np.pi, -0.043)
    rest(robot)
    assert scene.reached >= 3
    assert robot.apply(robot.target[None])[-1].substeps[:3] == (1.0, 0.5, 1.0)


def test_a_lost_shoe_ends_the_episode(robot):
    robot.scene.teleport(robot.scene.layout.target, (0.1, 0.6, 0.4))
    assert rest(robot) is Status.FAILURE


def test_the_expert_packs_one_shoe_with_each_arm_and_carries_with_both():
    robot = SimRobot("shoes", control=COMPACT, held_out=True)
    robot.reset(100)
    expert = Expert(robot, np.random.default_rng(0), noise=NO_NOISE)
    pair = PAIRS[robot.scene.layout.target.colour]
    holders: set[tuple[str, str]] = set()
    carried = 0
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
        for shoe in pair:
            holders |= {(shoe.name, side) for side in [robot.scene.holder(shoe)] if side}
        high = robot.scene.position(SHOEBOX)[2] > TABLE_Z + 0.08
        carried += high and carried_by_both(robot.scene, SHOEBOX)
    assert robot.status is Status.SUCCESS
    assert holders == {(pair[0].name, "left"), (pair[1].name, "right")}
    assert carried > 10


def test_the_expert_turns_a_shoe_round_that_lies_like_the_other(robot):
    scene = robot.scene
    for shoe in PAIRS[scene.layout.target.colour]:
        x, y, z = scene.position(shoe)
        scene.teleport(shoe, (x, y, z), 0.2)
    assert works_until(robot, lambda: scene.reached == 3)


def test_the_expert_goes_on_when_the_lid_fell_shut(robot):
    turn_lid(robot, 105)
    pack(robot, 0, 0.0, 0.043)
    rest(robot)
    assert robot.scene.reached == 2
    turn_lid(robot, 0)
    rest(robot)
    assert works_until(robot, lambda: robot.scene.reached == 3)


def test_the_expert_sets_a_fallen_shoe_upright(robot):
    scene = robot.scene
    shoe = scene.layout.target
    q = scene.model.joint(shoe.name).qposadr[0]
    scene.data.qpos[q + 3 : q + 7] = [np.sqrt(0.5), np.sqrt(0.5), 0, 0]
    rest(robot)
    assert scene.upright(shoe) < 0.1
    assert works_until(robot, lambda: scene.upright(shoe) > 0.98 and not scene.touched(shoe))


def test_the_expert_takes_a_shoe_off_the_lid(robot):
    scene = robot.scene
    x, y, z = scene.position(SHOEBOX)
    scene.teleport(scene.layout.target, (x, y, z + 0.09))
    rest(robot)
    assert on_lid(scene) is scene.layout.target
    assert works_until(robot, lambda: scene.reached == 1)
    assert scene.position(scene.layout.target)[2] < TABLE_Z + 0.04


def test_no_pair_and_arrangement_is_both_trained_on_and_held_out():
    def drawn(evaluation: bool) -> set[tuple[str, bool, bool]]:
        cases = set()
        for seed in range(200):
            layout = draw(np.random.default_rng(seed), evaluation)
            at = {item.thing: abs(item.position[1]) for item in layout.items}
            left, right = (at[shoe] > 0.37 for shoe in PAIRS[layout.target.colour])
            cases.add((layout.target.colour, left, right))
        return cases

    train, held_out = drawn(False), drawn(True)
    assert not train & held_out
    assert len(train) == 12
    assert {colour for colour, _, _ in held_out} == set(PAIRS)


def test_the_instruction_names_pair_and_bay(robot):
    wordings = set()
    for seed in range(40):
        words = robot.reset(seed).instruction
        layout = robot.scene.layout
        assert len(words.split()) <= 16
        wordings.add(words.replace(layout.words["pair"], "X").replace(layout.words["bay"], "Y"))
    assert len(wordings) == 4
    assert all("X" in w and "Y" in w for w in wordings)
    assert {draw(np.random.default_rng(s), False).words["bay"] for s in range(20)} == set(BAYS)


def test_the_knob_is_where_the_model_has_it(robot):
    turn_lid(robot, 70)
    rest(robot)
    lid = robot.scene.data.body("shoebox lid").xpos
    position, rotation = box_frame(robot.scene)
    np.testing.assert_allclose(position + rotation @ HINGE, lid, atol=1e-3)
