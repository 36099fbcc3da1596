"""Editing the flow's actions: EXPO (Dong et al. 2025) and QAM-EDIT (Li and Levine 2026).

A squashed Gaussian e(s, a) adds at most `scale` to every number of the flow's chunk a. It is
trained by soft actor-critic, so it climbs Q inside a small box around the flow and nowhere else.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lwd.algorithms.flow import Chunk, Mask, Metrics
from lwd.algorithms.sac import Squashed, Value, draw, live, soft_actor_loss

Editor = Callable[[Chunk], Squashed]
"""The flow's chunk to the distribution of its edit."""


def edited(
    editor: Editor, actions: Chunk, noise: Chunk, *, scale: float, bound: float = math.inf
) -> tuple[Chunk, Chunk]:
    """clip(a + scale e, -bound, bound) for the flow's `actions`, and the log density of each e."""
    edit, log_prob = draw(editor(actions), noise)
    return jnp.clip(actions + scale * edit, -bound, bound), log_prob


def edit_loss(  # noqa: PLR0913
    editor: Editor,
    log_coefficient: Float[Array, ""],
    q: Value,
    actions: Chunk,
    noise: Chunk,
    mask: Mask,
    *,
    scale: float,
    bound: float = math.inf,
    target_entropy: float = -0.5,
) -> tuple[Float[Array, ""], Metrics]:
    """Soft actor-critic on Q(s, a + scale e); gradients reach `editor` and `log_coefficient` only.

    `actions` are the flow's chunks and `noise` draws the edits. `target_entropy` is that of e for
    each number. Numbers where `mask` is False get no gradient of Q and have no entropy.
    """
    actions = jax.lax.stop_gradient(actions)
    chunk, log_prob = edited(editor, actions, noise, scale=scale, bound=bound)
    alive = jnp.where(live(mask, chunk), chunk, jax.lax.stop_gradient(chunk))
    loss, metrics = soft_actor_loss(q(alive), log_prob, log_coefficient, mask, target_entropy)
    return loss, metrics | {"actor/edit": jnp.abs(chunk - actions).mean(axis=(0, 1, 2))}
