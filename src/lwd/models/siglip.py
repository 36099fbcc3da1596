"""SigLIP: a vision transformer whose patches are tokens (So400m/14 in pi0.5 and in the critic).

Parameters are keyed as in openpi's checkpoint: `embedding`, `pos_embedding`, `Transformer`, `head`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from lwd.models.fns import Params
from lwd.models.layers import attend, dense, layer_norm, lift, through


@dataclass(frozen=True, kw_only=True)
class SiglipConfig:
    """Sizes of the tower; the defaults are So400m/14 at 224 px."""

    width: int = 1152
    depth: int = 27
    mlp: int = 4304
    heads: int = 16
    patch: int = 14
    """Side of a patch, px."""
    image: int = 224
    """Side of an image, px."""

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (self.image // self.patch) ** 2


def siglip(
    params: Params,
    images: Float[Array, "batch height width 3"],
    config: SiglipConfig,
    *,
    dtype: jnp.dtype = jnp.float32,
    unroll: bool = True,
    remat: bool = False,
) -> Float[Array, "batch tokens out"]:
    """Images in [-1, 1] to tokens, through `head` where there is one.

    Patch embedding and positions are float32, as in the released models; the rest runs in `dtype`.
    """
    x = _patches(params["embedding"], images, config)
    x = x + params["pos_embedding"].astype(jnp.float32)
    transformer = params["Transformer"]

    def block(x: Array, layer: Params) -> tuple[Array, None]:
        x = x + _attention(
            layer["MultiHeadDotProductAttention_0"], layer_norm(layer["LayerNorm_0"], x)
        )
        mlp, y = layer["MlpBlock_0"], layer_norm(layer["LayerNorm_1"], x)
        hidden = jax.nn.gelu(dense(mlp["Dense_0"], y), approximate=True)
        return x + dense(mlp["Dense_1"], hidden), None

    x, _ = through(block, x.astype(dtype), transformer["encoderblock"], unroll=unroll, remat=remat)
    x = layer_norm(transformer["encoder_norm"], x)
    return dense(params["head"], x) if "head" in params else x


def init_siglip(key: Array, config: SiglipConfig, out: int | None) -> Params:
    """Fresh parameters; `out` is the width of `head`, None for no head."""
    names = ("patch", "position", "query", "key", "value", "out", "up", "down", "head")
    keys: dict[str, Array] = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    width, mlp, depth, heads = config.width, config.mlp, config.depth, config.heads
    head = width // heads

    def normal(name: str, shape: tuple[int, ...], fan_in: int) -> Array:
        return jax.random.normal(keys[name], shape) / jnp.sqrt(float(fan_in))

    def project(name: str) -> Params:
        kernel = normal(name, (depth, width, heads, head), width)
        return {"kernel": kernel, "bias": jnp.zeros((depth, heads, head))}

    norm = {"scale": jnp.ones((depth, width)), "bias": jnp.zeros((depth, width))}
    side = config.patch
    params = {
        "embedding": {
            "kernel": normal("patch", (side, side, 3, width), 3 * side * side),
            "bias": jnp.zeros(width),
        },
        "pos_embedding": normal("position", (1, config.tokens, width), width),
        "Transformer": {
            "encoderblock": {
                "LayerNorm_0": norm,
                "LayerNorm_1": norm,
                "MlpBlock_0": {
                    "Dense_0": {
                        "kernel": normal("up", (depth, width, mlp), width),
                        "bias": jnp.zeros((depth, mlp)),
                    },
                    "Dense_1": {
                        "kernel": normal("down", (depth, mlp, width), mlp),
                        "bias": jnp.zeros((depth, width)),
                    },
                },
                "MultiHeadDotProductAttention_0": {
                    **{name: project(name) for name in ("query", "key", "value")},
                    "out": {
                        "kernel": normal("out", (depth, heads, head, width), width),
                        "bias": jnp.zeros((depth, width)),
                    },
                },
            },
            "encoder_norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)},
        },
    }
    if out is not None:
        params["head"] = {"kernel": normal("head", (width, out), width), "bias": jnp.zeros(out)}
    return params


def _patches(
    params: Params, images: Array, config: SiglipConfig
) -> Float[Array, "batch tokens width"]:
    """Each patch times the kernel: a convolution whose stride is its size, as one product."""
    batch, side, count = len(images), config.patch, config.image // config.patch
    x = images.astype(jnp.float32).reshape(batch, count, side, count, side, 3)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, count * count, -1)
    kernel = params["kernel"].astype(jnp.float32)
    return dense({**params, "kernel": kernel.reshape(-1, kernel.shape[-1])}, x)


def _attention(params: Params, x: Array) -> Array:
    """Full multi-head self-attention with biases."""

    def project(name: str) -> Array:
        y = jnp.einsum("btd,dnh->btnh", x, params[name]["kernel"].astype(x.dtype))
        return y + lift(params[name]["bias"], y)

    q, k, v = (project(name) for name in ("query", "key", "value"))
    everything = jnp.ones((len(x), x.shape[1], x.shape[1]), bool)
    y = attend(q / jnp.sqrt(q.shape[-1]).astype(x.dtype), k, v, everything)
    y = jnp.einsum("btnh,nhd->btd", y, params["out"]["kernel"].astype(x.dtype))
    return y + lift(params["out"]["bias"], y)
