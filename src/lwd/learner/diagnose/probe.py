"""A look at the critic while it trains: a small part of the diagnosis, on rows of a batch.

The rows were trained on, so only changes over time mean much; `lwd diagnose critic` measures on
episodes that were not. Nothing here changes a parameter or draws from the learner's keys.
"""

import jax
import jax.numpy as jnp
from jax import Array

from lwd.algorithms.flow import euler_sample
from lwd.config import StageConfig
from lwd.learner.loss import Metrics
from lwd.learner.state import Nets, TrainState, Transitions
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Params

ROWS = 32
"""Rows of the batch that are looked at: a hundredth of what an update costs, now and then."""
NOISE = 0.3
"""Standard deviation of the noise on an executed chunk, normalised units."""


def probe(
    state: TrainState, batch: Transitions, key: Array, *, nets: Nets, stage: StageConfig
) -> Metrics:
    """Ranking, spread, gain and slope of Q at some rows of a batch.

    `beats_noise` and `beats_shuffled`: how often Q prefers the recorded chunk to itself with noise
    and to that of another row. `in_state` and `over_states`: standard deviations of Q over the
    policy's chunks in one state, and over states. `gain`: Q of the policy's chunks minus Q of the
    reference's from the same noise. `slope`: mean norm of dQ/da at the policy's chunks.
    """
    batch = jax.tree.map(lambda x: x[:ROWS], batch)
    params = state.q if stage.qam.critic_gradient.startswith("online") else state.target_q
    least = stage.qam.critic_gradient.endswith("min")
    key_noise, key_first, key_second = jax.random.split(key, 3)

    def q(a: Array) -> Array:
        heads = nets.critic.q(params, batch.inputs, a)
        return heads.min(0) if least else heads.mean(0)

    def chunks(theta: Params, key: Array) -> Array:
        context = nets.policy.encode(theta, batch.inputs)
        noise = jax.random.normal(key, batch.action.shape)
        return euler_sample(
            lambda a, w: nets.policy.velocity(theta, context, a, w), noise, FLOW_STEPS
        )

    executed, whole = q(batch.action), batch.action_mask.all(1)
    noisy = batch.action + NOISE * jax.random.normal(key_noise, batch.action.shape)
    ours = chunks(state.policy, jax.random.clone(key_first))
    first, second = q(ours), q(chunks(state.policy, key_second))
    gain = first - q(chunks(state.reference, key_first))
    variance = jnp.square(first - second) / 2
    mean = (first + second) / 2
    slope = jax.grad(lambda a: q(a).sum())(ours)
    over = jnp.maximum(mean.var() - variance.mean() / 2, 0.0)
    return {
        "probe/beats_noise": _preferred(executed, q(noisy), whole),
        "probe/beats_shuffled": _preferred(executed, q(jnp.roll(batch.action, 1, 0)), whole),
        "probe/in_state": jnp.sqrt(variance.mean()),
        "probe/over_states": jnp.sqrt(over),
        "probe/gain": gain.mean(),
        "probe/slope": jnp.sqrt(jnp.square(slope).sum((1, 2))).mean(),
    }


def _preferred(executed: Array, other: Array, whole: Array) -> Array:
    """Part of the whole chunks that Q prefers, a tie being half; a half where there is none."""
    wins = jnp.where(executed > other, 1.0, 0.0) + jnp.where(executed == other, 0.5, 0.0)
    count = whole.sum()
    return jnp.where(count > 0, jnp.where(whole, wins, 0.0).sum() / jnp.maximum(count, 1), 0.5)
