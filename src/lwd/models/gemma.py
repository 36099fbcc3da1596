"""Gemma blocks as pi0.5 uses them: a language model, and an expert that reads its keys and values.

The two have blocks of their own (`q_einsum` and `q_einsum_1`, as in openpi's checkpoint). Where the
expert attends to prefix and suffix while the prefix never sees the suffix, the keys and values of
the prefix can be computed once and read in every flow step.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from lwd.models.fns import Params
from lwd.models.layers import attend, dense, gelu_glu, rms, rms_norm, rope, through


@dataclass(frozen=True, kw_only=True)
class GemmaConfig:
    """Sizes of a stack of blocks; the defaults are Gemma-2B's."""

    width: int = 2048
    depth: int = 18
    mlp: int = 16384
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256


class Cache(NamedTuple):
    """Keys and values of the prefix, all blocks, and which of its tokens are there."""

    k: Float[Array, "depth batch tokens kv head"]
    v: Float[Array, "depth batch tokens kv head"]
    valid: Bool[Array, "batch tokens"]


def prefill(
    params: Params,
    tokens: Float[Array, "batch tokens width"],
    valid: Bool[Array, "batch tokens"],
    config: GemmaConfig,
    *,
    unroll: bool = True,
    remat: bool = False,
) -> tuple[Cache, Float[Array, "batch tokens width"]]:
    """Run the prefix through the language model: the cache, and what comes out of its last norm.

    Tokens that are there see one another. Positions count only those, so padding takes none.
    """
    positions = _positions(valid)
    mask = valid[:, :, None] & valid[:, None, :]

    def block(x: Array, layer: Params) -> tuple[Array, tuple[Array, Array]]:
        y = rms_norm(layer["pre_attention_norm"]["scale"], x)
        q, k, v = _project(layer["attn"], "", y, positions, config)
        x = x + _merge(layer["attn"], "", attend(q, k, v, mask))
        y = rms_norm(layer["pre_ffw_norm"]["scale"], x)
        mlp = layer["mlp"]
        return x + gelu_glu(mlp["gating_einsum"], mlp["linear"], y), (k, v)

    layers = _of(params["layers"], "")
    out, (k, v) = through(block, tokens, layers, unroll=unroll, remat=remat)
    return Cache(k, v, valid), rms_norm(params["final_norm"]["scale"], out)


def expert(
    params: Params,
    cache: Cache,
    tokens: Float[Array, "batch suffix width"],
    condition: Float[Array, "batch width"],
    config: GemmaConfig,
    *,
    unroll: bool = True,
    remat: bool = False,
) -> Float[Array, "batch suffix width"]:
    """Run the suffix through the action expert: it sees the prefix and itself.

    `condition` sets scale, shift and gate of every norm (adaRMS). Positions follow the prefix's.
    """
    batch, suffix, _ = tokens.shape
    positions = cache.valid.sum(axis=1)[:, None] + jnp.arange(suffix)[None]
    seen = jnp.concatenate([cache.valid, jnp.ones((batch, suffix), bool)], axis=1)
    mask = jnp.broadcast_to(seen[:, None, :], (batch, suffix, seen.shape[1]))

    def block(x: Array, inputs: tuple[Params, Array, Array]) -> tuple[Array, None]:
        layer, k_prefix, v_prefix = inputs
        y, gate = ada_rms(layer["pre_attention_norm_1"], x, condition)
        q, k, v = _project(layer["attn"], "_1", y, positions, config)
        k, v = (jnp.concatenate(pair, axis=1) for pair in ((k_prefix, k), (v_prefix, v)))
        x = x + gate * _merge(layer["attn"], "_1", attend(q, k, v, mask))
        y, gate = ada_rms(layer["pre_ffw_norm_1"], x, condition)
        mlp = layer["mlp_1"]
        return x + gate * gelu_glu(mlp["gating_einsum"], mlp["linear"], y), None

    layers = (_of(params["layers"], "_1"), cache.k, cache.v)
    out, _ = through(block, tokens, layers, unroll=unroll, remat=remat)
    return ada_rms(params["final_norm_1"], out, condition)[0]


def ada_rms(params: Params, x: Array, condition: Array) -> tuple[Array, Array]:
    """Norm whose scale and shift come from a condition [batch, width], and the residual's gate."""
    modulation = dense(params["Dense_0"], condition.astype(x.dtype))[:, None]
    scale, shift, gate = jnp.split(modulation, 3, axis=-1)
    normed = rms(x) * (1 + scale.astype(jnp.float32)) + shift.astype(jnp.float32)
    return normed.astype(x.dtype), gate


def init_gemma(key: Array, vlm: GemmaConfig, action: GemmaConfig, vocabulary: int) -> Params:
    """Fresh parameters of both. The expert's gates are zero: it starts as the identity."""
    embed, *stacks = jax.random.split(key, 3)
    layers: Params = {"attn": {}}
    for suffix, config, stack in (("", vlm, stacks[0]), ("_1", action, stacks[1])):
        attention, mlp = _init_blocks(stack, config)
        layers["attn"] |= {f"{name}{suffix}": {"w": w} for name, w in attention.items()}
        layers[f"mlp{suffix}"] = mlp
        for norm in ("pre_attention_norm", "pre_ffw_norm"):
            layers[f"{norm}{suffix}"] = _init_norm(config, ada=bool(suffix), depth=config.depth)
    return {
        "embedder": {"input_embedding": jax.random.normal(embed, (vocabulary, vlm.width))},
        "layers": layers,
        "final_norm": _init_norm(vlm, ada=False),
        "final_norm_1": _init_norm(action, ada=True),
    }


def _init_blocks(key: Array, config: GemmaConfig) -> tuple[dict[str, Array], Params]:
    shapes = {
        "q_einsum": ((config.heads, config.width, config.head_dim), config.width),
        "kv_einsum": ((2, config.kv_heads, config.width, config.head_dim), config.width),
        "attn_vec_einsum": (
            (config.heads, config.head_dim, config.width),
            config.heads * config.head_dim,
        ),
        "gating_einsum": ((2, config.width, config.mlp), config.width),
        "linear": ((config.mlp, config.width), config.mlp),
    }
    drawn = {
        name: jax.random.normal(k, (config.depth, *shape)) / jnp.sqrt(float(fan_in))
        for k, (name, (shape, fan_in)) in zip(
            jax.random.split(key, len(shapes)), shapes.items(), strict=True
        )
    }
    mlp = {name: drawn.pop(name) for name in ("gating_einsum", "linear")}
    return drawn, mlp


def _init_norm(config: GemmaConfig, *, ada: bool, depth: int | None = None) -> Params:
    stack = () if depth is None else (depth,)
    if not ada:
        return {"scale": jnp.zeros((*stack, config.width))}
    kernel = jnp.zeros((*stack, config.width, 3 * config.width))
    return {"Dense_0": {"kernel": kernel, "bias": jnp.zeros((*stack, 3 * config.width))}}


def _positions(valid: Bool[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
    return jnp.cumsum(valid, axis=1) - 1


def _of(layers: Params, suffix: str) -> Params:
    """The part of the blocks that belongs to one of the two stacks."""

    def mine(name: str) -> bool:
        return name.endswith("_1") if suffix else not name.endswith("_1")

    kept = {name: part for name, part in layers.items() if mine(name) and name != "attn"}
    return kept | {"attn": {name: w for name, w in layers["attn"].items() if mine(name)}}


def _project(
    params: Params, suffix: str, x: Array, positions: Array, config: GemmaConfig
) -> tuple[Array, Array, Array]:
    """Queries, scaled and turned, and turned keys and values."""
    w_q, w_kv = (
        params[f"{name}{suffix}"]["w"].astype(x.dtype) for name in ("q_einsum", "kv_einsum")
    )
    q = jnp.einsum("btd,ndh->btnh", x, w_q)
    k, v = jnp.einsum("bsd,ckdh->cbskh", x, w_kv)
    q = rope(q, positions) * jnp.asarray(config.head_dim**-0.5, x.dtype)
    return q, rope(k, positions), v


def _merge(params: Params, suffix: str, heads: Array) -> Array:
    w = params[f"attn_vec_einsum{suffix}"]["w"].astype(heads.dtype)
    return jnp.einsum("btnh,nhd->btd", heads, w)
