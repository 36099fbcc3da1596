"""Layers that Gemma, SigLIP and the critic share; each says which numbers are float32.

Matrix products run in the dtype of their input; weights are cast to it. Norms, rotary angles,
attention logits and their softmax are float32.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from lwd.models.fns import Params

MASKED = -2.3819763e38
"""Logit of what must not be attended to, as in Gemma; a row of nothing else averages evenly."""


def lift(v: Array, x: Array) -> Array:
    """`v` in the dtype of `x`, with axes of length one in front until it has as many."""
    return v.astype(x.dtype).reshape((1,) * (x.ndim - v.ndim) + v.shape)


def dense(params: Params, x: Array) -> Array:
    """x @ kernel + bias; kernel [in, out], bias [out] may be absent."""
    y = x @ params["kernel"].astype(x.dtype)
    return y + lift(params["bias"], y) if "bias" in params else y


def rms(x: Float[Array, "... width"]) -> Float[Array, "... width"]:
    """x over its root mean square in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def rms_norm(scale: Float[Array, " width"], x: Array) -> Array:
    """Gemma's RMSNorm: the learned scale is stored as its difference from 1."""
    y = rms(x)
    return (y * (1 + lift(scale, y))).astype(x.dtype)


def layer_norm(params: Params, x: Array) -> Array:
    """LayerNorm with eps 1e-6, in float32."""
    y = x.astype(jnp.float32)
    y = y - y.mean(axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 1e-6)
    return (y * lift(params["scale"], y) + lift(params["bias"], y)).astype(x.dtype)


def rope(
    x: Float[Array, "batch tokens heads head"],
    positions: Int[Array, "batch tokens"],
    base: float | Array = 10_000.0,
) -> Float[Array, "batch tokens heads head"]:
    """Rotary position embedding of the two halves of a head, computed in float32."""
    half = x.shape[-1] // 2
    period = jnp.asarray(base, jnp.float32) ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) / period[None, None, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def attend(
    q: Float[Array, "batch queries heads head"],
    k: Float[Array, "batch keys kv head"],
    v: Float[Array, "batch keys kv head"],
    mask: Bool[Array, "batch queries keys"],
) -> Float[Array, "batch queries heads head"]:
    """Grouped-query attention; `q` is already scaled. Heads of a group share their keys.

    The heads of a group are rows of one product: with one key head that is a plain matrix product.
    """
    batch, queries, heads, head = q.shape
    groups = k.shape[2]
    rows = q.reshape(batch, queries, groups, heads // groups, head).transpose(0, 2, 1, 3, 4)
    rows = rows.reshape(batch, groups, -1, head)
    logits = jnp.einsum("bgrh,bsgh->bgrs", rows, k, preferred_element_type=jnp.float32)
    logits = logits.reshape(batch, groups, queries, heads // groups, -1)
    logits = jnp.where(mask[:, None, :, None], logits, MASKED)
    share = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
    share = share.reshape(batch, groups, queries * (heads // groups), -1)
    out = jnp.einsum("bgrs,bsgh->bgrh", share, v)
    out = out.reshape(batch, groups, queries, heads // groups, head).transpose(0, 2, 1, 3, 4)
    return out.reshape(batch, queries, heads, head)


def gelu_glu(gating: Float[Array, "2 width hidden"], linear: Array, x: Array) -> Array:
    """Gemma's gated MLP: (gelu(x g0) * (x g1)) @ linear, gelu by tanh."""
    gate, up = (x @ g.astype(x.dtype) for g in gating)
    return (jax.nn.gelu(gate, approximate=True) * up) @ linear.astype(x.dtype)


def through(
    block: Callable[[Any, Any], tuple[Any, Any]],
    start: Any,
    layers: Params,
    *,
    unroll: bool,
    remat: bool,
) -> tuple[Any, Any]:
    """Carry `start` through blocks whose parameters are stacked on their first axis.

    `block` maps (carry, layer) to (carry, output). Unrolled is faster on CPUs, scanned compiles
    faster; `remat` keeps only what goes from block to block for the backward pass.
    """
    if remat:
        block = jax.checkpoint(block, prevent_cse=False)
    depth = len(jax.tree.leaves(layers)[0])
    return jax.lax.scan(block, start, layers, unroll=depth if unroll else 1)
