"""pi0.5: images and a prompt through PaliGemma, a chunk of actions by flow matching (IV-D).

Here time w runs as in the paper, from noise at 0 to actions at 1, and f(a, w) = -v(a, 1 - w) is the
velocity of openpi's model v with the same parameters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from lwd.models.fns import Params
from lwd.models.gemma import Cache, GemmaConfig, expert, init_gemma, prefill
from lwd.models.layers import dense
from lwd.models.siglip import SiglipConfig, init_siglip, siglip

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""Order of the cameras in the prefix; it is part of a checkpoint."""
_PERIODS = (4e-3, 4.0)
"""Shortest and longest period of the time embedding."""


@dataclass(frozen=True, kw_only=True)
class Pi05Config:
    """Sizes of the model; the defaults are the released pi0.5's."""

    vlm: GemmaConfig = field(default_factory=GemmaConfig)
    expert: GemmaConfig = field(default_factory=lambda: GemmaConfig(width=1024, mlp=4096))
    vision: SiglipConfig = field(default_factory=SiglipConfig)
    vocabulary: int = 257_152
    tokens: int = 200
    """Longest prompt."""
    horizon: int = 30
    action: int = 32
    """Dimensions of an action, zero padding included."""
    cameras: tuple[str, ...] = CAMERAS
    state: int = 0
    """Numbers of a state that is a token of its own, after the prompt; 0 where the prompt has it
    in words, as in the released model."""
    bfloat16: bool = True
    """Dtype of activations and matrix products; actions, time and norms stay float32."""
    unroll: bool = False
    """Unroll the blocks: faster on CPUs, slower to compile."""
    remat: bool = False
    """Keep only what goes from block to block for the backward pass."""

    def __post_init__(self) -> None:
        for name in ("depth", "heads", "kv_heads", "head_dim"):
            ours, theirs = getattr(self.expert, name), getattr(self.vlm, name)
            if ours != theirs:
                raise ValueError(
                    f"expert.{name} is {ours}, vlm.{name} is {theirs}; the expert reads the keys "
                    "and values of the language model, so they must be equal."
                )

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of activations."""
        return jnp.dtype(jnp.bfloat16 if self.bfloat16 else jnp.float32)


class Observation(NamedTuple):
    """What the model conditions on."""

    images: Mapping[str, Float[Array, "batch height width 3"]]
    """By camera, in [-1, 1]."""
    image_mask: Mapping[str, Bool[Array, " batch"]]
    """By camera, whether there is an image."""
    tokens: Int[Array, "batch tokens"]
    """Prompt."""
    token_mask: Bool[Array, "batch tokens"]
    state: Float[Array, "batch state"] | None = None
    """Normalised; only for a model that reads it as a token."""


def init(key: Array, config: Pi05Config) -> Params:
    """Fresh parameters, keyed as openpi's checkpoint."""
    names = ("img", "llm", "action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out")
    names = (*names, "state_proj") if config.state else names
    keys: dict[str, Array] = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    width, action = config.expert.width, config.action
    shapes = {
        "action_in_proj": (action, width),
        "action_out_proj": (width, action),
        "time_mlp_in": (width, width),
        "time_mlp_out": (width, width),
    }
    if config.state:
        shapes["state_proj"] = (config.state, config.vlm.width)
    heads = {
        name: {
            "kernel": jax.random.normal(keys[name], shape) / math.sqrt(shape[0]),
            "bias": jnp.zeros(shape[1]),
        }
        for name, shape in shapes.items()
    }
    return {
        "PaliGemma": {
            "img": init_siglip(keys["img"], config.vision, config.vlm.width),
            "llm": init_gemma(keys["llm"], config.vlm, config.expert, config.vocabulary),
        },
        **heads,
    }


def embed_prefix(
    params: Params, seen: Observation, config: Pi05Config
) -> tuple[Float[Array, "batch prefix width"], Bool[Array, "batch prefix"]]:
    """Tokens of all cameras, of the prompt, of the state; and which of them are there."""
    _check(seen, config)
    batch, count = len(seen.tokens), config.vision.tokens
    # One pass of the tower for all cameras.
    images = jnp.concatenate([seen.images[name] for name in config.cameras])
    vision = siglip(
        params["PaliGemma"]["img"], images, config.vision,
        dtype=config.dtype, unroll=config.unroll, remat=config.remat,
    )  # fmt: skip
    vision = vision.reshape(len(config.cameras), batch, count, -1).swapaxes(0, 1)
    table = params["PaliGemma"]["llm"]["embedder"]["input_embedding"].astype(config.dtype)
    words = table[seen.tokens] * jnp.asarray(math.sqrt(config.vlm.width), config.dtype)
    there = [jnp.repeat(seen.image_mask[name][:, None], count, axis=1) for name in config.cameras]
    tokens = [vision.reshape(batch, -1, words.shape[-1]), words]
    valid = [*there, seen.token_mask]
    if config.state:
        tokens.append(state_token(params["state_proj"], seen.state, config.state, config.dtype))
        valid.append(jnp.ones((batch, 1), bool))
    return jnp.concatenate(tokens, axis=1), jnp.concatenate(valid, axis=1)


def state_token(
    params: Params, state: Array | None, size: int, dtype: jnp.dtype
) -> Float[Array, "batch 1 width"]:
    """A normalised state as a token; ValueError unless it has `size` numbers."""
    if state is None or state.shape[1] != size:
        given = "absent" if state is None else f"of {state.shape[1]} numbers"
        raise ValueError(f"the state is {given}; the model reads {size} numbers as a token.")
    return dense(params, state.astype(jnp.float32)).astype(dtype)[:, None]


def encode(params: Params, seen: Observation, config: Pi05Config) -> Cache:
    """Keys and values of the prefix: all that a velocity needs of an observation."""
    return understand(params, seen, config)[0]


def understand(
    params: Params, seen: Observation, config: Pi05Config
) -> tuple[Cache, Float[Array, "batch prefix width"]]:
    """The cache and the language model's output for every token of the prefix."""
    tokens, valid = embed_prefix(params, seen, config)
    llm = params["PaliGemma"]["llm"]
    return prefill(llm, tokens, valid, config.vlm, unroll=config.unroll, remat=config.remat)


def velocity(
    params: Params,
    cache: Cache,
    a: Float[Array, "batch horizon action"],
    w: Float[Array, " batch"],
    config: Pi05Config,
) -> Float[Array, "batch horizon action"]:
    """f(a, w), float32; needs the expert's parameters only, see `split`."""
    tokens = dense(params["action_in_proj"], a.astype(jnp.float32)).astype(config.dtype)
    condition = _time(1 - w, config.expert.width)
    for name in ("time_mlp_in", "time_mlp_out"):
        condition = jax.nn.silu(dense(params[name], condition))
    out = expert(
        params["PaliGemma"]["llm"], cache, tokens, condition, config.expert,
        unroll=config.unroll, remat=config.remat,
    )  # fmt: skip
    return -dense(params["action_out_proj"], out.astype(jnp.float32))


def is_expert(path: str) -> bool:
    """Whether a parameter, by its path with slashes, belongs to the action expert.

    Online only these are trained; the vision tower and the language model are frozen.
    """
    names = path.split("/")
    if names[0] != "PaliGemma":
        return names[0] != "state_proj"
    return names[1] == "llm" and any(name.endswith("_1") for name in names)


def _time(t: Float[Array, " batch"], width: int) -> Float[Array, "batch width"]:
    """Sines and cosines of openpi's time with geometric periods."""
    shortest, longest = _PERIODS
    fraction = jnp.linspace(0.0, 1.0, width // 2)
    period = shortest * (longest / shortest) ** fraction
    angle = 2 * math.pi * t[:, None] / period[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def _check(seen: Observation, config: Pi05Config) -> None:
    """ValueError names the camera or the prompt that does not fit."""
    if missing := [name for name in config.cameras if name not in seen.images]:
        raise ValueError(
            f"camera {missing[0]!r} is missing; the model sees {', '.join(config.cameras)}. Give "
            "a black image with a false mask for a camera that the robot does not have."
        )
    side = config.vision.image
    for name in config.cameras:
        if seen.images[name].shape[1:] != (side, side, 3):
            raise ValueError(
                f"images of {name} have shape {seen.images[name].shape[1:]}; expected "
                f"{side} x {side} x 3. Resize them with padding first."
            )
    if seen.tokens.shape[1] > config.tokens:
        raise ValueError(
            f"the prompt has {seen.tokens.shape[1]} tokens; at most {config.tokens} fit."
        )
