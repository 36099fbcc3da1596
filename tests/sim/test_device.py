"""The simulator's expert as the person beside an attended robot."""

import numpy as np
import pytest

from actor.point import PointRobot
from lwd.actor.attended import AttendedRobot
from lwd.actor.devices import device
from lwd.actor.loop import run_episode
from lwd.actor.robot import Task
from lwd.config import COMPACT, StateLayout
from lwd.episode.types import Kind, Source
from lwd.errors import ConfigError
from lwd.sim.device import ExpertDevice
from lwd.sim.robot import SimRobot


class Still:
    """Stays where it is, so that it needs help."""

    version, normalisation_hash, tokenizer_hash = 1, "", ""

    def reset(self, seed):
        pass

    def chunk(self, observation, instruction):
        here = observation.state[StateLayout().joints]
        return np.tile(here, (COMPACT.horizon, 1)).astype(np.float32)


class Short(SimRobot):
    """Gives the policy 10 s."""

    def reset(self, seed: int) -> Task:
        task = super().reset(seed)
        return Task(name=task.name, instruction=task.instruction, time_limit_s=10.0, seed=seed)


def test_the_expert_takes_over_from_a_policy_that_is_stuck():
    robot = Short("restocking", control=COMPACT)
    helper = device("expert:3", robot)
    assert isinstance(helper, ExpertDevice)
    attended = AttendedRobot(robot, helper, StateLayout().joints)
    for seed in (1, 2):
        episode = run_episode(attended, seed, Still(), attended, kind=Kind.ONLINE)
        assert episode is not None
        human = np.flatnonzero(episode.source == Source.HUMAN)
        assert 60 <= human[0] <= 75  # stuck for 6 s, and then the hands must find the controls
        assert "mode:correcting" in episode.events[human[0]]
        moved = np.abs(np.diff(episode.action[human], axis=0)).max()
        assert moved > 0.01


def test_the_expert_helps_simulated_robots_only():
    with pytest.raises(ConfigError, match="not PointRobot"):
        device("expert", PointRobot())


@pytest.mark.parametrize("where", ["abc", "-1", "1.5", "1e3", "²"])
def test_a_seed_that_is_none_is_refused(where):
    with pytest.raises(ConfigError, match=f"seed is '{where}'; .* whole number.*expert:7"):
        device(f"expert:{where}", SimRobot("restocking", control=COMPACT))
