"""What `lwd robot` makes of its flags about guidance."""

import threading

import numpy as np
import pytest

from actor.point import CONTROL, PointPolicy, PointRobot
from lwd.actor.attended import AttendedRobot
from lwd.actor.devices.fed import FedDevice
from lwd.actor.devices.page import PageDevice
from lwd.actor.ledger import Ledger
from lwd.actor.process import Rig, run
from lwd.actor.realtime import RealtimePolicy
from lwd.config import ActorConfig
from lwd.config.guidance import GuidanceConfig
from lwd.edge.spool import Spool
from lwd.episode.payload import decode
from lwd.episode.types import Outcome
from lwd.errors import ConfigError
from lwd.serve.rig import guided
from serve.point import GoalPolicy


class Someone:
    """An operator who always helps."""

    def wants_control(self, tick) -> bool:
        return True

    def act(self) -> np.ndarray:
        return np.ones(2, np.float32)


def guide(rig: Rig, **settings) -> Rig:
    return guided(rig, GuidanceConfig(**settings), CONTROL, robot_id="arm", joints=(0, 1))


def test_who_acts_without_a_policy_needs_nobody():
    rig = Rig(robot=PointRobot)
    assert guide(rig) is rig


def test_by_default_a_person_may_take_over_from_the_page_and_the_helper_stays():
    made = []

    def helper(robot, rng):
        made.append(robot)
        return Someone()

    rig = guide(
        Rig(robot=PointRobot, operator=helper, build=lambda *_: PointPolicy()), device="page:2"
    )
    robot = rig.robot()
    assert isinstance(robot, AttendedRobot)
    assert isinstance(robot.device, PageDevice)
    assert rig.operator is not None
    assert rig.operator(robot, np.random.default_rng(0)) is robot
    assert made == [robot.inner]
    robot.reset(1)
    assert robot.wants_control(None)
    assert robot.act().tolist() == [1, 1]


def test_a_process_acts_with_a_server_over_several_lanes(serving, tmp_path):
    rig = guide(
        Rig(robot=lambda: PointRobot(tick_s=0.02)),
        policy_url=serving(GoalPolicy(4)),
        lanes=2,
        device="",
    )
    assert rig.policies is not None
    actor = ActorConfig(robot="arm", kind="online", episodes=2)
    with Ledger(tmp_path / "l", "arm") as ledger, Spool(tmp_path / "s" / "arm") as spool:
        policies = rig.policies()
        run(actor, rig, ledger, spool, policies, threading.Event())
        headers = [decode(spool.path(episode)).header for episode in spool.pending()]
    policy = policies.swap()
    assert policy is not None
    policy.close()
    assert [header.outcome for header in headers] == [Outcome.SUCCESS] * 2
    assert {header.policy_version for header in headers} == {4}


def test_a_local_policy_can_plan_ahead():
    rig = guide(Rig(robot=PointRobot), lanes=1, device="")
    assert rig.around is not None
    policy = PointPolicy()
    assert isinstance(rig.around(policy), RealtimePolicy)
    assert rig.around(policy) is rig.around(policy)  # its lanes keep their connections
    assert rig.around(PointPolicy()) is not rig.around(policy)


def test_a_device_makes_an_attended_robot(monkeypatch):
    asked = []

    def device(name, robot):
        asked.append((name, robot.robot_id))
        return FedDevice()

    monkeypatch.setattr("lwd.serve.rig.device", device)
    rig = guide(Rig(robot=PointRobot), device="pedal:2")
    robot = rig.robot()
    assert isinstance(robot, AttendedRobot)
    assert asked == [("pedal:2", "point-0")]
    assert rig.operator is not None
    assert rig.operator(robot, np.random.default_rng(0)) is robot


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"lanes": -1}, "lanes is -1"), ({"lanes": 2}, "has one"), ({"blend": -1}, "blend is -1")],
)
def test_guidance_that_makes_no_sense_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        GuidanceConfig(**settings)
