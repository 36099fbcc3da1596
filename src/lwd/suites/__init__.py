"""Robots of other people's simulators: Meta-World, OGBench, LIBERO, and any Gymnasium environment.

Their packages pin versions of MuJoCo that exclude each other, so each suite lives in a virtual
environment of its own (`make suites`), where `lwd suite NAME` runs its robot as a process like any
other: it spools episodes, and the edge client uploads them.
"""

from lwd.suites.gym import Environment, Expert, GymDemonstrator, GymRobot, GymTask
from lwd.suites.rig import SUITES, Suite, choose, load, rig, scores

__all__ = [
    "SUITES",
    "Environment",
    "Expert",
    "GymDemonstrator",
    "GymRobot",
    "GymTask",
    "Suite",
    "choose",
    "load",
    "rig",
    "scores",
]
