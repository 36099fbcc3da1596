"""Names of Hugging Face's SigLIP, PaliGemma and Gemma3, and of LeRobot's pi05 on top of them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lwd.errors import ConfigError
from lwd.models import pi05
from lwd.models.checkpoints.names import Name, Tensors, read, shapes, under, write
from lwd.models.checkpoints.tree import flatten, nest, require_same
from lwd.models.fns import Params
from lwd.models.gemma3 import Gemma3Config, init_gemma3
from lwd.models.pi05 import Pi05Config
from lwd.models.siglip import SiglipConfig, init_siglip

_DENSE: dict[str, Any] = {"theirs_axes": "o i", "ours_axes": "i o"}


def _affine(ours: str, theirs: str, **axes: Any) -> list[Name]:
    """A linear layer with its bias."""
    kernel = Name(ours=f"{ours}/kernel", theirs=f"{theirs}.weight", **(axes or _DENSE))
    return [kernel, Name(ours=f"{ours}/bias", theirs=f"{theirs}.bias")]


def _layer_norm(ours: str, theirs: str) -> list[Name]:
    return [
        Name(ours=f"{ours}/scale", theirs=f"{theirs}.weight"),
        Name(ours=f"{ours}/bias", theirs=f"{theirs}.bias"),
    ]


def _siglip_attention(ours: str, theirs: str) -> list[Name]:
    names = []
    for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
        at = f"{theirs}.{letter}_proj"
        names += [
            Name(
                ours=f"{ours}/{name}/kernel", theirs=f"{at}.weight",
                theirs_axes="(vn vh) d", ours_axes="d vn vh",
            ),
            Name(
                ours=f"{ours}/{name}/bias", theirs=f"{at}.bias",
                theirs_axes="(vn vh)", ours_axes="vn vh",
            ),
        ]  # fmt: skip
    axes = {"theirs_axes": "d (vn vh)", "ours_axes": "vn vh d"}
    return names + _affine(f"{ours}/out", f"{theirs}.out_proj", **axes)


_BLOCK, _LAYER = "Transformer/encoderblock", "encoder.layers.{layer}"
SIGLIP = [
    *_affine(
        "embedding", "embeddings.patch_embedding", theirs_axes="d c y x", ours_axes="y x c d"
    ),
    Name(
        ours="pos_embedding", theirs="embeddings.position_embedding.weight",
        theirs_axes="(one t) d", ours_axes="one t d",
    ),
    *_layer_norm(f"{_BLOCK}/LayerNorm_0", f"{_LAYER}.layer_norm1"),
    *_layer_norm(f"{_BLOCK}/LayerNorm_1", f"{_LAYER}.layer_norm2"),
    *_affine(f"{_BLOCK}/MlpBlock_0/Dense_0", f"{_LAYER}.mlp.fc1"),
    *_affine(f"{_BLOCK}/MlpBlock_0/Dense_1", f"{_LAYER}.mlp.fc2"),
    *_siglip_attention(f"{_BLOCK}/MultiHeadDotProductAttention_0", f"{_LAYER}.self_attn"),
    *_layer_norm("Transformer/encoder_norm", "post_layernorm"),
]  # fmt: skip
"""Hugging Face's `vision_model.`; its pooling head is not used here."""


def _gemma_block(suffix: str) -> list[Name]:
    """Blocks of Gemma; with a suffix the expert's, whose norms are conditioned."""
    attention, mlp, layer = "layers/attn", f"layers/mlp{suffix}", "layers.{layer}"

    def matrix(theirs: str, ours: str, axes: tuple[str, str], part: int | None = None) -> Name:
        name = f"{layer}.{theirs}.weight"
        return Name(ours=ours, theirs=name, theirs_axes=axes[0], ours_axes=axes[1], part=part)

    kv = f"{attention}/kv_einsum{suffix}/w"
    gating = f"{mlp}/gating_einsum"
    names = [
        matrix("self_attn.q_proj", f"{attention}/q_einsum{suffix}/w", ("(n h) d", "n d h")),
        matrix("self_attn.k_proj", kv, ("(k h) d", "k d h"), 0),
        matrix("self_attn.v_proj", kv, ("(k h) d", "k d h"), 1),
        matrix("self_attn.o_proj", f"{attention}/attn_vec_einsum{suffix}/w", ("d (n h)", "n h d")),
        matrix("mlp.gate_proj", gating, ("f d", "d f"), 0),
        matrix("mlp.up_proj", gating, ("f d", "d f"), 1),
        matrix("mlp.down_proj", f"{mlp}/linear", ("d f", "f d")),
    ]
    for ours, theirs in (
        (f"layers/pre_attention_norm{suffix}", f"{layer}.input_layernorm"),
        (f"layers/pre_ffw_norm{suffix}", f"{layer}.post_attention_layernorm"),
        (f"final_norm{suffix}", "norm"),
    ):
        if suffix:
            names += _affine(f"{ours}/Dense_0", f"{theirs}.dense")
        else:
            names.append(Name(ours=f"{ours}/scale", theirs=f"{theirs}.weight"))
    return names


PALIGEMMA = [
    *under(SIGLIP, ours="img/", theirs="vision_tower.vision_model."),
    *_affine("img/head", "multi_modal_projector.linear"),
    Name(ours="llm/embedder/input_embedding", theirs="language_model.embed_tokens.weight"),
    *under(_gemma_block(""), ours="llm/", theirs="language_model."),
]
PI05 = [
    *under(PALIGEMMA, ours="PaliGemma/", theirs="paligemma_with_expert.paligemma.model."),
    *under(
        _gemma_block("_1"),
        ours="PaliGemma/llm/",
        theirs="paligemma_with_expert.gemma_expert.model.",
    ),
    *(
        name
        for head in ("action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out")
        for name in _affine(head, head)
    ),
]
"""LeRobot's pi05, and openpi's own port to PyTorch."""
_EMBEDDING = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
_TIED = "paligemma_with_expert.paligemma.lm_head.weight"
_UNUSED = (
    _TIED,
    "paligemma_with_expert.gemma_expert.lm_head.weight",
    "paligemma_with_expert.paligemma.model.vision_tower.vision_model.head.",
)
"""What a checkpoint holds and the model never reads."""
GEMMA3 = [
    Name(ours="embed_tokens/weight", theirs="embed_tokens.weight"),
    Name(ours="norm/weight", theirs="norm.weight"),
    *(
        Name(
            ours=f"layers/{part}/{name}/kernel",
            theirs=f"layers.{{layer}}.{part}.{name}.weight",
            **_DENSE,
        )
        for part, kernels in (
            ("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
            ("mlp", ("gate_proj", "up_proj", "down_proj")),
        )
        for name in kernels
    ),
    *(
        Name(
            ours=f"layers/{norm}/weight", theirs=f"layers.{{layer}}.{norm.replace('/', '.')}.weight"
        )
        for norm in (
            *("self_attn/q_norm", "self_attn/k_norm"),
            *("input_layernorm", "post_attention_layernorm"),
            *("pre_feedforward_layernorm", "post_feedforward_layernorm"),
        )
    ),
]


_NOT_SEEN = ("head.", "text_model.", "logit_")
"""What a SigLIP checkpoint holds besides the tower: its pooling head, and the text model."""


def read_siglip(tensors: Tensors, config: SiglipConfig) -> Params:
    """Hugging Face's SigLIP, or its vision model; without its pooling head.

    IntegrityError names what is missing, unexpected, or of another shape.
    """
    tensors, like = _without(tensors, "vision_model.", _NOT_SEEN), _like(init_siglip, config, None)
    axes = {"depth": {"": config.depth}, "sizes": _vision(config)}
    require_same(tensors, shapes(like, SIGLIP, **axes), "the SigLIP checkpoint")
    return nest(read(tensors, SIGLIP, **axes))


def write_siglip(params: Params, config: SiglipConfig) -> dict[str, np.ndarray]:
    """The inverse: tensors by the names of Hugging Face's vision model."""
    tensors = write(flatten(params), SIGLIP, depth={"": config.depth}, sizes=_vision(config))
    return {f"vision_model.{name}": tensor for name, tensor in tensors.items()}


def read_gemma3(tensors: Tensors, config: Gemma3Config) -> Params:
    """Hugging Face's Gemma3 text model; its output head is tied to the embedding.

    IntegrityError names what is missing, unexpected, or of another shape.
    """
    tensors, like = _without(tensors, "model.", ("lm_head.",)), _like(init_gemma3, config)
    axes = {"depth": {"": config.depth}, "sizes": {}}
    require_same(tensors, shapes(like, GEMMA3, **axes), "the Gemma3 checkpoint")
    return nest(read(tensors, GEMMA3, **axes))


def write_gemma3(params: Params, config: Gemma3Config) -> dict[str, np.ndarray]:
    """The inverse: tensors by the names of Hugging Face's text model."""
    tensors = write(flatten(params), GEMMA3, depth={"": config.depth}, sizes={})
    return {f"model.{name}": tensor for name, tensor in tensors.items()}


def read_lerobot(tensors: Tensors, config: Pi05Config) -> Params:
    """LeRobot's pi05. The embedding may be stored under the tied output head alone.

    IntegrityError names what is missing, unexpected, or of another shape.
    """
    theirs, like = _without(tensors, "model."), _like(pi05.init, config)
    tied = {_EMBEDDING: theirs[_TIED]} if _TIED in theirs else {}
    tensors = {**tied, **_without(theirs, "", _UNUSED)}
    require_same(tensors, shapes(like, PI05, **_axes(config)), "the LeRobot checkpoint")
    return nest(read(tensors, PI05, **_axes(config)))


def write_lerobot(params: Params, config: Pi05Config) -> dict[str, np.ndarray]:
    """Tensors by LeRobot's names, for its own loader: with the tied head, which it looks for.

    ConfigError for a model that reads its state as a token, which LeRobot's pi0.5 has no place for.
    """
    if config.state:
        raise ConfigError(
            f"the model reads a state of {config.state} numbers as a token; LeRobot's pi0.5 has it "
            "in the prompt. Only models with a discrete state, as preset pi05, can be written."
        )
    tensors = write(flatten(params), PI05, **_axes(config))
    return tensors | {_TIED: tensors[_EMBEDDING]}


def _axes(config: Pi05Config) -> dict[str, dict[str, int]]:
    """Blocks of each stack, and sizes of the axes of its tensors."""
    heads = {"n": config.vlm.heads, "h": config.vlm.head_dim, "k": config.vlm.kv_heads}
    depth = {"PaliGemma/img": config.vision.depth, "PaliGemma/llm": config.vlm.depth}
    return {"depth": depth, "sizes": {**_vision(config.vision), **heads}}


def _vision(config: SiglipConfig) -> dict[str, int]:
    return {"vn": config.heads, "vh": config.width // config.heads, "one": 1}


def _like(init: Callable[..., Params], *arguments: object) -> dict[str, Any]:
    """Shapes of a model by path, without making it."""
    return flatten(jax.eval_shape(lambda key: init(key, *arguments), jax.random.key(0)))


def _without(
    tensors: Tensors, prefix: str, unused: tuple[str, ...] = ()
) -> Mapping[str, np.ndarray]:
    """The same tensors with a prefix taken off those that have it, and less those whose names then
    begin with something `unused`."""
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(unused)}
