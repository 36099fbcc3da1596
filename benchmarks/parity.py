"""How close the models come to independent implementations, on numbers that those wrote.

`python benchmarks/parity.py pi05 FILE.npz` compares with openpi's pi0.5, `... hf FILE.npz` with
Gemma3, SigLIP and PaliGemma of Hugging Face's transformers; tests/golden has a small file of each.
`... lerobot FOLDER` loads a pi0.5 of LeRobot, beside which its batch is. parity_reference.py, in an
environment with torch, writes files for the last two from new random numbers.
The last line is JSON of each quantity's largest absolute difference. Sizes are read off the
tensors; how many heads share a projection, and a window, are flags of `hf`.
"""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tyro.conf import Positional
from tyro.extras import SubcommandApp

from lwd.models import gemma3, pi05
from lwd.models.checkpoints import huggingface
from lwd.models.checkpoints.names import read
from lwd.models.checkpoints.pretrained import load_pi05
from lwd.models.checkpoints.tree import nest
from lwd.models.fns import Params
from lwd.models.gemma import GemmaConfig, prefill
from lwd.models.gemma3 import Gemma3Config
from lwd.models.pi05 import Observation, Pi05Config
from lwd.models.siglip import SiglipConfig, siglip

Tensors = dict[str, np.ndarray]
STEPS = 10
"""Euler steps of openpi's sampler."""

app = SubcommandApp()


@app.command(name="pi05")
def compare_pi05(file: Positional[Path]) -> None:
    """Prefix, velocity and sampled chunk of openpi's pi0.5.

    Args:
        file: Parameters, inputs and outputs; the layout of tests/golden/pi05.npz.
    """
    report(pi05_differences(dict(np.load(file))))


@app.command(name="hf")
def compare_hf(
    file: Positional[Path], window: int = 4, vision_heads: int = 2, head_dim: int = 16
) -> None:
    """Outputs of Gemma3, SigLIP and PaliGemma.

    Args:
        file: Parameters, inputs and outputs; the layout of tests/golden/huggingface.npz.
        window: Sliding window of Gemma3's local blocks.
        vision_heads: Heads of SigLIP.
        head_dim: Width of a head of PaliGemma's language model.
    """
    report(hf_differences(dict(np.load(file)), window, vision_heads, head_dim))


@app.command(name="lerobot")
def compare_lerobot(folder: Positional[Path]) -> None:
    """Prefix, loss and sampled chunk of LeRobot's pi0.5, through its safetensors.

    Args:
        folder: model.safetensors, batch.npz and sizes.json, as parity_reference.py writes them.
    """
    report(lerobot_differences(folder))


def lerobot_differences(folder: Path) -> dict[str, tuple[Array, np.ndarray]]:
    """Ours and theirs of each quantity."""
    golden, sizes = (
        dict(np.load(folder / "batch.npz")),
        json.loads(Path(folder / "sizes.json").read_text()),
    )
    vision = sizes["vision"]
    config = Pi05Config(
        vlm=_gemma(sizes["vlm"]),
        expert=_gemma(sizes["expert"]),
        vision=SiglipConfig(
            width=vision["hidden_size"],
            depth=vision["num_hidden_layers"],
            mlp=vision["intermediate_size"],
            heads=vision["num_attention_heads"],
            patch=vision["patch_size"],
            image=vision["image_size"],
        ),
        vocabulary=sizes["vocabulary"],
        tokens=golden["tok"].shape[1],
        horizon=golden["act"].shape[1],
        action=golden["act"].shape[2],
        bfloat16=False,
    )
    params = on_device(load_pi05(folder, config, jax.random.key(0)))
    seen = observation(golden, config.cameras)
    prefix, _ = pi05.embed_prefix(params, seen, config)
    v, a = acted(params, seen, golden, config)
    loss = jnp.square(golden["noise"] - golden["act"] - v)
    theirs = {name: golden[name] for name in ("prefix", "loss", "sampled")}
    return dict(zip(theirs, zip((prefix, loss, a), theirs.values(), strict=True), strict=True))


def _gemma(sizes: dict[str, int]) -> GemmaConfig:
    return GemmaConfig(
        width=sizes["width"], depth=sizes["depth"], mlp=sizes["mlp_dim"], heads=sizes["num_heads"],
        kv_heads=sizes["num_kv_heads"], head_dim=sizes["head_dim"],
    )  # fmt: skip


def observation(golden: Tensors, cameras: tuple[str, ...]) -> Observation:
    """The batch; cameras that it numbers are in the model's order."""
    images = {name: jnp.asarray(x) for name, x in part(golden, "image/").items()}
    masks = {name: jnp.asarray(x) for name, x in part(golden, "imask/").items()}
    names = cameras if "0" in images else tuple(images)
    return Observation(
        images=dict(zip(names, images.values(), strict=True)),
        image_mask=dict(zip(names, masks.values(), strict=True)),
        tokens=jnp.asarray(golden["tok"].astype(np.int32)),
        token_mask=jnp.asarray(golden["tokm"]),
    )


def acted(
    params: Params, seen: Observation, golden: Tensors, config: Pi05Config
) -> tuple[Array, Array]:
    """openpi's velocity v(a, t), and the chunk after its Euler steps from the same noise."""
    cache = pi05.encode(params, seen, config)
    t = golden["t"][:, None, None]
    noised = jnp.asarray(t * golden["noise"] + (1 - t) * golden["act"])
    v = -pi05.velocity(params, cache, noised, jnp.asarray(1 - golden["t"]), config)
    a = jnp.asarray(golden["noise"])
    for step in range(STEPS):
        w = jnp.full(len(a), step / STEPS)
        a = a + pi05.velocity(params, cache, a, w, config) / STEPS
    return v, a


def pi05_differences(golden: Tensors) -> dict[str, tuple[Array, np.ndarray]]:
    """Ours and theirs of each quantity."""
    params = on_device(nest(part(golden, "param/")))
    side = next(iter(part(golden, "image/").values())).shape[1]
    config = pi05_config(params, golden, side)
    seen = observation(golden, config.cameras)
    prefix, valid = pi05.embed_prefix(params, seen, config)
    _, out = pi05.understand(params, seen, config)
    v, a = acted(params, seen, golden, config)
    return {
        "prefix": (prefix, golden["prefix"]),
        # What stands in the place of a token that is not there is never read.
        "prefix_out": (out[valid], golden["prefix_out"][np.asarray(valid)]),
        "v": (v, golden["v"]),
        "sampled": (a, golden["sampled"]),
    }


def pi05_config(params: Params, golden: Tensors, image: int) -> Pi05Config:
    """Sizes read off the tensors."""
    llm = params["PaliGemma"]["llm"]
    stacks = []
    for suffix in ("", "_1"):
        depth, heads, width, head_dim = llm["layers"]["attn"][f"q_einsum{suffix}"]["w"].shape
        stacks.append(
            GemmaConfig(
                width=width,
                depth=depth,
                heads=heads,
                head_dim=head_dim,
                mlp=llm["layers"][f"mlp{suffix}"]["linear"].shape[1],
                kv_heads=llm["layers"]["attn"][f"kv_einsum{suffix}"]["w"].shape[2],
            )
        )
    blocks = params["PaliGemma"]["img"]["Transformer"]["encoderblock"]
    depth, width, mlp = blocks["MlpBlock_0"]["Dense_0"]["kernel"].shape
    return Pi05Config(
        vlm=stacks[0],
        expert=stacks[1],
        vision=SiglipConfig(
            width=width,
            depth=depth,
            mlp=mlp,
            heads=blocks["MultiHeadDotProductAttention_0"]["query"]["bias"].shape[1],
            patch=params["PaliGemma"]["img"]["embedding"]["kernel"].shape[0],
            image=image,
        ),
        vocabulary=llm["embedder"]["input_embedding"].shape[0],
        tokens=golden["tok"].shape[1],
        horizon=golden["act"].shape[1],
        action=golden["act"].shape[2],
        bfloat16=False,
    )


def hf_differences(
    golden: Tensors, window: int, vision_heads: int, head_dim: int
) -> dict[str, tuple[Array, np.ndarray]]:
    """Ours and theirs of each quantity."""
    found = gemma3_differences(part(golden, "g3/"), window)
    tower = part(golden, "sig/p/")
    vision = siglip_config(tower, golden["sig/px"].shape[-1], vision_heads)
    pixels = jnp.asarray(golden["sig/px"].transpose(0, 2, 3, 1))
    seen = siglip(on_device(huggingface.read_siglip(tower, vision)), pixels, vision)
    found["sig/y"] = (seen, golden["sig/y"])
    if "pg/px" in golden:
        pixels = jnp.asarray(golden["pg/px"].transpose(0, 2, 3, 1))
    return found | paligemma_differences(part(golden, "pg/"), pixels, vision, head_dim)


def gemma3_differences(golden: Tensors, window: int) -> dict[str, tuple[Array, np.ndarray]]:
    """Causal and bidirectional attention."""
    tensors = part(golden, "p/")
    vocabulary, width = tensors["embed_tokens.weight"].shape
    head_dim = len(tensors["layers.0.self_attn.q_norm.weight"])
    config = Gemma3Config(
        width=width,
        depth=layers(tensors),
        mlp=len(tensors["layers.0.mlp.gate_proj.weight"]),
        heads=len(tensors["layers.0.self_attn.q_proj.weight"]) // head_dim,
        kv_heads=len(tensors["layers.0.self_attn.k_proj.weight"]) // head_dim,
        head_dim=head_dim,
        query_scale=float(head_dim),
        vocabulary=vocabulary,
        window=window,
    )
    params = on_device(huggingface.read_gemma3(tensors, config))
    ids = jnp.asarray(golden["ids"].astype(np.int32))
    there = jnp.ones(ids.shape, bool)

    def run(config: Gemma3Config) -> Array:
        return gemma3.gemma3(params, gemma3.embed(params, ids, config), there, config)

    return {
        "g3/y": (run(config), golden["y"]),
        "g3/y_bidir": (run(replace(config, causal=False)), golden["y_bidir"]),
    }


def siglip_config(tensors: Tensors, image: int, heads: int) -> SiglipConfig:
    """Sizes read off the tensors."""
    root = "vision_model."
    mlp, width = tensors[f"{root}encoder.layers.0.mlp.fc1.weight"].shape
    return SiglipConfig(
        width=width,
        depth=layers(part(tensors, f"{root}encoder.")),
        mlp=mlp,
        heads=heads,
        patch=tensors[f"{root}embeddings.patch_embedding.weight"].shape[-1],
        image=image,
    )


def paligemma_differences(
    golden: Tensors, pixels: Array, vision: SiglipConfig, head_dim: int
) -> dict[str, tuple[Array, np.ndarray]]:
    """Images and text through the language model, all tokens visible to one another."""
    tensors = part(golden, "p/model.")
    language = part(tensors, "language_model.")
    depth, width = layers(language), language["embed_tokens.weight"].shape[1]
    heads = len(language["layers.0.self_attn.q_proj.weight"]) // head_dim
    config = GemmaConfig(width=width, depth=depth, heads=heads, head_dim=head_dim)
    sizes = {
        **{"n": heads, "h": head_dim, "one": 1, "vn": vision.heads},
        "k": len(language["layers.0.self_attn.k_proj.weight"]) // head_dim,
        "vh": vision.width // vision.heads,
    }
    names = huggingface.PALIGEMMA
    flat = read(tensors, names, depth={"img": vision.depth, "llm": depth}, sizes=sizes)
    params = on_device(nest(flat))
    table, ids = params["llm"]["embedder"]["input_embedding"], golden["ids"]
    tokens = jnp.asarray(table[ids] * np.float32(width**0.5))
    is_image = ids == len(table) - 1
    features = siglip(params["img"], pixels, vision)
    tokens = tokens.at[is_image].set(features.reshape(-1, width))
    _, out = prefill(params["llm"], tokens, jnp.ones(ids.shape, bool), config)
    logits = out @ jnp.asarray(golden["p/lm_head.weight"]).T
    return {"pg/h": (out, golden["h"]), "pg/logits": (logits, golden["logits"])}


def part(tensors: Tensors, prefix: str) -> Tensors:
    """Tensors whose names have a prefix, without it."""
    return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}


def layers(tensors: Tensors) -> int:
    """Number of blocks."""
    return 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))


def on_device(params: Params) -> Params:
    """Arrays that a jitted function takes."""
    return jax.tree.map(jnp.asarray, params)


def report(found: dict[str, tuple[Array, np.ndarray]]) -> None:
    """A table for people, then one line of JSON."""
    differences = {}
    print(f"{'quantity':12} {'largest difference':>20} {'mean':>12} {'mean of theirs':>16}")
    for name, (ours, theirs) in found.items():
        if ours.shape != theirs.shape:
            raise SystemExit(f"{name}: ours has shape {ours.shape}, theirs {theirs.shape}.")
        apart = np.abs(np.asarray(ours, np.float64) - theirs)
        differences[name] = float(apart.max())
        size = np.abs(theirs).mean()
        print(f"{name:12} {apart.max():20.2e} {apart.mean():12.2e} {size:16.3f}")
    print(json.dumps(differences))


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "highest")
    app.cli()
