"""A look at the critic while it trains: a small part of the diagnosis, on rows of a batch.

The rows were trained on, so only changes over time mean much; `lwd diagnose critic` measures on
episodes that were not. Nothing here changes a parameter or draws from the learner's keys.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from lwd.config import StageConfig
from lwd.learner import heads
from lwd.learner.loss import HowToAct, Metrics, plainly
from lwd.learner.state import Nets, TrainState, Transitions
from lwd.models.acts import Acting, Parts, act_of
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Inputs

ROWS = 16
"""Rows of the batch that are looked at."""
SAMPLES = 2
"""Chunks of the policy and of the reference in each state."""
NOISE = 0.3
"""Standard deviation of the noise on an executed chunk, normalised units."""


def probe(
    state: TrainState,
    batch: Transitions,
    key: Array,
    *,
    nets: Nets,
    stage: StageConfig,
    acting: HowToAct = plainly,
) -> Metrics:
    """Ranking, spread, gain and slope of Q at some rows of a batch.

    `beats_noise` and `beats_shuffled`: how often Q prefers the recorded chunk to itself with noise
    and to that of another row. `in_state` and `over_states`: standard deviations of Q over the
    policy's chunks in one state, and over states. `gain`: Q of the policy's chunks minus Q of the
    reference's from the same noise. `slope`: mean norm of dQ/da at the policy's chunks.
    These are what a robot makes with `acting`.
    """
    batch = jax.tree.map(lambda x: x[:ROWS], batch)
    key_noise, key_chunk = jax.random.split(key)

    def q(a: Array) -> Array:
        """[kinds, rows] of chunks [kinds, rows, horizon, action]."""
        worth = heads.worth(nets.critic, state, _often(batch.inputs, len(a)), stage.qam)
        return worth(a.reshape(-1, *a.shape[2:])).reshape(a.shape[:2])

    how = acting(state.networks, stage)
    draws = act_of(how.act).draws(how.settings)
    noise = jax.random.normal(key_chunk, (draws, SAMPLES, *batch.action.shape))
    ours, theirs = _chunks(state, batch.inputs, noise, nets, how)
    noisy = batch.action + NOISE * jax.random.normal(key_noise, batch.action.shape)
    recorded = jnp.stack([batch.action, noisy, jnp.roll(batch.action, 1, 0)])
    scores = q(jnp.concatenate([recorded, ours, theirs]))
    executed, other, shuffled = scores[:3]
    policy, reference = scores[3 : 3 + SAMPLES], scores[3 + SAMPLES :]
    variance, slope = policy.var(0, ddof=1).mean(), jax.grad(lambda a: q(a).sum())(ours[:1])
    over = policy.mean(0).var() - variance / SAMPLES
    mask = batch.action_mask  # which has an axis for dimensions where some are padding
    whole = (mask if mask.ndim == 2 else mask.any(2)).all(1)
    return {
        "probe/beats_noise": _preferred(executed, other, whole),
        "probe/beats_shuffled": _preferred(executed, shuffled, whole),
        "probe/in_state": jnp.sqrt(variance),
        "probe/over_states": jnp.sqrt(jnp.maximum(over, 0.0)),
        "probe/gain": (policy - reference).mean(),
        "probe/slope": jnp.sqrt(jnp.square(slope).sum((2, 3))).mean(),
    }


def _chunks(
    state: TrainState, inputs: Inputs, noise: Array, nets: Nets, acting: Acting
) -> tuple[Array, Array]:
    """The robot's chunks and the reference's from `noise` [draws, samples, rows, horizon, action]:
    both [samples, rows, horizon, action]."""
    draws, samples, rows, *chunk = noise.shape
    parts = Parts(
        policy=nets.policy,
        critic=nets.critic,
        params=state.policy,
        extra=acting.extra,
        inputs=_often(inputs, samples),
        steps=FLOW_STEPS,
    )
    noise = noise.reshape(draws, samples * rows, *chunk)
    ours = act_of(acting.act).sample(parts, noise, acting.settings)
    theirs = replace(parts, params=state.beta).flow(noise[0])
    shape = (samples, rows, *chunk)
    return ours.reshape(shape), theirs.reshape(shape)


def _often(inputs: Inputs, times: int) -> Inputs:
    """The same rows `times` times, one after another."""
    return jax.tree.map(lambda x: jnp.concatenate([x] * times), inputs)


def _preferred(executed: Array, other: Array, whole: Array) -> Array:
    """Part of the whole chunks that Q prefers, a tie being half; a half where there is none."""
    wins = jnp.where(executed > other, 1.0, 0.0) + jnp.where(executed == other, 0.5, 0.0)
    count = whole.sum()
    return jnp.where(count > 0, jnp.where(whole, wins, 0.0).sum() / jnp.maximum(count, 1), 0.5)
