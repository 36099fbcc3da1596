import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.sim.expert import Expert
from lwd.sim.fruit import BLADE, COLOUR_OF, FRUITS, KNIFE, PITCH, SLAB
from lwd.sim.geometry import yawed
from lwd.sim.hands import ExpertNoise
from lwd.sim.juicer import JUICER, RIM
from lwd.sim.lids import PLATE
from lwd.sim.pinching import at_fixture
from lwd.sim.robot import SimRobot
from lwd.sim.tasks.juice import (
    CUP,
    JUICE,
    LID,
    cuts,
    draw,
    held_out,
    in_bowl,
    on_board,
    pieces,
    react,
)


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("juice", control=COMPACT)
    robot.reset(0)
    return robot


def hold_still(robot: SimRobot, seconds: float) -> None:
    for _ in range(round(seconds * robot.control.rate_hz)):
        robot.apply(robot.target[None])


def lay(robot: SimRobot, middle: np.ndarray, yaw: float) -> None:
    """Teleport the named fruit, whole."""
    for k, slab in zip((-1, 0, 1), pieces(robot.scene), strict=True):
        x, y, z = middle + yawed(yaw)[:, 1] * k * PITCH
        robot.scene.teleport(slab, (x, y, z), yaw)


def part(robot: SimRobot) -> None:
    """Undo both welds of the named fruit."""
    scene = robot.scene
    for slab in pieces(scene)[:2]:
        scene.data.eq_active[scene.model.equality(f"{slab.name} weld").id] = 0


def into_bowl(robot: SimRobot) -> None:
    """Teleport the pieces of the named fruit into the juicer."""
    part(robot)
    for k, slab in enumerate(pieces(robot.scene)):
        angle = 2 * np.pi * k / 3
        offset = (0.03 * np.cos(angle), 0.03 * np.sin(angle), -0.06)
        point = at_fixture(robot.scene.layout.fixture, tuple(np.add(RIM, offset)))
        robot.scene.teleport(slab, tuple(point))


def cover(robot: SimRobot, offset_m: float) -> None:
    x, y, z = at_fixture(robot.scene.layout.fixture, RIM)
    robot.scene.teleport(LID, (x + offset_m, y, z + PLATE / 2 + 0.001))


def turn_knob(robot: SimRobot, degrees: float) -> None:
    robot.scene.data.joint("knob").qpos[0] = np.deg2rad(degrees)


@pytest.mark.slow
def test_the_expert_makes_juice_in_order(robot):
    expert = Expert(robot, np.random.default_rng(0), noise=ExpertNoise())
    holders = {"left": set(), "right": set()}
    seen = []
    while robot.status is Status.RUNNING:
        tick = robot.apply(expert.act()[None])[-1]
        for item in robot.scene.layout.items:
            if side := robot.scene.holder(item.thing):
                holders[side].add(item.thing.name)
        seen.append(robot.scene.reached)
    assert robot.status is Status.SUCCESS
    assert set(seen) >= {1, 2, 4, 5, 6}, "one after the other; both cuts may fall into one tick"
    assert "knife" in holders["right"]
    assert "lid" in holders["left"]
    made, fruit = robot.scene.facts["juice_ml"], pieces(robot.scene)[0].name.split()[0]
    assert 72 <= robot.scene.liquids.volume(CUP) <= made <= 90
    assert robot.scene.layout.words["fruit"] == fruit
    assert tick.substeps == (1.0,) * 6


@pytest.mark.parametrize(("degrees", "counts"), [(12.0, True), (-12.0, True), (20.0, False)])
def test_the_fruit_has_to_lie_across_the_board(robot, degrees, counts):
    layout = robot.scene.layout
    point = np.add(layout.goal, (0, 0, SLAB[2] + 0.0005))
    lay(robot, point, layout.fixture[3] + np.deg2rad(degrees))
    hold_still(robot, 0.5)
    assert on_board(robot.scene) is counts
    assert robot.scene.reached == counts


def test_a_fruit_is_cut_by_a_held_knife_only_and_only_from_above(robot, monkeypatch):
    scene = robot.scene
    slabs = pieces(scene)
    joint = (scene.position(slabs[0]) + scene.position(slabs[1])) / 2
    turn = scene.rotation(slabs[0])
    yaw = float(np.arctan2(turn[1, 0], turn[0, 0]))

    def blade_at(depth: float, turned_by: float = 0.0) -> None:
        ahead, _, edge = BLADE
        handle = joint - yawed(yaw + turned_by)[:, 0] * ahead + [0, 0, edge - depth]
        scene.teleport(KNIFE, tuple(handle), yaw + turned_by)
        react(scene, 0.02)

    blade_at(0.012)
    assert cuts(scene) == 0, "nobody holds the knife"
    monkeypatch.setattr(scene, "holder", lambda thing: "right")
    blade_at(0.005)
    assert cuts(scene) == 0, "not deep enough"
    blade_at(0.012, np.deg2rad(40))
    assert cuts(scene) == 0, "not along the joint"
    blade_at(-0.10)
    blade_at(0.08)
    assert cuts(scene) == 0, "the blade is over the fruit, or far under it"
    blade_at(0.012)
    assert cuts(scene) == 1


def test_a_whole_fruit_stays_together_and_a_cut_one_does_not(robot):
    slabs = pieces(robot.scene)

    def gap() -> float:
        a, b = robot.scene.position(slabs[0]), robot.scene.position(slabs[1])
        return float(np.linalg.norm(a - b))

    q = robot.scene.model.joint(slabs[0].name).dofadr[0]
    robot.scene.data.qvel[q] = 0.5
    hold_still(robot, 0.5)
    assert gap() == pytest.approx(PITCH, abs=0.002)
    part(robot)
    robot.scene.data.qvel[q : q + 3] = robot.scene.rotation(slabs[0])[:, 1] * -0.8
    hold_still(robot, 0.5)
    assert gap() > PITCH + 0.01


@pytest.mark.parametrize(("offset_m", "degrees", "made"), [
    (0.006, 70, True), (0.014, 70, False), (0.0, 50, False),
])  # fmt: skip
def test_juice_needs_the_pieces_the_lid_and_the_knob(robot, offset_m, degrees, made):
    turn_knob(robot, 70)
    cover(robot, 0.0)
    hold_still(robot, 0.3)
    assert robot.scene.liquids.volume(CUP) == 0, "the bowl is empty"
    turn_knob(robot, 0)
    robot.scene.teleport(LID, (0.4, 0.4, 0.9))
    into_bowl(robot)
    hold_still(robot, 0.6)
    assert all(in_bowl(robot.scene, slab) for slab in pieces(robot.scene))
    turn_knob(robot, degrees)
    cover(robot, offset_m)
    hold_still(robot, 0.6)
    assert (robot.scene.liquids.volume(CUP) > 0) is made


def test_without_the_cup_the_juice_is_spilled(robot):
    robot.scene.teleport(CUP, (0.8, 0.5, 0.74))
    into_bowl(robot)
    cover(robot, 0.0)
    turn_knob(robot, 75)
    hold_still(robot, 1.0)
    assert robot.scene.liquids.volume(CUP) == 0
    assert robot.scene.liquids.spilled_ml[JUICER.name] > 5


def test_a_moment_keeps_cuts_and_juice(robot):
    into_bowl(robot)
    cover(robot, 0.0)
    turn_knob(robot, 75)
    hold_still(robot, 0.5)
    moment, actions = robot.save(), np.tile(robot.target, (10, 1)).astype(np.float32)

    def ending() -> tuple[bytes, float, int]:
        robot.apply(actions)
        state = robot.observe().state.tobytes()
        return state, robot.scene.facts["juice_ml"], cuts(robot.scene)

    first = ending()
    robot.reset(1)
    assert cuts(robot.scene) == 0
    assert robot.scene.facts == {}
    robot.reset(0)
    assert cuts(robot.scene) == 0
    robot.scene.layout = moment.scene.layout
    robot.restore(moment)
    assert ending() == first


@pytest.mark.parametrize("evaluation", [False, True])
def test_layouts_keep_the_two_splits_apart(evaluation):
    rng = np.random.default_rng(0)
    spots = np.array([(0.41, -0.37), (0.55, -0.37), (0.43, -0.50), (0.57, -0.50)])
    named = set()
    for _ in range(60):
        layout = draw(rng, evaluation)
        fruit = layout.words["fruit"]
        assert layout.target is FRUITS[fruit][1]
        assert COLOUR_OF[fruit] == layout.words["colour"]
        at = next(i.position for i in layout.items if i.thing is layout.target)
        spot = int(np.argmin(np.linalg.norm(spots - at[:2], axis=1)))
        assert held_out(fruit, spot) is evaluation
        assert len(layout.items) == len({item.thing for item in layout.items}) == 10
        named.add(fruit)
    assert named == set(FRUITS)


def test_instructions_are_short_and_name_the_fruit():
    assert len(set(JUICE.templates)) >= 4
    for template in JUICE.templates:
        text = template.format(item="", fruit="lime", colour="green")
        assert "lime" in text or "green" in text
        assert len(text.split()) <= 16
