"""Best of N: draw chunks from a flow and act with the one that a critic likes most.

With a supervised flow and an expectile critic this is IDQL (Hansen-Estruch et al. 2023) with a flow
for its diffusion model; a critic trained by DIVL serves as well, since only Q is asked. Nothing is
trained, and the policy is never further from the flow than KL = log N - (N - 1) / N.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lwd.algorithms.flow import Metrics, Velocity, euler_sample
from lwd.algorithms.sac import Critic


def best_of_n(
    flow: Velocity,
    critic: Critic,
    noise: Float[Array, "candidates batch horizon action"],
    *,
    steps: int,
    reduce: Literal["mean", "min"] = "mean",
    bound: float = math.inf,
) -> tuple[Float[Array, "batch horizon action"], Metrics]:
    """The candidate of each state with the largest mean or smallest head; the first among equals.

    Metrics are Q of the chosen chunks and what the choice gained over the mean candidate.
    """
    chunks = jax.vmap(lambda z: jnp.clip(euler_sample(flow, z, steps), -bound, bound))(noise)
    heads = jax.vmap(critic)(chunks)
    q = heads.mean(axis=1) if reduce == "mean" else heads.min(axis=1)
    chosen = jnp.take_along_axis(chunks, q.argmax(axis=0)[None, :, None, None], axis=0)[0]
    best = q.max(axis=0).mean(axis=0)
    return chosen, {"actor/q": best, "actor/gain": best - q.mean(axis=(0, 1))}
