import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.sim.expert import Expert
from lwd.sim.hands import NO_NOISE
from lwd.sim.lids import PLATE
from lwd.sim.robot import SimRobot
from lwd.sim.tasks.tea import TEA, covered, cups, drenched, served, spilt
from lwd.sim.tasks.tea_set import (
    BOWL,
    CUPS,
    GAIWAN,
    KETTLE,
    LEAVES,
    LID,
    PITCHER,
    SNAP,
    draw,
    held_out,
)
from lwd.sim.vessels import contained


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("tea", control=COMPACT)
    robot.reset(0)
    return robot


def hold_still(robot: SimRobot, seconds: float) -> None:
    for _ in range(round(seconds * robot.control.rate_hz)):
        robot.apply(robot.target[None])


def add_leaves(robot: SimRobot, count: int) -> None:
    """Drop leaves into the gaiwan, the others onto the table."""
    scene, middle = robot.scene, robot.scene.position(GAIWAN)
    for k, leaf in enumerate(LEAVES.bodies):
        q = scene.model.joint(leaf).qposadr[0]
        angle = 2 * np.pi * k / LEAVES.count
        offset = [0.015 * np.cos(angle), 0.015 * np.sin(angle), 0.0]
        aside = [0.0, 0.0, 0.0] if k < count else [-0.1, 0.0, -0.02]
        scene.data.qpos[q : q + 3] = middle + offset + aside


def lay_lid(robot: SimRobot, offset_m: float = 0.0) -> None:
    x, y, z = robot.scene.position(GAIWAN)
    rim = z + GAIWAN.shape.height / 2
    robot.scene.teleport(LID, (x + offset_m, y, rim + PLATE / 2 + 0.001))


def pour(robot: SimRobot, source, into, ml: float) -> None:
    robot.scene.liquids.pour(source, into, ml)
    hold_still(robot, 0.1)


def onto_tray(robot: SimRobot, cup, offset_m: float = 0.0) -> None:
    x, y, z = robot.scene.layout.goal
    robot.scene.teleport(cup, (x + offset_m, y, z + cup.shape.height / 2 + 0.001))


def snapped(robot: SimRobot) -> bool:
    scene = robot.scene
    return bool(scene.data.eq_active[scene.model.equality(SNAP).id])


@pytest.mark.slow
def test_the_expert_makes_tea_and_scores_full_marks():
    robot = SimRobot("tea", control=COMPACT)
    robot.reset(1)
    expert = Expert(robot, np.random.default_rng(1), noise=NO_NOISE)
    while robot.status is Status.RUNNING:
        tick = robot.apply(expert.act()[None])[-1]
    assert robot.status is Status.SUCCESS
    assert robot.elapsed_s < TEA.time_limit_s
    assert tick.substeps == (1.0,) * 7


def test_each_sub_step_waits_for_the_one_before(robot):
    scene = robot.scene
    pour(robot, KETTLE, GAIWAN, 50.0)
    assert scene.reached == 0, "there are no leaves yet"
    add_leaves(robot, 5)
    hold_still(robot, 0.4)
    assert scene.reached == 0, "five are not enough"
    add_leaves(robot, 6)
    hold_still(robot, 0.6)
    assert scene.reached == 2

    pour(robot, GAIWAN, BOWL, 25.0)
    assert scene.reached == 2, "half is still in"
    pour(robot, GAIWAN, BOWL, 16.0)
    assert scene.reached == 3
    pour(robot, KETTLE, GAIWAN, 85.0)
    assert scene.reached == 3, "the lid is off"
    lay_lid(robot)
    hold_still(robot, 0.5)
    assert scene.reached == 4

    pour(robot, GAIWAN, PITCHER, 60.0)
    assert scene.reached == 4
    pour(robot, GAIWAN, PITCHER, 20.0)
    assert scene.reached == 5
    for cup, ml in zip(cups(scene), (16.0, 16.0, 26.0), strict=True):
        pour(robot, PITCHER, cup, ml)
    assert scene.reached == 5, "one cup has too much"
    for cup in cups(scene)[:2]:
        pour(robot, PITCHER, cup, 2.0)
    assert scene.reached == 6

    other = next(cup for cup in cups(scene) if cup is not scene.layout.target)
    onto_tray(robot, other)
    hold_still(robot, 0.3)
    assert robot.status is Status.RUNNING, "another cup is on the tray"
    scene.teleport(other, (0.45, 0.25, 0.725))
    onto_tray(robot, scene.layout.target, 0.05)
    hold_still(robot, 0.3)
    assert robot.status is Status.RUNNING, "near its edge"
    onto_tray(robot, scene.layout.target)
    hold_still(robot, 0.3)
    assert robot.status is Status.SUCCESS


def test_an_empty_cup_serves_nobody(robot):
    onto_tray(robot, robot.scene.layout.target)
    hold_still(robot, 0.3)
    assert not served(robot.scene)
    robot.scene.liquids.fill(robot.scene.layout.target, 20.0)
    assert served(robot.scene)


@pytest.mark.parametrize("wet", [False, True])
def test_wet_leaves_stay_when_they_are_flung_out_and_dry_ones_do_not(robot, wet):
    scene = robot.scene
    add_leaves(robot, 8)
    scene.liquids.fill(GAIWAN, 30.0 * wet)
    hold_still(robot, 0.2)
    assert drenched(scene).all()
    for leaf in LEAVES.bodies:
        v = scene.model.joint(leaf).dofadr[0]
        scene.data.qvel[v + 2] = 1.5
    hold_still(robot, 0.1)
    assert contained(scene, GAIWAN, LEAVES) == 8 * wet


def test_the_lid_snaps_on_near_the_middle_and_keeps_water_out(robot):
    scene = robot.scene
    lay_lid(robot, 0.025)
    hold_still(robot, 0.3)
    assert not covered(scene)
    assert not snapped(robot)
    lay_lid(robot, 0.008)
    hold_still(robot, 0.6)
    assert snapped(robot)
    pour(robot, KETTLE, GAIWAN, 30.0)
    assert scene.liquids.volume(GAIWAN) == 0.0
    assert scene.liquids.spilled_ml[KETTLE.name] == 30.0


def test_more_than_a_tenth_beside_the_vessel_is_a_flaw(robot):
    liquids = robot.scene.liquids
    before = liquids.copy()
    liquids.pour(KETTLE, GAIWAN, 46.0)
    liquids.pour(KETTLE, None, 5.0)
    assert not spilt(KETTLE)(robot.scene, before)
    liquids.pour(KETTLE, None, 1.0)
    assert spilt(KETTLE)(robot.scene, before)


def test_a_moment_brings_back_lid_leaves_and_volumes(robot):
    add_leaves(robot, 8)
    robot.scene.liquids.fill(GAIWAN, 60.0)
    lay_lid(robot)
    hold_still(robot, 0.5)
    moment = robot.save()
    later = []
    for _ in range(2):
        robot.restore(moment)
        assert snapped(robot)
        hold_still(robot, 0.3)
        pour(robot, GAIWAN, BOWL, 20.0)
        later.append((robot.observe().state.copy(), dict(robot.scene.facts), robot.scene.reached))
        robot.scene.data.eq_active[:] = 0
        robot.scene.liquids.covered.clear()
    assert np.array_equal(later[0][0], later[1][0])
    assert later[0][1:] == later[1][1:]


def test_the_splits_share_no_pair_of_cup_and_place():
    rng = np.random.default_rng(0)
    pairs: dict[bool, set[tuple[str, int]]] = {False: set(), True: set()}
    for evaluation in (False, True):
        for _ in range(60):
            layout = draw(rng, evaluation)
            ys = {i.thing.name: i.position[1] for i in layout.items if i.thing in CUPS}
            assert len(ys) == 3
            place = sorted(ys.values()).index(ys[layout.target.name])
            pairs[evaluation].add((layout.target.name, place))
    assert not pairs[False] & pairs[True]
    assert len(pairs[False] | pairs[True]) == 12
    assert {(c.name, k) for c in CUPS for k in range(3) if held_out(c, k)} == pairs[True]


def test_instructions_name_the_cup_in_few_words(robot):
    wordings = {robot.reset(seed).instruction for seed in range(40)}
    assert len({w.split()[0] for w in wordings}) >= 3
    assert all(len(w.split()) <= 16 and " cup" in w for w in wordings)
