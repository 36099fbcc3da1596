import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from lwd.actor.loop import run_episode
from lwd.config import COMPACT
from lwd.episode.types import Kind, Outcome, Source
from lwd.sim.expert import Expert
from lwd.sim.hands import ExpertNoise
from lwd.sim.rig import rig
from lwd.sim.robot import SimRobot


@pytest.mark.parametrize("task", ["restocking", "freezer"])
def test_demonstrations_slip_recover_and_say_which_ticks_were_slips(task):
    parts = rig(Kind.DEMO, [task], COMPACT, robot_id="sim-0")
    robot = parts.robot()
    episodes = []
    for seed in range(8):
        operator = parts.operator(robot, np.random.default_rng(seed))
        episodes.append(run_episode(robot, seed, None, operator, kind=Kind.DEMO))
    sources = np.concatenate([episode.source for episode in episodes])
    assert set(sources) == {Source.EXPERT, Source.PLAY}
    assert 0.02 < np.mean(sources == Source.PLAY) < 0.25
    assert sum(e.header.outcome is Outcome.SUCCESS for e in episodes) >= 6


def test_an_expert_without_slips_never_slips():
    robot = SimRobot("restocking", control=COMPACT)
    robot.reset(0)
    expert = Expert(robot, np.random.default_rng(0), noise=ExpertNoise())
    while robot.apply(expert.act()[None])[-1].status == "running":
        assert not expert.slipping


def slipping_demonstration() -> str:
    """Digest of a freezer episode in which both arms slip."""
    parts = rig(Kind.DEMO, ["freezer"], COMPACT, robot_id="sim-0")
    robot = parts.robot()
    operator = parts.operator(robot, np.random.default_rng(0))
    robot.reset(0)
    operator.wants_control(None)
    for _ in range(80):
        robot.apply(operator.act()[None])
    return hashlib.sha256(robot.observe().state.tobytes()).hexdigest()


def test_a_seed_gives_the_same_episode_in_every_process():
    program = "from tests.sim.test_slips import *; print(slipping_demonstration())"
    found = set()
    for hash_seed in ("0", "1"):  # {"left", "right"} is listed in either order
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        ended = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        found.add(ended.stdout)
    assert len(found) == 1
