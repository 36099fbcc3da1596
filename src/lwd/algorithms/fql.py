"""Flow Q-learning, FQL (Park, Li and Levine 2025): a one-step policy instead of a tilted flow.

mu(s, z) maps noise to a chunk in one evaluation. It stays close to where the flow carries the same
noise, and climbs Q; no gradient passes through the flow. With the supervised flow this is FQL; with
a flow that adjoint matching has tilted it is QAM-FQL (Li and Levine 2026).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lwd.algorithms.flow import Chunk, Mask, Metrics, Velocity, euler_sample, masked_mean
from lwd.algorithms.sac import Value, live


def one_step_loss(  # noqa: PLR0913
    one_step: Callable[[Chunk], Chunk],
    flow: Velocity,
    q: Value,
    noise: Chunk,
    mask: Mask,
    *,
    steps: int,
    alpha: float,
    bound: float = math.inf,
) -> tuple[Float[Array, ""], Metrics]:
    """alpha mean |mu(z) - ODE(z)|^2 - mean Q(clip(mu(z))); gradients reach only `one_step`.

    `noise` is z, `steps` those of the ODE, and [-bound, bound] the box of actions that the critic
    knows: the flow's chunks and what Q sees are clipped to it. A larger `alpha` keeps closer to the
    flow; it is measured in units of Q. The distance is a mean over what `mask` says is alive, and Q
    sends no gradient to the rest: ticks after the end of an episode, and dimensions of padding.
    """
    flown = jax.lax.stop_gradient(jnp.clip(euler_sample(flow, noise, steps), -bound, bound))
    actions = one_step(noise).astype(jnp.float32)
    distance = masked_mean(jnp.square(actions - flown), mask)
    alive = jnp.where(live(mask, actions), actions, jax.lax.stop_gradient(actions))
    value = q(jnp.clip(alive, -bound, bound)).mean(axis=0)
    return alpha * distance - value, {
        "actor/loss": alpha * distance - value,
        "actor/distance": distance,
        "actor/q": value,
    }
