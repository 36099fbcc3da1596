"""Gemma3, the language model of the critic (Gemma3-270M in IV-D).

Four norms to a block, normed queries and keys, and five blocks with a sliding window for each one
that sees everything. Parameters are stacked like Gemma's, under Hugging Face's names for a layer.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from lwd.models.fns import Params
from lwd.models.layers import attend, rms_norm, rope, through

_LOCAL_BASE, _GLOBAL_BASE = 10_000.0, 1_000_000.0
"""Bases of the rotary periods in blocks with a window and in those without."""
_NORMS = (
    *("input_layernorm", "post_attention_layernorm"),
    *("pre_feedforward_layernorm", "post_feedforward_layernorm"),
)


@dataclass(frozen=True, kw_only=True)
class Gemma3Config:
    """Sizes; the defaults are Gemma3-270M's."""

    width: int = 640
    depth: int = 18
    mlp: int = 2048
    heads: int = 4
    kv_heads: int = 1
    head_dim: int = 256
    query_scale: float = 256.0
    """Queries are divided by its square root."""
    vocabulary: int = 262_144
    window: int = 512
    """Tokens that a block with a window looks back, itself included."""
    every: int = 6
    """One block in so many sees everything."""
    causal: bool = True
    """Whether a token sees only those before it. If not, the window reaches to both sides, half of
    it each."""


def gemma3(
    params: Params,
    tokens: Float[Array, "batch tokens width"],
    valid: Bool[Array, "batch tokens"],
    config: Gemma3Config,
    *,
    unroll: bool = True,
    remat: bool = False,
) -> Float[Array, "batch tokens width"]:
    """Embedded tokens through all blocks and the last norm. Padding takes no position."""
    positions = jnp.cumsum(valid, axis=1) - 1
    near, everything = _masks(positions, valid, config)
    is_global = (jnp.arange(config.depth) + 1) % config.every == 0

    def block(x: Array, inputs: tuple[Params, Array]) -> tuple[Array, None]:
        layer, sees_all = inputs
        mask = jnp.where(sees_all, everything, near)
        base = jnp.where(sees_all, _GLOBAL_BASE, _LOCAL_BASE)
        before, after, before_mlp, after_mlp = (layer[name]["weight"] for name in _NORMS)
        y = _attention(layer["self_attn"], rms_norm(before, x), positions, mask, base, config)
        x = x + rms_norm(after, y)
        y = _mlp(layer["mlp"], rms_norm(before_mlp, x))
        return x + rms_norm(after_mlp, y), None

    out, _ = through(block, tokens, (params["layers"], is_global), unroll=unroll, remat=remat)
    return rms_norm(params["norm"]["weight"], out)


def embed(
    params: Params, tokens: Int[Array, "batch tokens"], config: Gemma3Config
) -> Float[Array, "batch tokens width"]:
    """Token embeddings, scaled by the root of the width."""
    table = params["embed_tokens"]["weight"]
    return table[tokens] * jnp.asarray(config.width**0.5, table.dtype)


def init_gemma3(key: Array, config: Gemma3Config) -> Params:
    """Fresh parameters."""
    width, heads = config.width, config.heads * config.head_dim
    kv, mlp = config.kv_heads * config.head_dim, config.mlp
    shapes = {
        "q_proj": (width, heads), "k_proj": (width, kv), "v_proj": (width, kv),
        "o_proj": (heads, width), "gate_proj": (width, mlp), "up_proj": (width, mlp),
        "down_proj": (mlp, width),
    }  # fmt: skip
    embedding, *keys = jax.random.split(key, 1 + len(shapes))
    drawn = {
        name: {"kernel": jax.random.normal(k, (config.depth, *shape)) / shape[0] ** 0.5}
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    per_head = {"weight": jnp.zeros((config.depth, config.head_dim))}
    attention = {name: drawn[name] for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    return {
        "embed_tokens": {
            "weight": jax.random.normal(embedding, (config.vocabulary, width)) * width**-0.5
        },
        "layers": {
            "self_attn": attention | {"q_norm": per_head, "k_norm": per_head},
            "mlp": {name: drawn[name] for name in ("gate_proj", "up_proj", "down_proj")},
            **{name: {"weight": jnp.zeros((config.depth, width))} for name in _NORMS},
        },
        "norm": {"weight": jnp.zeros(width)},
    }


def _masks(
    positions: Int[Array, "batch tokens"], valid: Bool[Array, "batch tokens"], config: Gemma3Config
) -> tuple[Array, Array]:
    """Who sees whom in blocks with a window, and in those without."""
    ahead = positions[:, None, :] - positions[:, :, None]
    there = valid[:, None, :] & valid[:, :, None]
    if config.causal:
        everything = there & (ahead <= 0)
        return everything & (ahead > -config.window), everything
    return there & (jnp.abs(ahead) < config.window // 2 + 1), there


def _attention(
    params: Params, x: Array, positions: Array, mask: Array, base: Array, config: Gemma3Config
) -> Array:
    batch, count, _ = x.shape

    def project(name: str, heads: int) -> Array:
        y = x @ params[name]["kernel"].astype(x.dtype)
        return y.reshape(batch, count, heads, config.head_dim)

    q = rms_norm(params["q_norm"]["weight"], project("q_proj", config.heads))
    k = rms_norm(params["k_norm"]["weight"], project("k_proj", config.kv_heads))
    q = rope(q, positions, base) * jnp.asarray(config.query_scale**-0.5, x.dtype)
    out = attend(q, rope(k, positions, base), project("v_proj", config.kv_heads), mask)
    return out.reshape(batch, count, -1) @ params["o_proj"]["kernel"].astype(x.dtype)


def _mlp(params: Params, x: Array) -> Array:
    gate, up = (x @ params[name]["kernel"].astype(x.dtype) for name in ("gate_proj", "up_proj"))
    gated = jax.nn.gelu(gate, approximate=True) * up
    return gated @ params["down_proj"]["kernel"].astype(x.dtype)
