import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.sim.bar import (
    BOTTLE_ML,
    BOTTLES,
    CHERRY,
    GLASS,
    ICE,
    LID,
    SHAKER,
    caught,
    feel_shaking,
    ice_in,
    shaken,
)
from lwd.sim.expert import Expert
from lwd.sim.hands import ExpertNoise
from lwd.sim.lids import PLATE
from lwd.sim.liquids import Liquids
from lwd.sim.pinching import from_fixture
from lwd.sim.robot import SimRobot
from lwd.sim.tasks.cocktail import (
    COCKTAIL,
    bottles,
    draw,
    garnished,
    held_out,
    lid_off,
    poured,
    served,
)
from lwd.sim.things import Thing
from lwd.sim.vessels import contained


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("cocktail", control=COMPACT)
    robot.reset(0)
    return robot


def hold_still(robot: SimRobot, seconds: float) -> None:
    for _ in range(round(seconds * robot.control.rate_hz)):
        robot.apply(robot.target[None])


def over(robot: SimRobot, vessel: Thing, height: float) -> tuple[float, float, float]:
    """The point so far above a vessel's mouth."""
    x, y, z = robot.scene.position(vessel)
    return (float(x), float(y), float(z) + vessel.shape.height / 2 + height)


def pour(robot: SimRobot, k: int, ml: float) -> None:
    robot.scene.liquids.pour(bottles(robot.scene)[k], SHAKER, ml)


def close(robot: SimRobot, offset_m: float = 0.0) -> None:
    x, y, z = over(robot, SHAKER, PLATE / 2 + 0.001)
    robot.scene.teleport(LID, (x + offset_m, y, z))
    hold_still(robot, 0.4)


def lying(robot: SimRobot, thing: Thing, position: tuple[float, float, float]) -> None:
    """Teleport a thing so that its axis points along the robot's x axis."""
    robot.scene.teleport(thing, position)
    q = robot.scene.model.joint(thing.name).qposadr[0]
    robot.scene.data.qpos[q + 3 : q + 7] = (np.sqrt(0.5), 0, np.sqrt(0.5), 0)


@pytest.mark.slow
def test_the_expert_makes_a_cocktail_in_order(robot):
    expert = Expert(robot, np.random.default_rng(0), noise=ExpertNoise())
    holders, seen = {"left": set(), "right": set()}, []
    while robot.status is Status.RUNNING:
        robot.apply(expert.act()[None])
        for item in robot.scene.layout.items:
            if side := robot.scene.holder(item.thing):
                holders[side].add(item.thing)
        seen.append(robot.scene.reached)
    assert robot.status is Status.SUCCESS
    assert seen == sorted(seen)
    assert set(seen) >= set(range(9))
    first, second = bottles(robot.scene)
    assert holders["right"] == {first, second, SHAKER}
    assert {LID, CHERRY} < holders["left"]
    liquids = robot.scene.liquids
    assert abs(liquids.poured_ml[first.name, "shaker"] - 30) <= 8
    assert abs(liquids.poured_ml[second.name, "shaker"] - 20) <= 8
    assert contained(robot.scene, GLASS, CHERRY) == 1


@pytest.mark.parametrize(("ml", "counts", "flawed"), [
    (21.5, False, True), (23.0, True, True), (30.0, True, False), (36.0, True, True),
    (38.5, False, True),
])  # fmt: skip
def test_the_recipe_forgives_eight_ml(robot, ml, counts, flawed):
    pour(robot, 0, ml)
    hold_still(robot, 0.1)
    assert poured(robot.scene, 0) is counts
    assert robot.scene.reached == counts
    assert COCKTAIL.subtasks[0].flawed(robot.scene, Liquids()) is flawed


def test_the_named_bottles_count_in_their_order(robot):
    third = next(
        b for b in BOTTLES.values() if b not in bottles(robot.scene)
        and any(item.thing is b for item in robot.scene.layout.items)
    )  # fmt: skip
    assert robot.scene.liquids.volume(third) == BOTTLE_ML
    robot.scene.liquids.pour(third, SHAKER, 30.0)
    pour(robot, 1, 20.0)
    hold_still(robot, 0.1)
    assert robot.scene.reached == 0
    pour(robot, 0, 30.0)
    hold_still(robot, 0.1)
    assert robot.scene.reached == 2


def test_ice_falls_into_the_shaker_and_stays(robot):
    """A step of 5 ms is 7 mm of fall; the floor must hold all the same."""
    assert ice_in(robot.scene) == 0
    for k, cube in enumerate(ICE):
        robot.scene.teleport(cube, over(robot, SHAKER, 0.03))
        hold_still(robot, 0.5)
        assert ice_in(robot.scene) == k + 1
    assert robot.scene.upright(SHAKER) > 0.99


@pytest.mark.parametrize(("offset_m", "closed"), [(0.008, True), (0.014, False)])
def test_the_lid_catches_when_it_is_on(robot, offset_m, closed):
    close(robot, offset_m)
    assert caught(robot.scene) is closed
    assert lid_off(robot.scene) is False


def test_a_caught_lid_keeps_everything_in_until_a_hand_takes_it(robot, monkeypatch):
    scene = robot.scene
    scene.liquids.fill(SHAKER, 50.0)
    robot.scene.teleport(ICE[0], over(robot, SHAKER, 0.01))
    hold_still(robot, 0.5)
    close(robot)
    lift = (0.4, 0.0, 0.9)
    for thing, along in ((SHAKER, 0.0), (LID, (SHAKER.shape.height + PLATE) / 2), (ICE[0], 0.0)):
        lying(robot, thing, (lift[0] + along, *lift[1:]))
    hold_still(robot, 1.5)
    assert scene.upright(SHAKER) < 0.5, "it lies"
    axis = scene.rotation(SHAKER)[:, 2]
    top = scene.position(SHAKER) + axis * (SHAKER.shape.height + PLATE) / 2
    np.testing.assert_allclose(scene.position(LID), top, atol=0.004)
    assert scene.liquids.volume(SHAKER) == 50
    assert ice_in(scene) == 1
    monkeypatch.setattr(scene, "holder", lambda thing: "left" if thing is LID else None)
    hold_still(robot, 0.1)
    assert not caught(scene)
    assert not scene.liquids.sealed


def swing(robot: SimRobot, speed: float, strokes: int) -> None:
    for k in range(strokes):
        robot.scene.data.joint("shaker").qvel[:3] = (0, 0, speed * (-1) ** k)
        feel_shaking(robot.scene)
        feel_shaking(robot.scene)


@pytest.mark.parametrize(("speed", "strokes", "counts"), [
    (0.5, 7, True), (0.5, 6, False), (0.3, 9, False), (0.1, 20, False),
])  # fmt: skip
def test_shaking_needs_speed_and_reversals(robot, monkeypatch, speed, strokes, counts):
    swing(robot, 1.0, 9)
    assert not robot.scene.facts, "open, and in no hand"
    close(robot)
    monkeypatch.setattr(robot.scene, "holder", lambda thing: "right" if thing is SHAKER else None)
    swing(robot, speed, strokes)
    assert shaken(robot.scene) is counts


def test_the_drink_and_the_cherry_have_to_be_in_the_glass(robot):
    scene = robot.scene
    assert not served(scene), "nothing was mixed"
    pour(robot, 0, 30.0)
    pour(robot, 1, 20.0)
    scene.liquids.pour(SHAKER, GLASS, 39.0)
    assert not served(scene)
    scene.liquids.pour(SHAKER, GLASS, 1.5)
    assert served(scene)
    assert not garnished(scene)
    scene.teleport(CHERRY, over(robot, GLASS, 0.02))
    assert not garnished(scene)
    hold_still(robot, 0.5)
    assert garnished(scene)


def test_a_moment_keeps_the_catch_and_the_shaking(robot):
    pour(robot, 0, 30.0)
    close(robot)
    robot.scene.facts["reversals"] = 3.0
    moment = robot.save()
    actions = np.tile(robot.target, (5, 1)).astype(np.float32)

    def ending() -> tuple[bytes, bool, dict[str, float]]:
        robot.apply(actions)
        scene = robot.scene
        feel_shaking(scene)
        return robot.observe().state.tobytes(), caught(scene), dict(scene.facts)

    first = ending()
    assert first[1]
    robot.scene.facts["reversals"] = 5.0
    robot.scene.teleport(LID, (0.4, 0.4, 0.9))
    robot.restore(moment)
    assert ending() == first
    robot.reset(0)
    assert not caught(robot.scene)


@pytest.mark.parametrize("evaluation", [False, True])
def test_layouts_keep_the_two_splits_apart(evaluation):
    rng = np.random.default_rng(0)
    spots = np.array([(0.02, -0.24), (0.02, -0.36), (0.02, -0.48)])
    named = set()
    for _ in range(60):
        layout = draw(rng, evaluation)
        first, second = layout.words["first"], layout.words["second"]
        assert layout.target is BOTTLES[first]
        at = next(i.position for i in layout.items if i.thing is layout.target)
        local = from_fixture(layout.fixture, np.array(at))[:2]
        spot = int(np.argmin(np.linalg.norm(spots - local, axis=1)))
        assert held_out(first, second, spot) is evaluation
        assert len(layout.items) == len({item.thing for item in layout.items}) == 12
        named |= {first, second}
    assert named == set(BOTTLES)


def test_instructions_are_short_and_name_both_bottles():
    assert len(set(COCKTAIL.templates)) >= 4
    words = {"first": "gin", "second": "rum", "first_colour": "blue", "second_colour": "yellow"}
    for template in COCKTAIL.templates:
        text = template.format(item="", **words)
        assert ("gin" in text and "rum" in text) or ("blue" in text and "yellow" in text)
        assert len(text.split()) <= 16
