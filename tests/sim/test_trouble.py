"""Robots that fail: each disturbance alone, in the physics and in the recording."""

import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest

from lwd.actor.loop import run_episode
from lwd.actor.robot import Robot, Status
from lwd.config import COMPACT, SightConfig
from lwd.config.fleet import DisturbanceConfig
from lwd.episode.payload import decode, encode
from lwd.episode.types import Kind, Outcome
from lwd.sim.body import MAX_OPENING
from lwd.sim.rig import Circumstances, rig
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.trouble import TroubledRobot
from opengl import needs_opengl

OFTEN = 1000.0
"""An hour: three or four in 12 s of an episode."""


def troubled(
    task: str = "restocking", *, cameras: tuple[str, ...] = (), **disturbances
) -> TroubledRobot:
    inner = SimRobot(task, control=COMPACT, cameras=cameras, image_size=32)
    return TroubledRobot(inner, DisturbanceConfig(**disturbances))


def waited(robot: Robot):
    """Ticks of 12 s at rest, in chunks that end anywhere."""
    return [tick for _ in range(17) for tick in robot.apply(np.tile(REST, (7, 1)))]


def events(ticks) -> list[tuple[int, str]]:
    return [(at, event) for at, tick in enumerate(ticks) for event in tick.events]


def test_without_disturbances_nothing_differs():
    actions = REST + np.random.default_rng(0).normal(scale=0.1, size=(20, len(REST)))
    plain, wrapped = SimRobot("restocking", control=COMPACT), troubled()
    assert isinstance(wrapped, Robot)
    assert plain.reset(4) == wrapped.reset(4)
    for one, other in zip(plain.apply(actions), wrapped.apply(actions), strict=True):
        np.testing.assert_array_equal(one.observation.state, other.observation.state)
        assert (one.status, one.events) == (other.status, other.events)


def test_a_stuck_gripper_stays_as_it_is_while_the_recording_has_what_it_was_told():
    robot = troubled(gripper_stuck_per_h=OFTEN, gripper_stuck_s=(2.0, 2.0))
    robot.reset(1)
    ticks = waited(robot)
    found = [(at, name) for at, name in events(ticks) if name.startswith("gripper")]
    start, name = next((at, name) for at, name in found if "stuck" in name)
    side = name.rpartition(":")[2]
    robot.reset(1)
    robot.apply(np.tile(REST, (start, 1)))
    closed = REST.copy()
    closed[7::8] = 0.0
    opening = robot.inner.scene.opening(side)
    ticks = robot.apply(np.tile(closed, (15, 1)))
    assert name in ticks[0].events
    assert robot.inner.scene.opening(side) == pytest.approx(opening, abs=2e-3)
    assert opening > 0.9 * MAX_OPENING
    assert (ticks[-1].action[7::8] == 0).all()
    robot.apply(np.tile(closed, (25, 1)))
    assert robot.inner.scene.opening(side) < 0.01


def test_a_push_moves_a_thing_and_ends():
    robot = troubled(pushes_per_h=OFTEN, push_weights=(1.4, 1.4))
    plain = SimRobot("restocking", control=COMPACT)
    robot.reset(2), plain.reset(2)
    ticks = waited(robot)
    pushed = [name.partition(":")[2] for _, name in events(ticks) if name.startswith("pushed")]
    assert pushed
    waited(plain)
    things = {item.thing.name: item.thing for item in plain.scene.layout.items}
    moved = [
        np.linalg.norm(robot.inner.scene.position(t) - plain.scene.position(t))
        for t in map(things.get, pushed)
    ]
    assert max(moved) > 0.01
    assert not robot.inner.scene.data.xfrc_applied.any()


@pytest.mark.parametrize("task", ["tea", "juice", "cocktail"])
def test_a_push_flings_nothing_away(task):
    robot = troubled(task, pushes_per_h=4 * OFTEN, push_weights=(1.4, 1.4), push_s=(0.3, 0.3))
    pushed = set()
    for seed in range(3):
        robot.reset(seed)
        scene = robot.inner.scene
        items = [item.thing for item in scene.layout.items]
        for _ in range(120):
            ticks = robot.apply(REST[None])
            if not ticks or ticks[-1].status is not Status.RUNNING:
                break
            pushed |= {e.partition(":")[2] for e in ticks[0].events if e.startswith("pushed")}
            assert max(scene.speed(thing) for thing in items) < 5.0
    names = {thing.name: thing for thing in items}
    assert len(pushed) > 5
    assert all(scene.movable(names[name]) for name in pushed & names.keys()), "no tray, no beads"


@needs_opengl
def test_a_frozen_camera_repeats_its_image_and_says_so():
    robot = troubled(cameras=("head", "left_wrist"), camera_frozen_per_h=4000.0)
    robot.inner.image_every = 1
    robot.reset(5)
    swing = REST.copy()
    swing[3::8] += 0.5
    swing[6::8] += 0.5
    frozen, before = set(), {}
    repeated = 0
    for _ in range(30):
        ticks = robot.apply(swing[None] if robot.inner.elapsed_s % 2 < 1 else REST[None])
        images = ticks[0].observation.images
        for event in ticks[0].events:
            what, _, camera = event.partition(":")
            if what == "camera frozen":
                frozen.add(camera)
            if what == "camera back":
                frozen.discard(camera)
        for camera in frozen & before.keys():
            repeated += 1
            np.testing.assert_array_equal(images[camera], before[camera])
        before = {camera: images[camera] for camera in frozen}
    assert repeated >= 5


def test_what_is_stuck_does_not_get_stuck_before_it_is_free():
    robot = troubled(gripper_stuck_per_h=4000.0, gripper_stuck_s=(1.0, 3.0))
    robot.reset(3)
    found = [name for _, name in events(waited(robot))]
    for side in ("left", "right"):
        told = [name.partition(":")[0] for name in found if name.endswith(side)]
        assert len(told) > 3
        assert set(told[::2]) == {"gripper stuck"}
        assert set(told[1::2]) == {"gripper free"}


@needs_opengl
def test_a_robot_that_goes_takes_its_graphics_along_before_a_thread_collects_garbage():
    robot = troubled(cameras=("head",), camera_frozen_per_h=OFTEN, gripper_stuck_per_h=OFTEN)
    robot.reset(5)
    eyes = weakref.ref(robot.inner._eyes["restocking"]) if robot.observe().images else None
    assert eyes is not None
    gc.disable()
    try:
        del robot
        assert eyes() is None
    finally:
        gc.enable()


def test_a_robot_without_cameras_has_none_that_freezes():
    robot = troubled(camera_frozen_per_h=OFTEN)
    robot.reset(5)
    assert events(waited(robot)) == []


@needs_opengl
def test_an_emergency_stop_interrupts_the_episode_and_the_upload_says_so():
    kit = rig(
        Kind.PLAY,
        ["restocking"],
        COMPACT,
        robot_id="r",
        circumstances=Circumstances(
            sight=SightConfig(cameras=("head",), image_size=32, image_every=2),
            disturbance=DisturbanceConfig(emergency_stops_per_h=4000.0),
        ),
    )
    robot = kit.robot()
    assert isinstance(robot, TroubledRobot)
    assert kit.operator is not None
    operator = kit.operator(robot, np.random.default_rng(0))
    episode = run_episode(robot, 3, None, operator, kind=Kind.PLAY, recording=kit.recording)
    assert episode is not None
    kept = [image is not None for image in episode.images["head"][:-1]]
    assert kept == [tick % 2 == 0 for tick in range(episode.ticks)]
    header = decode(encode(episode)).header
    assert header.outcome is Outcome.INTERRUPTED
    assert (header.terminated, header.truncated) == (False, True)
    assert "emergency stop" in episode.events[-1]
    assert "emergency stop" not in [name for names in episode.events[:-1] for name in names]
    assert robot.apply(REST[None]) == []
    robot.reset(4)
    assert robot.apply(REST[None])[0].status is Status.RUNNING


def test_the_same_seed_brings_the_same_trouble():
    robot = troubled(pushes_per_h=OFTEN, gripper_stuck_per_h=OFTEN)
    found = []
    for seed in (6, 6, 7):
        robot.reset(seed)
        found.append(events(waited(robot)))
    assert found[0] == found[1] != found[2]
    assert all(first <= second for (first, _), (second, _) in pairwise(found[0]))


def test_happenings_come_as_often_as_asked():
    robot = troubled(pushes_per_h=OFTEN, emergency_stops_per_h=OFTEN)
    counts = []
    for seed in range(40):
        robot.reset(seed)
        counts.append(sum(h.event.startswith("pushed") for h in robot._ahead))
    expected = OFTEN * 30 / 3600
    assert np.mean(counts) == pytest.approx(expected, abs=4 * np.sqrt(expected / 40))


def test_a_power_cut_comes_in_the_middle_of_an_episode():
    inner, cut = SimRobot("restocking", control=COMPACT), []
    often = DisturbanceConfig(power_cycles_per_h=OFTEN)
    robot = TroubledRobot(inner, often, power=lambda: cut.append(inner.elapsed_s))
    robot.reset(6)
    waited(robot)
    assert cut
    assert all(0 < at < 12 for at in cut)
