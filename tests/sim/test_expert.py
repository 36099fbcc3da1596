import numpy as np
import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT, FULL, ControlConfig
from lwd.sim.expert import Expert
from lwd.sim.hands import NO_NOISE, Faults
from lwd.sim.robot import SimRobot


def demonstrated(robot: SimRobot, expert: Expert) -> tuple[list[np.ndarray], list[str]]:
    """Let the expert finish the episode: what it asked for, and what happened."""
    actions, events = [], []
    while robot.status is Status.RUNNING:
        actions.append(expert.act())
        for tick in robot.apply(actions[-1][None]):
            events += tick.events
    return actions, events


@pytest.mark.parametrize(
    ("control", "held_out", "seeds"), [(COMPACT, False, 10), (COMPACT, True, 5), (FULL, False, 2)]
)
def test_the_expert_restocks(control: ControlConfig, held_out: bool, seeds: int):
    robot = SimRobot("restocking", control=control, held_out=held_out)
    lengths = []
    for seed in range(seeds):
        robot.reset(seed)
        demonstrated(robot, Expert(robot, np.random.default_rng(seed)))
        assert robot.status is Status.SUCCESS, f"seed {seed}"
        lengths.append(robot.elapsed_s)
    assert 4 < np.mean(lengths) < 9


def test_a_demonstration_repeats_with_its_seed_and_varies_with_another():
    robot = SimRobot("restocking", control=COMPACT)

    def shown(seed: int) -> np.ndarray:
        robot.reset(1)
        return np.stack(demonstrated(robot, Expert(robot, np.random.default_rng(seed)))[0])

    first = shown(0)
    np.testing.assert_array_equal(shown(0), first)
    other = shown(1)
    assert len(other) != len(first) or not np.allclose(other, first)


def test_a_demonstration_stays_inside_the_robots_limits():
    robot = SimRobot("restocking", control=COMPACT)
    robot.reset(1)
    expert = Expert(robot, np.random.default_rng(0))
    while robot.status is Status.RUNNING:
        wanted = expert.act()
        np.testing.assert_array_equal(robot.apply(wanted[None])[0].action, wanted)


def test_the_arm_on_the_items_side_does_the_work():
    robot = SimRobot("restocking", control=COMPACT)
    for seed in range(4):
        robot.reset(seed)
        side = "left" if robot.scene.position(robot.scene.layout.target)[1] > 0 else "right"
        idle = slice(8, 15) if side == "left" else slice(0, 7)
        actions, _ = demonstrated(robot, Expert(robot, np.random.default_rng(0), noise=NO_NOISE))
        assert np.ptp([action[idle] for action in actions], axis=0).max() < 1e-6


def test_the_expert_takes_over_after_a_random_policy():
    robot = SimRobot("restocking", control=COMPACT)
    helped = []
    for seed in range(6):
        robot.reset(seed)
        walk = np.random.default_rng(seed)
        for _ in range(50):
            step = walk.normal(scale=0.15, size=16)
            step[7::8] = walk.normal(scale=0.05, size=2)
            robot.apply((robot.target + step)[None])
        if robot.status is Status.RUNNING:
            demonstrated(robot, Expert(robot, np.random.default_rng(seed)))
            helped.append(robot.status is Status.SUCCESS)
    assert len(helped) >= 4, "a random policy seldom loses an item"
    assert np.mean(helped) > 0.7


def test_the_expert_notices_when_somebody_else_moved_the_arms():
    robot = SimRobot("restocking", control=COMPACT)
    robot.reset(2)
    expert = Expert(robot, np.random.default_rng(0), noise=NO_NOISE)
    for _ in range(15):
        robot.apply(expert.act()[None])
    robot.apply(np.tile(robot.target + np.tile([0.3] + [0.0] * 7, 2), (5, 1)))
    demonstrated(robot, expert)
    assert robot.status is Status.SUCCESS


def test_faults_show_in_what_happens():
    robot = SimRobot("restocking", control=COMPACT)

    def events(faults: Faults) -> list[str]:
        robot.reset(0)
        return demonstrated(robot, Expert(robot, np.random.default_rng(1), faults=faults))[1]

    target = (robot.reset(0), robot.scene.layout.target.name)[1]
    assert events(Faults()) == [f"lifted:{target}", f"released:{target}"]
    hasty = events(Faults(early_release=1.0))
    assert hasty.count(f"released:{target}") > 1, "let go on the way, again and again"
    assert events(Faults(wrong_item=1.0))[0] != f"lifted:{target}"
