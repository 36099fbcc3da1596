"""Diffusion steering, DSRL (Wagenmaker et al. 2025): choose the noise of a flow that stays fixed.

This is its noise-aliased form: Q is learned on actions from replay as for every other extractor,
a second critic learns what Q says of the chunk that the flow makes of a noise, and an actor climbs
the second critic. The flow is only ever evaluated, never differentiated, so its weights may be out
of reach. The actor's noise lies in [-bound, bound], where the flow has been trained.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lwd.algorithms.flow import Chunk, Metrics, Velocity, euler_sample
from lwd.algorithms.sac import Critic, Squashed, Value, draw, soft_actor_loss


def noise_critic_loss(
    noise_critic: Critic,
    critic: Critic,
    flow: Velocity,
    noise: Chunk,
    *,
    steps: int,
    action_bound: float = math.inf,
) -> tuple[Float[Array, ""], Metrics]:
    """Regress each head of Q_noise(s, z) on that of Q(s, flow(z)); only `noise_critic` learns.

    `noise` is standard normal: the fit covers the noises that the flow was trained on.
    """
    actions = jnp.clip(euler_sample(flow, noise, steps), -action_bound, action_bound)
    target = jax.lax.stop_gradient(critic(actions).astype(jnp.float32))
    loss = jnp.square(noise_critic(noise).astype(jnp.float32) - target).mean(axis=(0, 1))
    return loss, {"noise_critic/loss": loss}


def steered(
    actor: Squashed, noise: Chunk, *, bound: float
) -> tuple[Float[Array, "batch horizon action"], Float[Array, "batch horizon action"]]:
    """Noise for the flow in [-bound, bound], and the log density of each number before scaling."""
    chosen, log_prob = draw(actor, noise)
    return bound * chosen, log_prob


def noise_actor_loss(
    actor: Squashed,
    log_coefficient: Float[Array, ""],
    noise_q: Value,
    noise: Chunk,
    *,
    bound: float,
    target_entropy: float = -0.5,
) -> tuple[Float[Array, ""], Metrics]:
    """Soft actor-critic on Q_noise, the mean of its heads; `noise` draws the actor's choice.

    There is no mask: no action of the replay enters, and all the noise shapes every live tick.
    """
    chosen, log_prob = steered(actor, noise, bound=bound)
    everything = jnp.ones(noise.shape[:2], bool)
    return soft_actor_loss(noise_q(chosen), log_prob, log_coefficient, everything, target_entropy)
