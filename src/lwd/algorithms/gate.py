"""A trust gate for policy extraction: follow the critic only where its gain is credible.

The gradient of Q exists everywhere, also where the critic knows nothing about actions: it was
trained on one action for each state, and its heads may disagree about every other one. For each
state the gate asks every head what the policy, moved a small step along the gradient, gains over
the reference from the same noise. Where even the most cautious answer is no clear gain, the adjoint
is set to zero there, so that adjoint matching regresses the policy on the reference's velocity.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lwd.algorithms.flow import Chunk, Mask, Metrics
from lwd.algorithms.qam import CriticGradient


def credible_gain(
    candidate: Float[Array, "critics batch"],
    reference: Float[Array, "critics batch"],
    threshold: float,
) -> tuple[Bool[Array, "batch"], Metrics]:
    """Where the smallest head's gain exceeds `threshold` times the heads' standard deviation.

    `candidate` and `reference` are Q of the proposed and of the reference's chunks by every head.
    What a head is wrong about in both cancels. A gain of exactly zero is not credible; with one
    head there is no disagreement and every positive gain is.
    """
    gain = jax.lax.stop_gradient(candidate - reference).astype(jnp.float32)
    smallest = gain.min(axis=0)
    is_open = smallest > threshold * gain.std(axis=0)
    return is_open, {
        "policy/gate_open": is_open.mean(axis=0, dtype=jnp.float32),
        "policy/gain": smallest.mean(axis=0),
    }


def ascend(
    actions: Chunk, gradient: Chunk, mask: Mask, length: float
) -> Float[Array, "batch horizon action"]:
    """Chunks moved along their gradient by `length`, the root mean square over live numbers.

    Where `mask` is False the episode was over or a dimension is padding: nothing moves there. Nor
    does a chunk without a gradient.
    """
    live = jnp.broadcast_to(mask if mask.ndim == 3 else mask[:, :, None], actions.shape)
    gradient = jnp.where(live, gradient.astype(jnp.float32), 0.0)
    numbers = jnp.maximum(live.sum(axis=(1, 2)), 1)
    size = jnp.sqrt(jnp.square(gradient).sum(axis=(1, 2)) / numbers)
    scale = jnp.where(size > 0, length / jnp.where(size > 0, size, 1.0), 0.0)
    return actions + scale[:, None, None] * gradient


def gated(critic_gradient: CriticGradient, is_open: Bool[Array, "batch"]) -> CriticGradient:
    """The critic's action gradient where the gate is open, zero elsewhere."""
    return lambda actions: jnp.where(is_open[:, None, None], critic_gradient(actions), 0.0)
