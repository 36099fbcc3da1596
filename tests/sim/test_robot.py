from functools import partial

import numpy as np
import pytest

from lwd.actor.metronome import Metronome
from lwd.actor.robot import Status
from lwd.config import COMPACT, FULL
from lwd.episode.types import Kind
from lwd.errors import ConfigError
from lwd.sim.bar import BOTTLE_ML
from lwd.sim.body import MAX_OPENING, MAX_SPEED, SIDES
from lwd.sim.expert import Expert
from lwd.sim.hands import NO_NOISE
from lwd.sim.rig import Circumstances, rig
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST, STATE
from lwd.sim.things import COLOURS, KINDS
from sample_rows import Clock


@pytest.fixture
def robot() -> SimRobot:
    return SimRobot("restocking", control=COMPACT)


def rolled_out(robot: SimRobot, seed: int, actions: np.ndarray) -> np.ndarray:
    """States of an episode under given actions."""
    robot.reset(seed)
    ticks = robot.apply(actions)
    return np.stack([tick.observation.state for tick in ticks] + [robot.observe().state])


def wild(ticks: int) -> np.ndarray:
    """Actions that bring the hands among the goods."""
    steps = np.random.default_rng(0).normal(scale=0.1, size=(ticks, len(REST)))
    return REST + np.cumsum(steps, axis=0)


def test_a_seed_decides_the_scene_and_the_instruction(robot):
    other = SimRobot("restocking", control=COMPACT, robot_id="sim-1")
    assert robot.reset(5) == other.reset(5)
    np.testing.assert_array_equal(robot.observe().state, other.observe().state)
    robot.reset(6)
    assert not np.array_equal(robot.observe().state, other.observe().state)


def test_physics_repeats_bit_for_bit_whatever_happened_before(robot):
    actions = wild(40)
    first = rolled_out(robot, 3, actions)
    rolled_out(robot, 4, actions[::-1])
    np.testing.assert_array_equal(rolled_out(robot, 3, actions), first)
    fresh = SimRobot("restocking", control=COMPACT)
    np.testing.assert_array_equal(rolled_out(fresh, 3, actions), first)


def test_the_state_is_laid_out_as_promised(robot):
    robot.reset(11)
    scene, state = robot.scene, robot.observe().state
    assert state.shape == (STATE.size,)
    assert state.dtype == np.float32
    for side, arm in zip(SIDES, state[: STATE.proprio].reshape(2, -1), strict=True):
        position, turn = scene.hand(side)
        np.testing.assert_allclose(arm[:7], scene.joints(side), rtol=1e-6)
        assert arm[14] == pytest.approx(scene.opening(side))
        np.testing.assert_allclose(arm[16:19], position, rtol=1e-6)
        np.testing.assert_allclose(arm[19:25], [*turn[:, 0], *turn[:, 1]], atol=1e-6)
    slots = state[STATE.proprio :][: STATE.slots * STATE.slot].reshape(STATE.slots, STATE.slot)
    present = slots[slots[:, -1] == 1]
    assert len(present) == len(scene.layout.items)
    assert not slots[slots[:, -1] == 0].any()
    target = scene.layout.target
    kind = [k == target.shape.kind for k in KINDS]
    colour = [c == target.colour for c in COLOURS]
    named = present[(present[:, 10:34] == [*kind, *colour]).all(axis=1)]
    assert len(named) == 1, "the named item has one slot"
    np.testing.assert_allclose(named[0, :3], scene.position(target), atol=1e-6)
    turn = scene.rotation(target)
    np.testing.assert_allclose(named[0, 3:9], [*turn[:, 0], *turn[:, 1]], atol=1e-6)
    scalars = state[-STATE.scalars :]
    np.testing.assert_allclose(scalars[:3], 0.0)
    np.testing.assert_allclose(scalars[3:7], scene.layout.fixture, rtol=1e-6)
    np.testing.assert_allclose(scalars[7:10], scene.layout.goal, rtol=1e-6)
    robot.apply(np.tile(REST, (3, 1)))
    assert robot.observe().state[-STATE.scalars] == pytest.approx(0.3 / 30)


def test_things_that_look_the_same_are_numbered_and_volumes_are_in_the_state():
    robot = SimRobot("cocktail", control=COMPACT)
    robot.reset(0)
    state = robot.observe().state[STATE.proprio :][: STATE.slots * STATE.slot]
    slots = state.reshape(STATE.slots, STATE.slot)
    looks = {tuple(slot[10:37]) for slot in slots if slot[-1]}
    assert len(looks) == len(robot.scene.layout.items), "no two slots look the same"
    bottles = slots[slots[:, 10 + KINDS.index("bottle")] == 1]
    np.testing.assert_allclose(bottles[:, 9], BOTTLE_ML / 50)


def test_a_slot_says_which_hand_has_the_thing(robot):
    robot.reset(0)
    expert = Expert(robot, np.random.default_rng(0), noise=NO_NOISE)
    while not (side := robot.scene.holder(robot.scene.layout.target)):
        robot.apply(expert.act()[None])
    state = robot.observe().state[STATE.proprio :][: STATE.slots * STATE.slot]
    held = state.reshape(STATE.slots, STATE.slot)[:, 37:39]
    assert held.sum(axis=0).tolist() == [float(side == s) for s in SIDES]


@pytest.mark.parametrize("task", ["restocking", "freezer"])
def test_furniture_stands_where_the_layout_says_in_every_episode(task):
    robot = SimRobot(task, control=COMPACT)
    for seed in range(3):
        robot.reset(seed)
        robot.apply(np.tile(REST, (20, 1)))
        *position, yaw = robot.scene.layout.fixture
        fixture = robot.scene.data.body("fixture")
        np.testing.assert_allclose(fixture.xpos, position)
        assert np.arctan2(fixture.xmat[3], fixture.xmat[0]) == pytest.approx(yaw)


def test_slots_come_in_another_order_in_every_episode(robot):
    places = []
    for seed in range(20):
        robot.reset(seed)
        state = robot.observe().state[STATE.proprio :]
        slots = state[: STATE.slots * STATE.slot].reshape(STATE.slots, STATE.slot)
        target = robot.scene.position(robot.scene.layout.target)
        places.append(int(np.linalg.norm(slots[:, :3] - target, axis=1).argmin()))
    assert len(set(places)) > 4


def test_targets_are_cut_to_top_speed_and_joint_limits(robot):
    robot.reset(0)
    ticks = robot.apply(np.full((30, 16), 100.0))
    first = ticks[0].action
    arm = np.r_[0:7, 8:15]
    reach = MAX_SPEED / COMPACT.rate_hz
    np.testing.assert_allclose(first[arm], REST[arm] + reach, rtol=1e-5)
    assert first[7] == pytest.approx(MAX_OPENING)
    assert robot.target[0] == pytest.approx(2.9), "the first joint's limit"


def test_an_action_inside_the_limits_is_executed_as_given(robot):
    robot.reset(0)
    wanted = (REST + np.linspace(-0.1, 0.1, 16)).astype(np.float32)
    wanted[7::8] = [0.0, 0.03]
    np.testing.assert_array_equal(robot.apply(wanted[None])[0].action, wanted)


@pytest.mark.parametrize("chunk", [np.zeros((2, 15)), np.zeros(16), np.full((1, 16), np.nan)])
def test_a_chunk_that_makes_no_sense_is_refused(robot, chunk):
    robot.reset(0)
    with pytest.raises(ValueError, match=r"expected finite \[ticks, 16\]"):
        robot.apply(chunk)


def test_the_joints_follow_their_targets(robot):
    robot.reset(0)
    wanted = REST.copy()
    wanted[0] += 0.4
    wanted[15] = 0.02
    robot.apply(np.tile(wanted, (15, 1)))
    assert robot.scene.joints("left")[0] == pytest.approx(wanted[0], abs=0.01)
    assert robot.scene.opening("right") == pytest.approx(0.02, abs=0.002)


def test_thirty_ticks_of_full_control_take_one_second():
    robot = SimRobot("restocking", control=FULL)
    robot.reset(0)
    robot.apply(np.tile(REST, (30, 1)))
    assert robot.scene.data.time == pytest.approx(1.0)
    assert robot.elapsed_s == pytest.approx(1.0)


def test_the_time_limit_ends_an_episode(robot):
    task = robot.reset(2)
    ticks = robot.apply(np.tile(REST, (400, 1)))
    assert len(ticks) == task.time_limit_s * COMPACT.rate_hz
    assert [tick.status for tick in ticks[-2:]] == [Status.RUNNING, Status.TIMEOUT]
    assert robot.apply(REST[None]) == [], "nothing moves after the end"


def test_stop_holds_the_arms_where_they_are(robot):
    robot.reset(0)
    robot.apply(np.tile(REST + 0.5, (2, 1)))
    robot.stop()
    posture = robot.scene.posture()
    robot.apply(np.tile(robot.target, (10, 1)))
    np.testing.assert_allclose(robot.scene.posture(), posture, atol=0.02)


def test_an_unknown_task_is_refused_with_the_near_miss():
    with pytest.raises(ConfigError, match="Did you mean 'restocking'"):
        SimRobot("restock", control=COMPACT)
    with pytest.raises(ConfigError, match="robot r has no tasks"):
        SimRobot((), control=COMPACT, robot_id="r")
    with pytest.raises(ConfigError, match="image_size is 1000; expected 1 to 480"):
        SimRobot("freezer", control=COMPACT, image_size=1000)


def test_a_robot_of_several_tasks_draws_one_from_the_seed():
    robot = SimRobot(("restocking", "freezer"), control=COMPACT)
    names = [robot.reset(seed).name for seed in range(20)]
    assert set(names) == {"restocking", "freezer"}
    assert [robot.reset(seed).name for seed in range(20)] == names


def test_a_robot_with_a_speed_keeps_time_whatever_sensing_and_planning_take(monkeypatch):
    time = Clock()
    metronome = partial(Metronome, clock=time, sleep=time.sleep)
    monkeypatch.setattr("lwd.sim.rig.Metronome", metronome)
    circumstances = Circumstances(speed=0.8)
    kit = rig(Kind.DEMO, ["restocking"], COMPACT, robot_id="r", circumstances=circumstances)
    robot = kit.robot()
    assert isinstance(robot, SimRobot)
    sense = robot._state
    monkeypatch.setattr(robot, "_state", lambda: (time.sleep(0.0625), sense())[1])
    time.now = 90.0
    robot.reset(0)
    ends = []
    for planning in (0.0, 0.25, 0.0, 30.0, 0.0):
        time.sleep(planning)
        robot.apply(np.tile(REST, (5, 1)))
        ends.append(time.now - 90.0)
    assert ends == [0.625, 1.25, 1.875, 32.4375, 33.0625]
    robot.reset(1)
    robot.apply(np.tile(REST, (8, 1)))
    assert time.now - 90.0 == ends[-1] + 1.0


@pytest.mark.parametrize("task", ["restocking", "freezer"])
def test_a_saved_moment_comes_back_bit_for_bit_any_number_of_times(task):
    robot = SimRobot(task, control=COMPACT)
    robot.reset(3)
    robot.apply(wild(30))
    moment = robot.save()
    seen = []
    for _ in range(2):
        ticks = robot.apply(wild(60)[30:])
        seen.append(np.stack([t.observation.state for t in ticks] + [robot.observe().state]))
        robot.restore(moment)
    np.testing.assert_array_equal(*seen)
    assert robot.elapsed_s == 3.0
    np.testing.assert_array_equal(robot.observe().state, seen[0][0])


def test_a_restored_episode_runs_again_after_its_end(robot):
    robot.reset(0)
    moment = robot.save()
    while robot.status is Status.RUNNING:
        robot.apply(np.tile(REST, (50, 1)))
    robot.restore(moment)
    assert robot.status is Status.RUNNING
    assert len(robot.apply(REST[None])) == 1


def test_a_moment_of_another_episode_is_refused(robot):
    robot.reset(0)
    moment = robot.save()
    robot.reset(1)
    with pytest.raises(ValueError, match="another episode"):
        robot.restore(moment)


def test_kinds_and_colours_fill_a_slot():
    alike, position, rotation, volume, present = 3, 3, 6, 1, 1
    assert len(KINDS) + len(COLOURS) + alike == STATE.identity
    first = position + rotation + volume
    assert STATE.identities == slice(first, first + STATE.identity)
    assert first + STATE.identity + STATE.arms + present == STATE.slot


def test_masses_friction_light_and_camera_vary_with_the_seed(robot):
    def world(seed: int) -> np.ndarray:
        robot.reset(seed)
        model = robot.scene.model
        sku = model.body(robot.scene.layout.target.name)
        pad = model.geom("left_fl_pad")
        parts = [sku.mass / 0.15, pad.friction[:1] / 1.5, model.light("light").diffuse]
        return np.concatenate([*parts, model.cam("head").pos])

    first, second = world(0), world(1)
    assert (first != second).all()
    np.testing.assert_array_equal(world(0), first)
    assert 0.8 <= first[0] <= 1.2
    assert 0.85 <= first[1] <= 1.15


@pytest.mark.parametrize(("field", "number"), [("qvel", 1e12), ("qpos", np.nan), ("qvel", 1e8)])
def test_physics_that_diverges_ends_the_episode_as_invalid(robot, field, number):
    robot.reset(3)
    robot.apply(np.tile(REST, (3, 1)))
    before = robot.observe().state
    getattr(robot.scene.data, field)[-1] = number
    robot.scene.reached = len(robot.spec.subtasks)  # as if a predicate read success out of chaos
    (tick,) = robot.apply(np.tile(REST, (5, 1)))
    assert (tick.status, tick.events) == (Status.INVALID, ("diverged",))
    np.testing.assert_array_equal(robot.observe().state, before)
    assert robot.apply(REST[None]) == []


def test_the_episode_after_a_divergence_is_as_any_other(robot):
    actions = wild(5)
    first = rolled_out(robot, 3, actions)
    robot.scene.data.qpos[-1] = np.nan
    assert robot.apply(REST[None])[0].status is Status.INVALID
    np.testing.assert_array_equal(rolled_out(robot, 3, actions), first)


def test_an_episode_does_not_depend_on_those_before_it():
    used, new = (SimRobot("freezer", control=COMPACT) for _ in range(2))
    used.reset(12)
    ways = []
    for robot in (used, new):
        robot.reset(11)
        expert = Expert(robot, np.random.default_rng(11))
        way = []
        for _ in range(40):
            robot.apply(expert.act()[None])
            way.append(robot.scene.data.qpos.copy())
        ways.append(way)
    np.testing.assert_array_equal(*ways)
