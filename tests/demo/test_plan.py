"""What the demo asks of each robot."""

from collections import Counter

import pytest

from lwd.config import DemoConfig
from lwd.demo.plan import assignments, episodes
from lwd.episode.types import Kind


def fleet(robots: int, **changes):
    return assignments(DemoConfig(robots=robots, demos=200, play=20, rollouts=60, **changes))


def test_four_robots_share_two_tasks_evenly():
    robots = fleet(4)
    assert [robot.name for robot in robots] == ["robot-00", "robot-01", "robot-02", "robot-03"]
    assert [robot.index for robot in robots] == [0, 1, 2, 3]
    assert [robot.tasks for robot in robots] == 2 * [("restocking",), ("freezer",)]
    assert [robot.quota[Kind.DEMO] for robot in robots] == [100] * 4
    assert Kind.ONLINE not in robots[0].quota
    assert episodes(robots, Kind.DEMO) == 400
    assert episodes(robots, Kind.PLAY, Kind.ROLLOUT) == 160


def test_a_single_robot_does_every_task():
    (robot,) = fleet(1)
    assert robot.tasks == ("restocking", "freezer")
    assert robot.quota == {Kind.DEMO: 400, Kind.PLAY: 40, Kind.ROLLOUT: 120}


def test_an_odd_fleet_gives_every_task_its_share():
    robots = fleet(3)
    quota = Counter()
    for robot in robots:
        quota[robot.tasks[0]] += robot.quota[Kind.DEMO]
    assert quota == {"restocking": 200, "freezer": 200}
    assert [robot.quota[Kind.DEMO] for robot in robots] == [100, 200, 100]


@pytest.mark.parametrize("robots", [1, 2, 3, 4, 7, 16])
def test_every_task_gets_at_least_the_episodes_that_are_asked_for(robots):
    given = fleet(robots)
    wanted = {Kind.DEMO: 200, Kind.PLAY: 20, Kind.ROLLOUT: 60}
    for kind, count in wanted.items():
        found = episodes(given, kind)
        assert 2 * count <= found < 2 * count + robots
    assert {task for robot in given for task in robot.tasks} == {"restocking", "freezer"}


def test_sixteen_robots_have_names_of_their_own_and_one_task_each():
    robots = fleet(16)
    assert len({robot.name for robot in robots}) == 16
    assert Counter(robot.tasks for robot in robots) == {("restocking",): 8, ("freezer",): 8}
    assert robots[-1].quota[Kind.PLAY] == 3  # 20 of 8 robots, rounded up
