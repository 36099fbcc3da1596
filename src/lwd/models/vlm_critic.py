"""The critic of IV-D: SigLIP and Gemma3 read cameras and instruction, heads judge state and action.

A readout token after the last word gathers the state z. V is a categorical distribution made of z;
each of the Q heads attends from z over the actions of a chunk and judges both together. The paper
leaves open how many tokens a camera has and who attends to whom: here each camera is pooled to
`pooled` x `pooled` tokens, so that a window of Gemma3 spans all cameras, and attention goes both
ways.
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from lwd.models.fns import Params
from lwd.models.gemma3 import Gemma3Config, embed, gemma3, init_gemma3
from lwd.models.layers import attend, dense, rms_norm
from lwd.models.pi05 import CAMERAS, Observation, state_token
from lwd.models.siglip import SiglipConfig, init_siglip, siglip


@dataclass(frozen=True, kw_only=True)
class VlmCriticConfig:
    """Sizes; the defaults are Gemma3-270M with SigLIP-So400m at 224 px."""

    text: Gemma3Config = field(default_factory=lambda: Gemma3Config(causal=False))
    vision: SiglipConfig = field(default_factory=SiglipConfig)
    cameras: tuple[str, ...] = CAMERAS
    state: int = 0
    """Numbers of a state that is a token of its own; 0 where the prompt has it in words."""
    pooled: int = 8
    """Side of the grid of tokens that a camera becomes."""
    atoms: int = 201
    critics: int = 2
    horizon: int = 30
    action: int = 16
    """Dimensions of an action, without padding."""
    heads: int = 4
    """Heads of the attention over a chunk."""
    bfloat16: bool = True
    """Dtype of the backbone's activations; the heads are float32."""
    unroll: bool = False
    remat: bool = False

    def __post_init__(self) -> None:
        side = self.vision.image // self.vision.patch
        if side % self.pooled:
            raise ValueError(
                f"pooled is {self.pooled}; it must divide the {side} patches of a side of an image."
            )
        if self.text.width % self.heads:
            raise ValueError(f"heads is {self.heads}; it must divide the width {self.text.width}.")

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the backbone's activations."""
        return jnp.dtype(jnp.bfloat16 if self.bfloat16 else jnp.float32)


def init_backbone(key: Array, config: VlmCriticConfig) -> Params:
    """Fresh vision tower, language model, projection between them, and readout token."""
    vision, text, project, readout = jax.random.split(key, 4)
    width = config.text.width
    state = {"state": _dense(jax.random.fold_in(key, 4), config.state, width)}
    return {
        **(state if config.state else {}),
        "img": init_siglip(vision, config.vision, None),
        "llm": init_gemma3(text, config.text),
        "project": {
            "norm": {"scale": jnp.zeros(config.vision.width)},
            **_dense(project, config.vision.width, width, bias=False),
        },
        "readout": jax.random.normal(readout, (width,)),
    }


def init_value(key: Array, config: VlmCriticConfig) -> Params:
    """Fresh head of V; it starts with the uniform distribution."""
    hidden, out = jax.random.split(key)
    width = config.text.width
    return {"hidden": _dense(hidden, width, width), "out": _dense(out, width, config.atoms, 0.0)}


def init_q(key: Array, config: VlmCriticConfig) -> Params:
    """Fresh heads of Q, stacked on the first axis; they start at 0."""

    def head(key: Array) -> Params:
        names = ("action", "position", "query", "key", "value", "hidden", "out")
        keys: dict[str, Array] = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        width = config.text.width
        return {
            "action": _dense(keys["action"], config.action, width),
            "position": 0.02 * jax.random.normal(keys["position"], (config.horizon, width)),
            **{name: _dense(keys[name], width, width) for name in ("query", "key", "value")},
            "hidden": _dense(keys["hidden"], 2 * width, width),
            "out": _dense(keys["out"], width, 1, 0.0),
        }

    return jax.vmap(head)(jax.random.split(key, config.critics))


def read(params: Params, seen: Observation, config: VlmCriticConfig) -> Float[Array, "batch width"]:
    """State z: what the readout token has gathered; float32."""
    batch = len(seen.tokens)
    images = jnp.concatenate([seen.images[name] for name in config.cameras])
    vision = siglip(
        params["img"], images, config.vision,
        dtype=config.dtype, unroll=config.unroll, remat=config.remat,
    )  # fmt: skip
    vision = _pool(vision, config)
    project = params["project"]
    vision = dense(project, rms_norm(project["norm"]["scale"], vision))
    count = vision.shape[1]
    vision = vision.reshape(len(config.cameras), batch, count, -1).swapaxes(0, 1)
    words = embed(params["llm"], seen.tokens, config.text).astype(config.dtype)
    readout = jnp.broadcast_to(
        params["readout"].astype(config.dtype)[None, None], (batch, 1, words.shape[-1])
    )
    there = [jnp.repeat(seen.image_mask[name][:, None], count, axis=1) for name in config.cameras]
    last = [readout]
    if config.state:
        last = [state_token(params["state"], seen.state, config.state, config.dtype), readout]
    tokens = jnp.concatenate([vision.reshape(batch, -1, words.shape[-1]), words, *last], axis=1)
    always = jnp.ones((batch, len(last)), bool)
    valid = jnp.concatenate([*there, seen.token_mask, always], axis=1)
    out = gemma3(
        params["llm"], tokens, valid, config.text, unroll=config.unroll, remat=config.remat
    )
    return out[:, -1].astype(jnp.float32)


def value_logits(params: Params, z: Float[Array, "batch width"]) -> Float[Array, "batch atoms"]:
    """Logits of the distribution of V(s)."""
    return dense(params["out"], jax.nn.gelu(dense(params["hidden"], z)))


def q(
    params: Params,
    z: Float[Array, "batch width"],
    a: Float[Array, "batch horizon action"],
    config: VlmCriticConfig,
) -> Float[Array, "critics batch"]:
    """Q(s, a) of every head. It is differentiable in `a` at the cost of the heads alone."""
    if a.shape[1:] != (config.horizon, config.action):
        raise ValueError(
            f"chunks have shape {a.shape[1:]}; the critic judges {config.horizon} actions of "
            f"{config.action} dimensions, without padding."
        )

    def head(params: Params) -> Array:
        tokens = dense(params["action"], a) + params["position"][None]

        def project(name: str, x: Array) -> Array:
            y = dense(params[name], x)
            return y.reshape(len(x), x.shape[1], config.heads, -1)

        query, k, v = project("query", z[:, None]), project("key", tokens), project("value", tokens)
        everything = jnp.ones((len(a), 1, config.horizon), bool)
        pooled = attend(query / math.sqrt(query.shape[-1]), k, v, everything).reshape(z.shape)
        hidden = dense(params["hidden"], jnp.concatenate([z, pooled], axis=-1))
        return dense(params["out"], jax.nn.gelu(hidden))[:, 0]

    return jax.vmap(head)(params)


def _pool(x: Float[Array, "batch tokens width"], config: VlmCriticConfig) -> Array:
    """Mean over squares of neighbouring patches."""
    side = config.vision.image // config.vision.patch
    step = side // config.pooled
    grid = x.reshape(len(x), config.pooled, step, config.pooled, step, -1)
    return grid.mean(axis=(2, 4)).reshape(len(x), config.pooled**2, -1)


def _dense(
    key: Array, inputs: int, outputs: int, scale: float = 1.0, *, bias: bool = True
) -> Params:
    kernel = scale * jax.random.normal(key, (inputs, outputs)) / math.sqrt(inputs)
    return {"kernel": kernel, "bias": jnp.zeros(outputs)} if bias else {"kernel": kernel}
