"""The trust gate of `lwd.algorithms.gate` on a batch of the learner."""

import jax
from jax import Array

from lwd.algorithms import gate
from lwd.algorithms.flow import Velocity, euler_sample
from lwd.algorithms.qam import CriticGradient
from lwd.algorithms.sac import Critic
from lwd.config import QamConfig
from lwd.learner.loss import Metrics
from lwd.learner.state import Transitions


def trusted(
    gradient: CriticGradient,
    q: Critic,
    velocity: Velocity,
    reference: Velocity,
    batch: Transitions,
    key: Array,
    config: QamConfig,
) -> tuple[CriticGradient, Metrics]:
    """`gradient` where the gate is open, zero elsewhere; as it is where the gate is off.

    Policy and reference start from the same noise; the policy's chunk goes a step of `gate_step`
    along the gradient first, so that a policy that still is the reference can leave it. `key` draws
    the noise.
    """
    if config.gate is None:
        return gradient, {}
    noise = jax.random.normal(key, batch.action.shape)
    ours, theirs = (euler_sample(flow, noise, config.steps) for flow in (velocity, reference))
    ahead = gate.ascend(ours, gradient(ours), batch.action_mask, config.gate_step)
    is_open, metrics = gate.credible_gain(q(ahead), q(theirs), config.gate)
    return gate.gated(gradient, is_open), jax.lax.stop_gradient(metrics)
