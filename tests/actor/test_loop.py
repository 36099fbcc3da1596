"""The control loop: chunks, intervention in the middle, every way an episode can end."""

import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

from actor.point import CONTROL, Expert, Intervening, PointPolicy, PointRobot
from lwd.actor.loop import run_episode
from lwd.actor.operator import Demonstration
from lwd.actor.recorder import Recording
from lwd.actor.robot import Observation
from lwd.episode import payload
from lwd.episode.types import Kind, Outcome, Source
from lwd.errors import EpisodeError, IntegrityError

H = CONTROL.horizon


@pytest.fixture
def robot() -> PointRobot:
    return PointRobot()


def roll_out(robot, policy=None, operator=None, *, kind=Kind.ONLINE, **options):
    return run_episode(robot, 7, policy or PointPolicy(), operator, kind=kind, **options)


def test_a_policy_reaches_the_goal_chunk_by_chunk(robot):
    policy = PointPolicy(version=4)
    episode = roll_out(robot, policy)
    header = episode.header
    assert (header.outcome, header.terminated, header.truncated) == (Outcome.SUCCESS, True, False)
    assert (header.policy_version, header.seed, header.task) == (4, 7, "reach")
    assert (header.normalisation_hash, header.tokenizer_hash) == ("a" * 64, "b" * 64)
    assert robot.commands == [H] * policy.planned
    assert policy.seeds == [7]
    assert robot.stopped == 1
    assert np.array_equal(episode.action, episode.action_policy)
    assert (episode.source == Source.POLICY).all()
    assert H * (policy.planned - 1) < episode.ticks <= H * policy.planned


def test_the_rest_of_a_chunk_is_never_carried_out(robot):
    """With 2 of 5 ticks carried out the policy plans every other tick, from where the robot is."""
    robot.control = replace(CONTROL, execute=2)
    policy, asked = PointPolicy(), []
    plan = policy.chunk
    policy.chunk = lambda seen, words: [asked.append(seen.state[:2]), plan(seen, words)][1]
    episode = roll_out(robot, policy)
    assert episode.header.outcome is Outcome.SUCCESS
    assert set(robot.commands) == {2}
    assert np.array_equal(asked, episode.state[:-1:2, :2])
    assert np.array_equal(episode.action, episode.action_policy)
    robot.commands.clear()
    guarded = roll_out(robot, operator=Intervening(robot, []))
    assert np.array_equal(guarded.action, episode.action)


def test_the_header_has_the_last_scores_of_the_sub_steps(robot):
    assert roll_out(robot).header.substeps == ()
    robot.substeps = (1.0, 0.5, 0.0)
    assert roll_out(robot).header.substeps == (1.0, 0.5, 0.0)


def test_states_line_up_with_actions(robot):
    episode = roll_out(robot)
    assert episode.state.shape == (episode.ticks + 1, 4)
    assert np.array_equal(episode.state[0, :2], [0, 0])
    moved = np.hypot(*(episode.state[1:, :2] - episode.state[:-1, :2]).T)
    assert (moved > 0).all()
    assert np.hypot(*(episode.state[-1, :2] - episode.state[-1, 2:])) < 0.02


def test_what_was_recorded_is_a_valid_payload():
    episode = roll_out(PointRobot(camera=True), operator=Intervening(PointRobot(), range(2, 4)))
    again = payload.decode(payload.encode(episode))
    assert again.header == episode.header
    assert np.array_equal(again.state, episode.state)
    assert again.events[0] == ("moved",)


def test_the_operator_takes_over_inside_a_chunk(robot):
    policy = PointPolicy(gain=0.0)  # stays where it is
    episode = roll_out(robot, policy, Intervening(robot, range(3, 6)))
    human = np.arange(episode.ticks)[episode.source == Source.HUMAN]
    assert human.tolist() == [3, 4, 5]
    assert (episode.source[[0, 1, 2, 6, 7]] == Source.POLICY).all()
    # ticks 3 and 4 were still planned by the policy; it was not asked about tick 5
    assert np.array_equal(episode.action_policy[3:5], np.zeros((2, 2)))
    assert np.isnan(episode.action_policy[5]).all()
    assert np.array_equal(episode.action[3:6], np.repeat(episode.state[:1, 2:], 3, axis=0))


def test_the_policy_plans_anew_after_handing_back(robot):
    policy = PointPolicy(gain=0.0)
    episode = roll_out(robot, policy, Intervening(robot, range(1, 3)))
    # the plan of tick 0 said "stay at the origin"; the new one says "stay where the operator left"
    assert np.allclose(episode.action[3], episode.state[3, :2])
    assert np.hypot(*episode.action[3]) > 0.15
    assert policy.planned == 1 + -(-(episode.ticks - 3) // H)


def test_an_operator_who_only_watches_changes_nothing(robot):
    watched = roll_out(PointRobot(), operator=Intervening(robot, range(0)))
    alone = roll_out(PointRobot())
    assert np.array_equal(watched.state, alone.state)
    assert np.array_equal(watched.action, alone.action)


def test_the_operator_can_act_from_the_first_tick(robot):
    policy = PointPolicy()
    episode = roll_out(robot, policy, Intervening(robot, range(1000)))
    assert policy.planned == 0
    assert episode.header.policy_version == policy.version
    assert np.isnan(episode.action_policy).all()
    assert (episode.source == Source.HUMAN).all()


@pytest.mark.parametrize(("kind", "source"), [(Kind.DEMO, Source.EXPERT), (Kind.PLAY, Source.PLAY)])
def test_demonstrations_have_no_policy(robot, kind, source):
    episode = run_episode(robot, 3, None, Demonstration(lambda: Expert(robot)), kind=kind)
    assert episode is not None
    assert episode.header.outcome is Outcome.SUCCESS
    assert (episode.header.kind, episode.header.policy_version) == (kind, 0)
    assert (episode.source == source).all()
    assert np.isnan(episode.action_policy).all()


def test_the_demonstrator_is_made_when_the_scene_is_set(robot):
    seen = []

    def make():
        seen.append(len(robot.seeds))
        return Expert(robot)

    operator = Demonstration(make)
    for seed in (1, 2):
        run_episode(robot, seed, None, operator, kind=Kind.DEMO)
    assert seen == [1, 2]


def test_failure_terminates(robot):
    header = roll_out(robot, PointPolicy(gain=-2.5)).header
    assert (header.outcome, header.terminated, header.truncated) == (Outcome.FAILURE, True, False)


def test_the_time_limit_truncates_also_inside_a_chunk():
    robot = PointRobot(time_limit_s=1.2)
    episode = roll_out(robot, PointPolicy(gain=0.0))
    assert episode.ticks == 12
    assert robot.commands == [5, 5, 2]
    assert episode.header.outcome is Outcome.TIMEOUT
    assert (episode.header.terminated, episode.header.truncated) == (False, True)


def test_stop_interrupts_and_keeps_what_was_done(robot):
    stop = threading.Event()

    class Stopping(Intervening):
        def wants_control(self, tick):
            if self._now == 3:
                stop.set()
            return super().wants_control(tick)

    episode = roll_out(robot, operator=Stopping(robot, range(0)), stop=stop)
    assert episode.ticks == 5
    assert episode.header.outcome is Outcome.INTERRUPTED
    assert (episode.header.terminated, episode.header.truncated) == (False, True)
    assert robot.stopped == 1


def test_stopped_before_the_first_tick_there_is_no_episode(robot):
    stop = threading.Event()
    stop.set()
    assert roll_out(robot, stop=stop) is None
    assert robot.stopped == 1


@pytest.mark.parametrize(
    "chunk",
    [np.full((H, 2), np.nan, np.float32), np.zeros((H + 1, 2)), np.zeros(2)],
    ids=["nan", "too long", "flat"],
)
def test_a_policy_that_misbehaves_never_moves_the_robot(robot, chunk):
    policy = PointPolicy(version=9)
    policy.chunk = lambda observation, instruction: chunk
    with pytest.raises(IntegrityError, match="policy version 9 planned"):
        roll_out(robot, policy)
    assert robot.commands == []
    assert robot.stopped == 1


def test_somebody_must_act(robot):
    with pytest.raises(EpisodeError, match="nobody acts"):
        run_episode(robot, 1, None, Intervening(robot, range(0)), kind=Kind.ONLINE)


def test_a_robot_that_does_nothing_is_an_error(robot):
    robot.apply = lambda chunk: []
    with pytest.raises(EpisodeError, match="executed none of 5 ticks"):
        roll_out(robot)


def test_images_are_kept_where_chunks_start_and_at_the_end():
    episode = roll_out(PointRobot(camera=True), PointPolicy(gain=0.0))
    kept = [index for index, image in enumerate(episode.images["top"]) if image is not None]
    assert kept == list(range(0, episode.ticks + 1, H))


def test_images_are_kept_at_the_rate_asked_for():
    recording = Recording(image_every=2)
    episode = roll_out(
        PointRobot(camera=True, time_limit_s=1.0), PointPolicy(0.0), recording=recording
    )
    kept = [index for index, image in enumerate(episode.images["top"]) if image is not None]
    assert kept == [0, 2, 4, 5, 6, 8, 10]


def test_an_image_as_sensed_is_let_go_once_it_is_recorded(monkeypatch):
    robot, policy = PointRobot(camera=True, time_limit_s=2.0), PointPolicy(0.0)
    sense, plan = robot.observe, policy.chunk
    images, alive = [], []

    def observe() -> Observation:
        seen = sense()
        images.append(weakref.ref(seen.images["top"]))
        return seen

    def chunk(seen: Observation, words: str) -> np.ndarray:
        alive.append(sum(image() is not None for image in images))
        return plan(seen, words)

    monkeypatch.setattr(robot, "observe", observe)
    monkeypatch.setattr(policy, "chunk", chunk)
    episode = roll_out(robot, policy)
    assert len(images) > episode.ticks == 20
    assert max(alive) <= 2, "that of the last tick and what the policy is shown"


def test_a_clock_that_is_set_back_costs_no_episode(robot):
    clock = iter([7300.0, 100.0])
    episode = roll_out(robot, recording=Recording(clock=lambda: next(clock)))
    assert (episode.header.started_at, episode.header.ended_at) == (7300.0, 7300.0)
    assert payload.decode(payload.encode(episode)).header == episode.header


def test_stamps_that_go_back_are_replaced_by_counted_ticks(robot, monkeypatch):
    stamps = iter([50.0, 51.0, 10.0, *range(11, 99)])
    sense = robot.observe
    monkeypatch.setattr(robot, "observe", lambda: replace(sense(), time=float(next(stamps))))
    episode = roll_out(robot, recording=Recording(clock=lambda: 100.0))
    np.testing.assert_allclose(episode.time, 100.0 + 0.1 * np.arange(episode.ticks + 1))


def test_times_are_counted_at_the_control_rate_from_the_clock(robot):
    clock = iter([100.0, 200.0])
    episode = roll_out(robot, recording=Recording(clock=lambda: next(clock)))
    assert np.allclose(episode.time, 100.0 + 0.1 * np.arange(episode.ticks + 1))
    assert (episode.header.started_at, episode.header.ended_at) == (100.0, 200.0)


def test_the_robots_own_time_stamps_win(robot):
    stamps = iter(np.arange(1000) * 0.5)
    bare = robot.observe

    def stamped() -> Observation:
        return Observation(state=bare().state, time=float(next(stamps)))

    robot.observe = stamped
    episode = roll_out(robot, operator=Intervening(PointRobot(), range(100)))
    assert np.allclose(np.diff(episode.time), 0.5)


def test_episode_ids_are_never_the_same(robot):
    ids = {roll_out(robot).header.episode_id for _ in range(3)}
    assert len(ids) == 3
