"""Flow matching (III-C): the straight path from noise (w = 0) to action (w = 1) and its velocity.

openpi counts its time t the other way round: w = 1 - t, and its velocity is the negative of ours.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Chunk = Float[Array, "batch horizon action"]
Velocity = Callable[[Chunk, Float[Array, "batch"]], Chunk]
Mask = Bool[Array, "batch horizon"] | Bool[Array, "batch horizon action"]
Metrics = dict[str, Float[Array, ""]]
END = 0.01
"""Flow time before w = 1 at which the velocity towards a predicted action is cut: 100 Euler steps
do not reach it."""


def interpolate(
    actions: Chunk, noise: Chunk, times: Float[Array, "batch"]
) -> Float[Array, "batch horizon action"]:
    """Point a^w = (1 - w) a^0 + w a^1 of the path, Eq. 7; `times` are the w in [0, 1]."""
    w = times[:, None, None]
    return (1.0 - w) * noise + w * actions


def masked_mean(values: Chunk, mask: Mask) -> Float[Array, ""]:
    """Mean over what is True in `mask`: whole ticks, or single dimensions of them; 0 if nothing.

    A mask [batch, horizon] is that of every action dimension.
    """
    require_mask("mask", mask, values.shape)
    each = mask if mask.ndim == 3 else mask[:, :, None]
    total = jnp.where(each, values, 0.0).sum(axis=(0, 1, 2))
    count = each.sum(axis=(0, 1, 2), dtype=jnp.float32) * (values.shape[2] / each.shape[2])
    return total / jnp.maximum(count, 1.0)


def require_mask(name: str, mask: Array, shape: tuple[int, ...]) -> None:
    """ValueError unless `mask` is that of the ticks, or of all numbers, of chunks of `shape`."""
    if mask.shape not in (shape, shape[:2]):
        raise ValueError(
            f"{name} has shape {mask.shape}; for chunks of shape {shape} it must be {shape[:2]} or "
            f"{shape}."
        )


def velocity_towards(
    predicted: Chunk, a: Chunk, times: Float[Array, "batch"]
) -> Float[Array, "batch horizon action"]:
    """Velocity at a^w = `a` of the straight path that ends in the `predicted` action, Eq. 7 solved
    for a^1 - a^0: (a^1 - a^w) / (1 - w).

    A chunk has many numbers and few degrees of freedom. A network that predicts the action stays
    among them; one that predicts the velocity must also put out all of the noise (x-prediction,
    arXiv 2511.13720). Within `END` of w = 1 the velocity no longer grows.
    """
    return (predicted - a) / jnp.maximum(1.0 - times, END)[:, None, None]


def sft_loss(
    velocity: Velocity,
    actions: Chunk,
    noise: Chunk,
    times: Float[Array, "batch"],
    mask: Mask,
    *,
    of: Literal["velocity", "action"] = "velocity",
) -> tuple[Float[Array, ""], Metrics]:
    """Flow-matching loss, Eq. 34: regress the velocity at a^w on a^1 - a^0.

    `mask` is False where the episode ended inside the chunk or a dimension is padding. The mean
    over dimensions replaces the paper's squared norm: the same minimum, and a scale that does not
    depend on the robot. The loss `of` the action weighs the error at w by (1 - w)^2: it is that of
    the action which the velocity leads to, and has the same minimum for networks that predict it.
    """
    if noise.shape != actions.shape:
        raise ValueError(
            f"noise has shape {noise.shape} for chunks of shape {actions.shape}; "
            f"the two must be equal."
        )
    predicted = velocity(interpolate(actions, noise, times), times).astype(jnp.float32)
    _require_shape("velocity", predicted, actions.shape)
    errors = jnp.square(predicted - (actions - noise))
    if of == "action":
        errors = jnp.square(1.0 - times)[:, None, None] * errors
    loss = masked_mean(errors, mask)
    return loss, {"policy/sft_loss": loss}


def euler_sample(
    velocity: Velocity, noise: Chunk, steps: int
) -> Float[Array, "batch horizon action"]:
    """Action chunks: integrate the velocity from `noise` at w = 0 to w = 1 in equal Euler steps."""
    if steps < 1:
        raise ValueError(
            f"steps is {steps}; without at least 1 the noise itself would be acted on."
        )
    flat = flattened("velocity", velocity, noise.shape)

    def step(a: Array, w: Array) -> tuple[Array, None]:
        return a + flat(a, jnp.full(a.shape[:1], w)).astype(a.dtype) / steps, None

    start = noise.reshape(len(noise), -1)
    actions, _ = jax.lax.scan(step, start, jnp.arange(steps, dtype=jnp.float32) / steps)
    return actions.reshape(noise.shape)


def flattened(
    name: str, velocity: Callable[..., Array], shape: tuple[int, ...]
) -> Callable[..., Array]:
    """A function of chunks as one of their numbers in a row, [batch, horizon * action].

    What is done between its evaluations then has one long axis instead of two short ones: on a CPU
    XLA computes along the last axis, and drawing normal numbers is six times faster with 25 in it
    than with 5. ValueError if the function does not return one number for each of the chunks'.
    """

    def flat(a: Array, *rest: Array) -> Array:
        found = velocity(a.reshape(shape), *rest)
        _require_shape(name, found, shape)
        return found.reshape(a.shape)

    return flat


def _require_shape(name: str, found: Array, shape: tuple[int, ...]) -> None:
    """ValueError unless a function of chunks returned one number for each of theirs."""
    if found.shape != shape:
        raise ValueError(
            f"{name} returned shape {found.shape} for chunks of shape {shape}; "
            f"the two must be equal."
        )
