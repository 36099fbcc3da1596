"""Q against outcomes: statistics by hand, and real continuations in the simulator."""

from dataclasses import replace

import numpy as np
import pytest

from learner.diagnose.known import trained
from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.eval.evaluate import Starts
from lwd.eval.true_ranking import Effort, Trial, agreement, pairs, rank_correlation, try_chunks
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST


def test_pairs_count_what_q_orders_as_the_outcomes_do():
    outcomes = np.array([0.0, 0.5, 1.0])
    assert pairs(np.array([1.0, 2.0, 3.0]), outcomes) == (3.0, 3.0)
    assert pairs(np.array([3.0, 2.0, 1.0]), outcomes) == (0.0, 3.0)
    assert pairs(np.array([1.0, 1.0, 0.0]), outcomes) == (0.5, 3.0)
    assert pairs(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0])) == (2.0, 2.0)


def test_rank_correlation_shares_the_ranks_of_ties():
    assert rank_correlation(np.array([1.0, 5, 9]), np.array([0.1, 0.2, 7])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 5, 9]), np.array([7, 0.2, 0.1])) == pytest.approx(-1)
    # ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3
    found = rank_correlation(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4]))
    assert found == pytest.approx(4.5 / np.sqrt(4.5 * 5.0))
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


def test_a_critic_that_is_right_agrees_with_outcomes_that_repeat(rng):
    trials = []
    for episode in range(6):
        worth = rng.normal(size=8)
        trials.append(
            Trial(episode=episode, q=2 * worth - 1, returns=worth[:, None].repeat(4, axis=1))
        )
    found = agreement(trials)
    assert found.continuations == 6 * 8 * 4
    assert found.across.value == pytest.approx(1.0)
    for one in found.agreements:
        assert (one.states, one.decided) == (6, 6)
        assert one.accuracy.value == one.correlation.value == 1.0
        assert one.repeatability.value == pytest.approx(1.0)


def test_states_in_which_nothing_differs_do_not_count():
    same = Trial(episode=0, q=np.arange(4.0), returns=np.ones((4, 2)))
    wrong = Trial(episode=1, q=np.arange(4.0), returns=-np.arange(4.0)[:, None].repeat(2, axis=1))
    policy, both = agreement([same, wrong]).agreements
    assert (policy.states, policy.decided, both.decided) == (2, 1, 1)
    assert both.accuracy.value == 0.0
    assert both.correlation.value == pytest.approx(-1.0)


class Still:
    """A policy that rests; it notes the seeds of its episodes."""

    version, normalisation_hash, tokenizer_hash = 1, "", ""

    def __init__(self):
        self.seeds = []

    def reset(self, seed):
        self.seeds.append(seed)

    def chunk(self, observation, instruction):
        return np.tile(REST, (COMPACT.horizon, 1)).astype(np.float32)


def test_chunks_are_executed_from_the_same_state_and_q_is_asked_there():
    made = []

    def robot(task):
        found = SimRobot(task, control=COMPACT, held_out=True)
        found._specs = [replace(spec, time_limit_s=3.0) for spec in found._specs]
        made.append(found)
        return found

    policy, effort = Still(), Effort(states=2, chunks=4, continuations=2)
    starts = Starts(tasks=("restocking",), episodes=1)
    trials = try_chunks(trained(), policy, starts, effort, robot=robot)
    assert [trial.q.shape for trial in trials] == [(4,), (4,)]
    assert all((trial.returns == 0).all() and trial.returns.shape == (4, 2) for trial in trials)
    assert made[0].status is Status.TIMEOUT
    played, *continued = policy.seeds
    assert played == starts.scenes()[0][1]
    assert len(continued) == 2 * 4 * 2
    for first in (0, 8):  # the same two noises after every chunk of a state
        assert continued[first : first + 8] == 4 * continued[first : first + 2]
    # Q is by_state * s_0 here: the same for all chunks of a state.
    assert all(np.ptp(trial.q) == 0 for trial in trials)
    assert trials[0].q[0] != trials[1].q[0]
