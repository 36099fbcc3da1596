# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np
import pytest

from lwd.config import COMPACT
from lwd.sim.robot import SimRobot
from lwd.sim.scene import Scene
from lwd.sim.task import TABLE_Z
from lwd.sim.tasks.tea_set import BOWL, GAIWAN, KETTLE, LEAVES, PITCHER, SCOOP
from lwd.sim.things import Vessel
from lwd.sim.vessels import body_position, contained, draw_liquids, visible


@pytest.fixture
def scene() -> Scene:
    robot = SimRobot("tea", control=COMPACT)
    robot.reset(0)
    return robot.scene


def drop_of(scene: Scene, vessel: Vessel):
    """The visible level of a vessel's liquid."""
    return next(d for d in visible(scene) if d.radius == pytest.approx(0.97 * vessel.mouth_radius))


def test_beads_lie_inside_the_solid_that_hands_meet(scene):
    assert contained(scene, SCOOP, LEAVES) == LEAVES.count
    assert contained(scene, GAIWAN, LEAVES) == 0
    low = min(body_position(scene, leaf)[2] for leaf in LEAVES.bodies)
    foot = scene.position(SCOOP)[2] - SCOOP.shape.height / 2
    assert foot + SCOOP.shape.height - SCOOP.depth < low < foot + SCOOP.shape.height


def test_beads_travel_with_a_vessel_and_do_not_count_beside_it(scene):
    leaf = scene.model.joint(LEAVES.bodies[0]).qposadr[0]
    scene.data.qpos[leaf : leaf + 3] = scene.position(SCOOP) + np.array([0.03, 0, 0])
    assert contained(scene, SCOOP, LEAVES) == LEAVES.count - 1


def test_the_level_is_as_high_as_the_volume_says(scene):
    for ml in (57.5, 115.0):
        scene.liquids.fill(KETTLE, ml)
        drop = drop_of(scene, KETTLE)
        inner_floor = scene.position(KETTLE)[2] + KETTLE.shape.height / 2 - KETTLE.depth
        assert 2 * drop.half_length == pytest.approx(KETTLE.depth * ml / KETTLE.capacity_ml)
        assert drop.centre[2] - drop.half_length == pytest.approx(inner_floor, abs=1e-6)
        assert drop.colour == KETTLE.liquid


def test_a_stream_is_seen_from_the_lip_to_what_catches_it(scene):
    scene.liquids.fill(PITCHER, 150.0)
    levels = len(list(visible(scene)))
    bowl = scene.position(BOWL)
    lip = PITCHER.shape.height / 2
    scene.teleport(PITCHER, (bowl[0], bowl[1] - lip, bowl[2] + 0.2))
    q = scene.model.joint(PITCHER.name).qposadr[0]
    scene.data.qpos[q + 3 : q + 7] = (np.cos(np.pi / 4), -np.sin(np.pi / 4), 0, 0)  # mouth to +y
    *_, stream = visible(scene)
    assert len(list(visible(scene))) == levels + 1
    assert stream.radius == 0.003
    assert stream.centre[2] - stream.half_length == pytest.approx(bowl[2])

    scene.teleport(PITCHER, (0.3, 0.0, 0.9))
    scene.data.qpos[q + 3 : q + 7] = (np.cos(np.pi / 4), -np.sin(np.pi / 4), 0, 0)
    *_, stream = visible(scene)
    assert stream.centre[2] - stream.half_length == pytest.approx(TABLE_Z)


def test_liquids_are_drawn_without_touching_the_world(scene):
    view = mujoco.MjvScene(scene.model, maxgeom=3)
    before = scene.data.qpos.copy(), scene.model.geom_size.copy()
    for vessel in (KETTLE, PITCHER, GAIWAN, BOWL):
        scene.liquids.fill(vessel, 50.0)
    draw_liquids(view, scene)
    assert view.ngeom == 3, "and never more than there is room for"
    sizes = {round(float(view.geoms[k].size[0]), 4) for k in range(3)}
    assert sizes == {round(0.97 * v.mouth_radius, 4) for v in (GAIWAN, KETTLE, BOWL)}
    assert np.array_equal(scene.data.qpos, before[0])
    assert np.array_equal(scene.model.geom_size, before[1])
