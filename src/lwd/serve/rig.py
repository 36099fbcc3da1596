"""A robot's rig with another's policy server, real-time chunking and a person's device."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from lwd.actor.attended import AttendedRobot
from lwd.actor.devices import device
from lwd.actor.operator import Operator
from lwd.actor.policy import Policy
from lwd.actor.process import Rig
from lwd.actor.realtime import Pace, RealtimePolicy
from lwd.actor.robot import Robot
from lwd.config import ControlConfig
from lwd.config.guidance import PAGE, GuidanceConfig

MakeOperator = Callable[[Robot, np.random.Generator], Operator]


def guided(
    rig: Rig,
    guidance: GuidanceConfig,
    control: ControlConfig,
    *,
    robot_id: str,
    joints: Sequence[int],
    stop: threading.Event | None = None,
) -> Rig:
    """The rig as `guidance` says. By default a person may take over from the fleet's page a robot
    in which a policy acts.

    `joints` is where in the state the measured value of every action dimension is; `stop` ends a
    robot's pause when its process ends.
    """
    if guidance.policy_url:
        rig = replace(rig, policies=lambda: _elsewhere(guidance, control, robot_id, stop))
    if guidance.lanes:
        # One for each policy, not for each episode: lanes keep their connections.
        rig = replace(
            rig,
            around=lru_cache(maxsize=1)(
                lambda policy: _realtime(policy, guidance, control, robot_id, stop)
            ),
        )
    on_page = guidance.device.partition(":")[0] == PAGE
    acts = rig.build is not None or rig.policies is not None
    if guidance.device and (acts or not on_page):
        make, helper = rig.robot, rig.operator if on_page else None
        rig = replace(
            rig,
            robot=lambda: _attended(make(), guidance.device, joints, stop),
            operator=lambda robot, rng: _beside(robot, rng, helper),
        )
    return rig


def _attended(
    robot: Robot, name: str, joints: Sequence[int], stop: threading.Event | None
) -> AttendedRobot:
    return AttendedRobot(robot, device(name, robot), joints, stop=stop)


def _beside(robot: Robot, rng: np.random.Generator, helper: MakeOperator | None) -> Operator:
    """The person beside an attended robot, who may have somebody else to help."""
    assert isinstance(robot, AttendedRobot)
    robot.helper = helper and helper(robot.inner, rng)
    return robot


def _realtime(
    policy: Policy,
    guidance: GuidanceConfig,
    control: ControlConfig,
    robot_id: str,
    stop: threading.Event | None,
) -> Policy:
    # The client is imported late: a robot that acts with the fleet's weights needs no websockets.
    lanes = [policy]
    if guidance.lanes > 1:
        from lwd.serve.client import RemotePolicy

        server = _server(guidance, robot_id)
        more = range(1, guidance.lanes)
        lanes += [RemotePolicy(server, control, lane=lane, stop=stop) for lane in more]
    return RealtimePolicy(lanes, control, Pace(blend=guidance.blend))


def _elsewhere(
    guidance: GuidanceConfig, control: ControlConfig, robot_id: str, stop: threading.Event | None
):
    from lwd.serve.client import Elsewhere, RemotePolicy

    return Elsewhere(RemotePolicy(_server(guidance, robot_id), control, stop=stop))


def _server(guidance: GuidanceConfig, robot_id: str):
    from lwd.serve.client import Server

    return Server(
        url=guidance.policy_url,
        layout=guidance.layout,
        key=os.environ.get("LWD_POLICY_KEY", ""),
        robot=robot_id,
    )
