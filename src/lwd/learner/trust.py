"""The trust gate of `lwd.algorithms.gate` with the learner's networks."""

import jax
from jax import Array

from lwd.algorithms import gate
from lwd.algorithms.flow import euler_sample
from lwd.algorithms.qam import CriticGradient
from lwd.config import QamConfig
from lwd.learner.heads import judge
from lwd.learner.loss import Metrics
from lwd.learner.state import Nets, TrainState, Transitions
from lwd.models.fns import Params


def trusted(
    gradient: CriticGradient,
    state: TrainState,
    batch: Transitions,
    key: Array,
    nets: Nets,
    config: QamConfig,
) -> tuple[CriticGradient, Metrics]:
    """`gradient` where the gate is open, zero elsewhere; as it is where the gate is off.

    Policy and reference start from the same noise; the policy's chunk goes a step of `gate_step`
    along the gradient first, so that a policy that still is the reference can leave it.
    """
    if config.gate is None:
        return gradient, {}
    noise = jax.random.normal(jax.random.fold_in(key, 1), batch.action.shape)

    def chunks(params: Params) -> Array:
        context = nets.policy.encode(params, batch.inputs)
        return euler_sample(
            lambda a, w: nets.policy.velocity(params, context, a, w), noise, config.steps
        )

    ours, theirs = chunks(state.policy), chunks(state.beta)
    ahead = gate.ascend(ours, gradient(ours), batch.action_mask, config.gate_step)
    q = judge(nets.critic, state, batch.inputs, config)
    is_open, metrics = gate.credible_gain(q(ahead), q(theirs), config.gate)
    return gate.gated(gradient, is_open), jax.lax.stop_gradient(metrics)
