"""`lwd.suites.gym`: a Gymnasium environment as a robot, on Gymnasium's own pendulum."""

import threading

import gymnasium
import numpy as np
import pytest

from lwd.actor.operator import Demonstration
from lwd.actor.process import Rig, main
from lwd.actor.robot import Robot, Status
from lwd.config import ActorConfig, ControlConfig, PlaneConfig
from lwd.episode import payload
from lwd.errors import ConfigError
from lwd.suites import SUITES, GymDemonstrator, GymRobot, GymTask, Suite, choose, load

CONTROL = ControlConfig(rate_hz=20.0, horizon=5, timestep_s=0.05)
SPEED = 2
"""Where the pendulum's observation has its angular velocity."""


class Pusher:
    """Pushes the pendulum in the direction in which it swings: energy only grows."""

    def act(self, observation, info):
        return np.array([2.0 if observation[SPEED] >= 0 else -2.0])


class Judged(gymnasium.Wrapper):
    """A pendulum that has a test of success: it swings faster than 4 rad/s."""

    def step(self, action):
        seen, reward, terminated, truncated, info = self.env.step(action)
        return seen, reward, terminated, truncated, {**info, "success": abs(seen[SPEED]) > 4}


def pendulum(**changes):
    def make():
        return Judged(gymnasium.make("Pendulum-v1", disable_env_checker=True))

    settings = {
        "name": "pendulum",
        "instruction": "swing fast",
        "make": make,
        "time_limit_s": 10.0,
        "expert": lambda environment, rng: Pusher(),
    }
    return GymTask(**{**settings, **changes})


@pytest.fixture
def robot():
    robots = []

    def make(*tasks):
        robots.append(GymRobot(tasks, control=CONTROL, robot_id="g0"))
        return robots[-1]

    yield make
    for each in robots:
        each.close()


def drawn(seed):
    """Which of two tasks a robot draws."""
    return np.random.default_rng(seed).integers(2)


def still(ticks):
    return np.zeros((ticks, 1), np.float32)


def test_a_seed_decides_the_episode(robot):
    one, other = robot(pendulum()), robot(pendulum())
    assert isinstance(one, Robot)
    starts = []
    for seed in (1, 1, 2):
        assert one.reset(seed).seed == other.reset(seed).seed == seed
        np.testing.assert_array_equal(one.observe().state, other.observe().state)
        starts.append(one.observe().state)
    np.testing.assert_array_equal(starts[0], starts[1])
    assert (starts[0] != starts[2]).any()


def test_a_tick_holds_what_was_sensed_before_and_the_action_that_the_limits_allow(robot):
    on = robot(pendulum())
    on.reset(0)
    before = on.observe().state
    first, second = on.apply(np.array([[0.5], [7.0]]))
    np.testing.assert_array_equal(first.observation.state, before)
    assert first.action.tolist() == [0.5]
    assert second.action.tolist() == [2.0]
    assert (second.observation.state != before).any()


def test_success_is_the_environments_own_and_ends_the_chunk(robot):
    on = robot(pendulum())
    on.reset(0)
    expert = Pusher()
    while (tick := on.apply(expert.act(*on.raw)[None])[0]).status is Status.RUNNING:
        assert abs(on.raw[0][SPEED]) <= 4
    assert tick.status is Status.SUCCESS
    assert abs(on.raw[0][SPEED]) > 4
    assert on.apply(still(3)) == []


@pytest.mark.parametrize(
    ("ends", "status"),
    [((True, False), Status.FAILURE), ((False, True), Status.TIMEOUT)],
)
def test_what_ends_without_success(robot, ends, status):
    class Ends(gymnasium.Wrapper):
        def step(self, action):
            seen, reward, *_, info = self.env.step(action)
            return seen, reward, *ends, info

    on = robot(pendulum(make=lambda: Ends(gymnasium.make("Pendulum-v1"))))
    on.reset(0)
    assert [tick.status for tick in on.apply(still(3))] == [status]


def test_physics_that_diverges_is_invalid_and_leaves_the_last_sane_state(robot):
    class Diverges(gymnasium.Wrapper):
        def step(self, action):
            seen, reward, *_, info = self.env.step(action)
            return seen * np.nan, reward, False, False, {**info, "success": True}

    on = robot(pendulum(make=lambda: Diverges(gymnasium.make("Pendulum-v1"))))
    on.reset(0)
    before = on.observe().state
    assert [tick.status for tick in on.apply(still(3))] == [Status.INVALID]
    np.testing.assert_array_equal(on.observe().state, before)


def test_the_process_of_a_robot_demonstrates_into_its_spool(tmp_path):
    robots = []

    def make():
        robots.append(GymRobot([pendulum()], control=CONTROL, robot_id="g0"))
        return robots[0]

    def operator(on, rng):
        return Demonstration(lambda: GymDemonstrator(on, rng))

    rig = Rig(robot=make, operator=operator)
    actor = ActorConfig(robot="g0", kind="demo", episodes=2)
    main(actor, PlaneConfig(root=tmp_path), rig, stop=threading.Event())
    episodes = [payload.decode(p) for p in (tmp_path / "spool/g0/pending").glob("*.arrow")]
    assert len(episodes) == 2
    for episode in episodes:
        assert episode.header.task == "pendulum"
        assert episode.header.instruction == "swing fast"
        assert abs(episode.state[-1, SPEED]) > 4
        assert episode.reward.sum() == 1
    robots[0].close()


@pytest.fixture
def looks():
    """A robot with a camera that shows the tick; at which ticks it has been rendered."""
    rendered = []

    def images(environment, observation, info):
        rendered.append(info["tick"])
        return {"side": np.full((8, 8, 3), info["tick"], np.uint8)}

    robot = GymRobot(
        [pendulum(make=lambda: Ticking(gymnasium.make("Pendulum-v1")), images=images)],
        control=CONTROL,
        robot_id="g0",
        cameras=True,
    )
    yield robot, rendered
    robot.close()


class Ticking(gymnasium.Wrapper):
    """Says how many steps there have been since the reset."""

    def reset(self, **options):
        self._tick = 0
        seen, info = self.env.reset(**options)
        return seen, {**info, "tick": 0}

    def step(self, action):
        self._tick += 1
        seen, reward, terminated, truncated, info = self.env.step(action)
        seen = seen * np.nan if action[0] > 1.5 else seen
        return seen, reward, terminated, truncated, {**info, "tick": self._tick}


@pytest.mark.parametrize("at_once", [1, 4, 2 * CONTROL.horizon + 1])
def test_cameras_are_rendered_where_images_are_kept(looks, at_once):
    robot, rendered = looks
    for _ in range(2):
        robot.reset(0)
        left, ticks = 2 * CONTROL.horizon + 1, []
        while len(ticks) < left:
            ticks += robot.apply(still(min(at_once, left - len(ticks))))
        shown = [
            tick.observation.images["side"][0, 0, 0] if tick.observation.images else None
            for tick in ticks
        ]
        kept = [k if k % CONTROL.horizon == 0 else None for k in range(left)]
        assert shown == kept
        assert rendered == [0, CONTROL.horizon, 2 * CONTROL.horizon]
        rendered.clear()


def test_a_plan_has_images_wherever_it_is_made_and_so_has_its_tick(looks):
    robot, rendered = looks
    robot.reset(0)
    robot.apply(still(3))
    seen = robot.observe()
    assert seen.images["side"][0, 0, 0] == 3
    (tick,) = robot.apply(still(1))
    assert tick.observation is seen
    assert rendered == [0, 3]
    assert robot.observe().images["side"][0, 0, 0] == 4


def test_what_diverged_is_not_rendered(looks):
    robot, rendered = looks
    robot.reset(0)
    robot.apply(still(2))
    assert [tick.status for tick in robot.apply(still(1) + 2)] == [Status.INVALID]
    assert np.isfinite(robot.observe().state).all()
    assert rendered == [0]


@pytest.mark.parametrize("chunk", [[[0.0, 0.0]], [0.0], [[np.nan]]])
def test_a_chunk_of_another_shape_or_not_finite(robot, chunk):
    on = robot(pendulum())
    on.reset(0)
    with pytest.raises(ValueError, match=r"pendulum expects finite \[ticks, 1\]"):
        on.apply(np.array(chunk))


def test_tasks_of_two_bodies(robot):
    def with_one_number_more(environment, observation, info):
        return np.append(observation, 0.0)

    on = robot(pendulum(), pendulum(name="other", state=with_one_number_more))
    one, other = (next(s for s in range(99) if drawn(s) == task) for task in (0, 1))
    on.reset(one)
    with pytest.raises(ConfigError, match="give tasks of one body to one robot"):
        on.reset(other)
    with pytest.raises(ConfigError, match="pendulum is for the body '', other for 'arm'"):
        robot(pendulum(), pendulum(name="other", body="arm"))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), ["toys-cube-1", "toys-cube-2", "toys-cubes"]),
        (("toys-cube",), ["toys-cube-1", "toys-cube-2"]),
        (("cubes", "cube-2"), ["toys-cubes", "toys-cube-2"]),
    ],
)
def test_a_task_is_named_whole_or_by_its_beginning_with_or_without_its_suite(names, found):
    tasks = tuple(pendulum(name=f"toys-{name}") for name in ("cube-1", "cube-2", "cubes"))
    suite = Suite(name="toys", tasks=tasks, control=CONTROL)
    assert [task.name for task in choose(suite, names)] == found
    with pytest.raises(ConfigError, match="Did you mean 'toys-cubes'"):
        choose(suite, ("toys-cubs",))


def test_no_tasks_no_expert_and_no_such_suite(robot):
    with pytest.raises(ConfigError, match="robot g0 has no tasks"):
        robot()
    on = robot(pendulum(expert=None))
    on.reset(0)
    with pytest.raises(ConfigError, match="pendulum comes without an expert"):
        GymDemonstrator(on, np.random.default_rng(0)).act()
    with pytest.raises(ConfigError, match="metaworld"):
        load("atari")
    with pytest.raises(ConfigError, match="cameras-px is -3; 0 keeps no images"):
        load("metaworld", -3)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_that_is_not_installed_says_where_it_is(name):
    with pytest.raises(ConfigError, match=rf"\.suites/{name}/bin/lwd suite {name}"):
        load(name)
