"""A simulated robot with its operator and its policy, ready for `lwd.actor.process`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lwd.actor.metronome import Metronome
from lwd.actor.operator import Demonstration, Operator
from lwd.actor.process import Rig
from lwd.actor.recorder import Recording
from lwd.actor.robot import Robot
from lwd.config import BLIND, ControlConfig, SightConfig
from lwd.config.fleet import UNTROUBLED, DisturbanceConfig
from lwd.episode.types import Kind
from lwd.serve.policies import flows
from lwd.sim.expert import Expert
from lwd.sim.hands import ExpertNoise, Faults
from lwd.sim.operator import SimOperator
from lwd.sim.robot import SimRobot
from lwd.sim.trouble import TroubledRobot

DEMO_NOISE = ExpertNoise(pace=(0.9, 1.1), slips_hz=0.25, slip_opens=0.15)
"""A practised demonstrator with a steady pace who slips now and then. The policy imitates how they
recover; the critic sees what a slip costs, and so learns to tell good actions from bad ones."""
PLAY_FAULTS = Faults(offset_grasp=0.5, early_release=0.4, wrong_item=0.3)
"""How often play explores a failure on purpose."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """How a robot is equipped and what befalls it."""

    sight: SightConfig = BLIND
    tokenizer: str = ""
    """As `lwd.models.artifact.unpack` has it."""
    speed: float | None = None
    """Robot seconds per second; None is as fast as possible."""
    disturbance: DisturbanceConfig = UNTROUBLED


def rig(
    kind: Kind,
    tasks: Sequence[str],
    control: ControlConfig,
    *,
    robot_id: str,
    held_out: bool = False,
    intervene: bool = True,
    circumstances: Circumstances = Circumstances(),
) -> Rig:
    """Parts of a simulated robot that records episodes of `kind`.

    Experts demonstrate and play; nobody watches a rollout; online, unless `intervene` is False, a
    simulated human takes over when the policy is stuck.
    """

    sight, speed = circumstances.sight, circumstances.speed

    def robot() -> Robot:
        pace = None
        if speed is not None:  # patient enough to catch up with what plans and pictures take
            pace = Metronome(1 / (control.rate_hz * speed), control.horizon)
        made = SimRobot(
            tuple(tasks),
            control=control,
            robot_id=robot_id,
            held_out=held_out,
            cameras=sight.cameras,
            image_size=sight.image_size,
            pace=pace,
        )
        made.image_every = sight.image_every
        if circumstances.disturbance == UNTROUBLED:
            return made
        return TroubledRobot(made, circumstances.disturbance)

    def operator(on: Robot, rng: np.random.Generator) -> Operator:
        on = on.inner if isinstance(on, TroubledRobot) else on
        assert isinstance(on, SimRobot)
        if kind is Kind.ONLINE:
            return SimOperator(on, rng)
        faults = PLAY_FAULTS if kind is Kind.PLAY else None
        return Demonstration(partial(Expert, on, rng, noise=DEMO_NOISE, faults=faults))

    alone = kind is Kind.ROLLOUT or (kind is Kind.ONLINE and not intervene)
    acts = kind in (Kind.ROLLOUT, Kind.ONLINE)
    return Rig(
        robot=robot,
        operator=None if alone else operator,
        build=flows(control, circumstances.tokenizer) if acts else None,
        recording=Recording(held_out=held_out, image_every=sight.image_every),
    )
