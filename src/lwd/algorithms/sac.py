"""Soft actor-critic (Haarnoja et al. 2018): the policy half, for a squashed Gaussian over chunks.

Two extractors train such an actor beside a flow: one edits the flow's actions (`edit`), the other
chooses its noise (`latent`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lwd.algorithms.flow import Chunk, Mask, Metrics

Value = Callable[[Chunk], Float[Array, "batch"]]
"""Q(s, .) of one chunk for each state of a batch."""
Critic = Callable[[Chunk], Float[Array, "critics batch"]]
"""The same by every head."""
LOG_STD = (-20.0, 2.0)
"""Bounds of the logarithm of the standard deviation before the tanh."""


class Squashed(NamedTuple):
    """tanh of an independent Gaussian for every number of a chunk."""

    mean: Float[Array, "batch horizon action"]
    log_std: Float[Array, "batch horizon action"]


def draw(actor: Squashed, noise: Chunk) -> tuple[Chunk, Chunk]:
    """Samples in (-1, 1) made of standard normal `noise`, and the log density of each number.

    log(1 - tanh(u)^2) is written 2 (log 2 - u - softplus(-2 u)), which is finite for every u.
    """
    log_std = jnp.clip(actor.log_std.astype(jnp.float32), *LOG_STD)
    u = actor.mean.astype(jnp.float32) + jnp.exp(log_std) * noise
    gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
    return jnp.tanh(u), gaussian - 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))


def live(mask: Mask, like: Chunk) -> Bool[Array, "batch horizon action"]:
    """`mask` for every number of a chunk; a mask of whole ticks is that of all their dimensions."""
    return jnp.broadcast_to(mask if mask.ndim == 3 else mask[:, :, None], like.shape)


def soft_actor_loss(
    q: Float[Array, "batch"],
    log_prob: Chunk,
    log_coefficient: Float[Array, ""],
    mask: Mask,
    target_entropy: float,
) -> tuple[Float[Array, ""], Metrics]:
    """Maximise Q + coefficient * entropy, and move the coefficient until the entropy is on target.

    `target_entropy` is per number; those where `mask` is False do not count. The coefficient rises
    while the mean entropy is below the target and falls while it is above. Its term and the
    actor's share no gradient, so one optimiser can serve both.
    """
    each = live(mask, log_prob)
    numbers = each.sum(axis=(1, 2), dtype=jnp.float32)
    entropy = -jnp.where(each, log_prob, 0.0).sum(axis=(1, 2))
    coefficient = jnp.exp(log_coefficient)
    actor = -(q + jax.lax.stop_gradient(coefficient) * entropy).mean(axis=0)
    excess = jax.lax.stop_gradient(entropy) - target_entropy * numbers
    return actor + coefficient * excess.mean(axis=0), {
        "actor/loss": actor,
        "actor/q": q.mean(axis=0),
        "actor/entropy": entropy.mean(axis=0) / jnp.maximum(numbers.mean(axis=0), 1.0),
        "actor/coefficient": coefficient,
    }
