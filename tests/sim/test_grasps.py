import numpy as np
import pytest

from lwd.config import COMPACT
from lwd.sim.fruit import SLAB
from lwd.sim.grasps import across_axis, crowding, height_at, roomiest
from lwd.sim.pinching import at_fixture
from lwd.sim.robot import SimRobot
from lwd.sim.task import TABLE_Z
from lwd.sim.tasks.juice import pieces


@pytest.fixture
def robot() -> SimRobot:
    robot = SimRobot("juice", control=COMPACT)
    robot.reset(0)
    return robot


def test_a_whole_fruit_is_grasped_across_not_between_its_slabs(robot):
    scene, slab = robot.scene, pieces(robot.scene)[1]
    axis, _ = roomiest(scene, slab, SLAB, 0.0)
    assert axis == 0
    between = across_axis(scene, slab, (1, False), 0.0)
    assert crowding(scene, slab, between, SLAB[1]) >= 6, "both fingers meet a neighbour"


@pytest.mark.parametrize(("turn", "axis"), [(0.0, 0), (np.pi / 2, 1)])
def test_a_piece_beside_the_juicer_is_grasped_where_fingers_have_room(robot, turn, axis):
    scene, slab = robot.scene, pieces(robot.scene)[0]
    scene.data.eq_active[:] = 0
    fixture = scene.layout.fixture
    x, y, z = at_fixture(fixture, (0.05, 0.134, SLAB[2]))
    scene.teleport(slab, (x, y, z), fixture[3] + turn)
    robot.apply(robot.target[None])
    way = roomiest(scene, slab, SLAB, -np.pi / 2)
    assert way[0] == axis, "along the juicer's side"
    pose = across_axis(scene, slab, way, -np.pi / 2)
    blocked = across_axis(scene, slab, (1 - axis, False), -np.pi / 2)
    here = crowding(scene, slab, pose, SLAB[axis])
    assert here < crowding(scene, slab, blocked, SLAB[1 - axis])
    np.testing.assert_allclose(np.abs(pose[1][:, 1] @ scene.rotation(slab)[:, axis]), 1, atol=0.05)


def test_height_is_that_of_the_table_and_what_stands_on_it(robot):
    scene, slab = robot.scene, pieces(robot.scene)[0]
    assert height_at(scene, np.array([0.35, -0.05, 0.75]), slab) == pytest.approx(TABLE_Z)
    board = np.array(scene.layout.goal)
    assert height_at(scene, np.add(board, (0.05, 0, 0.02)), slab) == pytest.approx(
        board[2], abs=1e-6
    )
