"""Chunks that are planned while the one before runs: no gap, no jump, no wait."""

import math
import threading
from collections import defaultdict

import numpy as np
import pytest

from actor.fleet import until
from actor.point import Intervening, PointPolicy, PointRobot
from lwd.actor.loop import HELD, run_episode
from lwd.actor.realtime import Pace, RealtimePolicy, merged
from lwd.actor.robot import Observation
from lwd.config import ControlConfig
from lwd.episode.types import Kind, Outcome, Source
from lwd.errors import IntegrityError, ServiceError

CONTROL = ControlConfig(rate_hz=10.0, horizon=10, timestep_s=0.1)


def test_two_plans_go_over_into_each_other():
    old, new = np.zeros((4, 1), np.float32), np.full((6, 1), 4.0, np.float32)
    assert merged(old, new, 3)[:, 0].tolist() == [1, 2, 3, 4, 4, 4]
    assert merged(old, new, 0)[:, 0].tolist() == [4] * 6
    assert merged(old[:1], new, 3)[:, 0].tolist() == [2, 4, 4, 4, 4, 4]
    assert merged(old[:0], new, 3)[:, 0].tolist() == [4] * 6
    assert merged(old, new[:2], 9)[:, 0].tolist() == pytest.approx([4 / 3, 8 / 3])


class Lane:
    """Plans the numbers of the ticks themselves, once the test lets it."""

    version, normalisation_hash, tokenizer_hash = 3, "", ""
    lead = 0.0
    """Added to every plan."""

    def __init__(self, gates):
        self._gates = gates
        self.origins: list[int] = []
        self.error: Exception | None = None

    def reset(self, seed):
        pass

    def chunk(self, observation, instruction):
        origin = int(observation.state[0])
        self.origins.append(origin)
        assert self._gates[origin].wait(10)
        if self.error is not None:
            raise self.error
        return np.arange(origin, origin + 10, dtype=np.float32)[:, None] + self.lead


class Drive:
    """Control ticks of a `RealtimePolicy` whose plans take `delay` of them."""

    def __init__(self, delay: int, *, lanes: int = 1, **pace):
        self.delay, self.now = delay, 0
        self.gates = defaultdict(threading.Event)
        self.lanes = [Lane(self.gates) for _ in range(lanes)]
        self.policy = RealtimePolicy(
            self.lanes, CONTROL, Pace(**pace), clock=lambda: self.now / 10 + self._before_s
        )
        self._before_s = 0.0
        self.policy.reset(0)

    def tick(self) -> float | None:
        """The target of one tick; before the first, the robot waits at rest."""
        self.arrive(self.now - self.delay)
        if self.policy.wants():
            self.policy.begin(Observation(state=np.array([self.now], np.float32)), "go")
        if self.now == 0:
            self._before_s = self.delay / 10
        self.arrive(0 if self.now == 0 else self.now - self.delay)
        target = self.policy.next()
        self.now += 1
        return None if target is None else round(float(target[0]), 4)

    def arrive(self, origin: int) -> None:
        """Plans from `origin` and before are there at once."""
        busy = [f for f in self.policy._busy.values() if f.origin <= origin]
        for flight in busy:
            self.gates[flight.origin].set()
        until(lambda: all(flight.chunk.done() for flight in busy))

    def ticks(self, count: int) -> list[float | None]:
        return [self.tick() for _ in range(count)]

    def close(self) -> None:
        for gate in self.gates.values():
            gate.set()
        self.policy.close()


@pytest.fixture
def driven():
    """Makes drives whose threads end with the test."""
    made = []

    def make(*arguments, **options):
        made.append(Drive(*arguments, **options))
        return made[-1]

    yield make
    for drive in made:
        drive.close()


@pytest.mark.parametrize(("delay", "lanes"), [(0, 1), (1, 1), (3, 1), (5, 1), (6, 2), (7, 3)])
def test_every_tick_has_a_target_as_long_as_plans_come_in_time(driven, delay, lanes):
    drive = driven(delay, lanes=lanes)
    assert drive.ticks(60) == list(range(60))
    assert drive.policy.planning.late == 0


@pytest.mark.parametrize(("delay", "lanes"), [(6, 1), (7, 2), (8, 3)])
def test_beyond_that_there_are_gaps_but_no_jumps(driven, delay, lanes):
    drive = driven(delay, lanes=lanes, blend=3)
    targets = drive.ticks(60)
    gaps = [tick for tick in range(1, 60) if targets[tick] is None]
    assert gaps
    for tick in gaps:
        if tick + 1 in gaps or tick == 59:
            continue
        held = next(target for target in targets[tick::-1] if target is not None)
        assert held < targets[tick + 1] < tick + 1  # on its way to where the plan is


def test_plans_are_made_no_more_often_than_asked_for(driven):
    drive = driven(1, every=4)
    assert drive.ticks(40) == list(range(40))
    (lane,) = drive.lanes
    assert lane.origins == list(range(0, 40, 4))
    assert drive.policy.planning.plans == 10


def test_a_new_plan_takes_over_step_by_step(driven):
    drive = driven(2, blend=3)
    drive.tick()
    drive.lanes[0].lead = 4.0
    leads = [target - tick for tick, target in enumerate(drive.ticks(8), 1)]
    assert leads[:6] == [0, 0, 1, 2, 3.25, 4]  # from tick 5 on the next plan takes over
    assert leads[-1] == 4


def test_what_was_planned_before_an_intervention_is_not_executed_after(driven):
    drive = driven(3)
    drive.ticks(6)
    drive.policy.discard()
    assert drive.ticks(4) == [None] * 4  # the plan under way comes first, at tick 7
    assert drive.ticks(5) == list(range(10, 15))
    assert drive.policy.planning.late == 1


def test_a_plan_that_fails_is_followed_by_another(driven):
    drive = driven(2)
    drive.ticks(2)
    drive.lanes[0].error = ServiceError("away")
    drive.ticks(3)
    drive.lanes[0].error = None
    assert drive.ticks(20) == list(range(5, 25))
    assert drive.policy.planning.failed >= 1


def test_a_plan_of_nonsense_ends_the_episode(driven):
    drive = driven(0)
    drive.tick()
    drive.lanes[0].lead = math.nan
    with pytest.raises(IntegrityError, match="policy version 3 planned"):
        drive.ticks(3)


def test_a_realtime_policy_needs_a_lane():
    with pytest.raises(ValueError, match="at least one policy"):
        RealtimePolicy([], CONTROL)


def test_a_policy_never_plans_two_chunks_at_once(driven):
    drive = driven(2)
    drive.ticks(2)
    (flight,) = drive.policy._busy.values()
    until(flight.chunk.running)
    thread = threading.Thread(target=drive.policy.reset, args=(1,))
    thread.start()
    assert not flight.chunk.done()
    drive.gates[flight.origin].set()
    thread.join(10)
    assert flight.chunk.done()
    assert not drive.policy.ready()


class Gated(PointPolicy):
    """Plans only while the gate is open."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.gate = threading.Event()
        self.gate.set()

    def chunk(self, observation, instruction):
        assert self.gate.wait(10)
        return super().chunk(observation, instruction)


def episode_of(policy, robot, operator=None, **options):
    realtime = RealtimePolicy([policy], robot.control, **options)
    try:
        return run_episode(robot, 7, realtime, operator, kind=Kind.ONLINE)
    finally:
        realtime.close()


def test_the_loop_reaches_the_goal_tick_by_tick():
    robot, policy = PointRobot(camera=True, tick_s=0.02), PointPolicy(version=4)
    episode = episode_of(policy, robot)
    assert (episode.header.outcome, episode.header.policy_version) == (Outcome.SUCCESS, 4)
    assert set(robot.commands) == {1}
    assert policy.planned > 1


def test_without_a_plan_the_robot_holds_and_then_the_episode_is_interrupted():
    robot, policy = PointRobot(tick_s=0.02), Gated(gain=0.5)
    apply = robot.apply

    def closing(chunk):
        if len(robot.commands) == 2:
            policy.gate.clear()
        return apply(chunk)

    robot.apply = closing
    realtime = RealtimePolicy([policy], robot.control, Pace(patience_s=0.5))
    episode = run_episode(robot, 7, realtime, None, kind=Kind.ONLINE)
    policy.gate.set()
    realtime.close()
    assert episode is not None
    assert episode.header.outcome is Outcome.INTERRUPTED
    held = [tick for tick, events in enumerate(episode.events) if HELD in events][-5:]
    assert held == list(range(episode.ticks - 5, episode.ticks))
    assert np.isnan(episode.action_policy[held]).all()
    assert (episode.action[held] == episode.action[held[0] - 1]).all()
    assert robot.stopped == 1


def test_a_robot_that_is_handed_back_holds_until_there_is_a_plan_for_where_it_is():
    robot = PointRobot(tick_s=0.02)
    episode = episode_of(PointPolicy(gain=0.0), robot, Intervening(robot, range(3, 6)))
    human = np.flatnonzero(episode.source == Source.HUMAN)
    assert human.tolist() == [3, 4, 5]
    after = episode.action[6:]
    assert np.array_equal(after[0], episode.action[5])
    assert (np.hypot(*after.T) > 0.15).all()  # never to the origin, as was planned before


def test_the_first_plan_is_waited_for_but_not_for_ever():
    policy = Gated()
    policy.gate.clear()
    with pytest.raises(ServiceError, match=r"made no plan in 0\.05 s"):
        episode_of(policy, PointRobot(), pace=Pace(first_s=0.05))
    policy.gate.set()


def test_a_first_plan_that_fails_is_tried_again(monkeypatch):
    monkeypatch.setattr("lwd.actor.loop.RETRY_S", 0.01)
    policy, answer = PointPolicy(), PointPolicy.chunk
    errors = [ServiceError("away"), ServiceError("away")]

    def chunk(observation, instruction):
        if errors:
            raise errors.pop()
        return answer(policy, observation, instruction)

    policy.chunk = chunk
    assert episode_of(policy, PointRobot(tick_s=0.02)).header.outcome is Outcome.SUCCESS
