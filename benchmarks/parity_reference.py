"""What Gemma3, SigLIP and PaliGemma of transformers and pi0.5 of LeRobot make of random numbers.

Tiny models of the real architectures with random weights, written for `benchmarks/parity.py`:

    python benchmarks/parity_reference.py hf theirs.npz        # with transformers 5.5.4
    python benchmarks/parity_reference.py lerobot theirs       # with lerobot 0.5.1
    python benchmarks/parity.py hf theirs.npz                  # in an environment of lwd
    python benchmarks/parity.py lerobot theirs

It runs in an environment of its own: `pip install torch transformers==5.5.4`, or
`pip install 'lerobot[pi]==0.5.1'`, which needs Python 3.12. Nothing is downloaded.
"""

# Neither torch nor lerobot is installed with the tools of development.
# pyright: reportMissingImports=false

import argparse
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

GEMMA = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 7,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 4,
    "query_pre_attn_scalar": 16, "attn_implementation": "eager",
}  # fmt: skip
"""The seventh block of Gemma3 follows the first that attends to everything."""
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
PALIGEMMA = {"vocab_size": 120, "hidden_size": 48, "intermediate_size": 96, "head_dim": 16}
PI05 = {"width": 48, "depth": 3, "mlp_dim": 96, "num_heads": 8, "num_kv_heads": 1, "head_dim": 16}
EXPERT = PI05 | {"width": 32, "mlp_dim": 64}
TOKENS, HORIZON, ACTION, BATCH = 12, 6, 8, 2


def main() -> None:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("hf", "lerobot"))
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    torch.manual_seed(0)
    with torch.no_grad():
        if asked.what == "hf":
            np.savez(asked.out, allow_pickle=False, **gemma3(), **siglip(), **paligemma())
        else:
            lerobot(asked.out)


def gemma3() -> dict[str, np.ndarray]:
    """Causal and bidirectional attention of Gemma3's text model."""
    from transformers import Gemma3TextConfig, Gemma3TextModel

    model = randomised(Gemma3TextModel(Gemma3TextConfig(**GEMMA)))
    ids = torch.randint(0, GEMMA["vocab_size"], (BATCH, 12))
    both = Gemma3TextConfig(**GEMMA, use_bidirectional_attention=True)
    bidirectional = Gemma3TextModel(both).eval()
    bidirectional.load_state_dict(model.state_dict())
    found = {"ids": ids, "y": model(ids).last_hidden_state}
    found["y_bidir"] = bidirectional(ids).last_hidden_state
    return named("g3/", found, model)


def siglip() -> dict[str, np.ndarray]:
    """SigLIP's vision tower."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    model = randomised(SiglipVisionModel(SiglipVisionConfig(**VISION)))
    pixels = torch.rand(BATCH, 3, 28, 28) * 2 - 1
    return named("sig/", {"px": pixels, "y": model(pixels).last_hidden_state}, model)


def paligemma() -> dict[str, np.ndarray]:
    """PaliGemma on the pictures that SigLIP saw, all tokens visible to one another."""
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    text = PALIGEMMA | {
        "model_type": "gemma", "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 1, "attn_implementation": "eager",
    }  # fmt: skip
    last, vision = PALIGEMMA["vocab_size"] - 1, VISION | {"projection_dim": 48}
    config = PaliGemmaConfig(
        text_config=text, vision_config=vision, projection_dim=48, image_token_index=last
    )
    model = randomised(PaliGemmaForConditionalGeneration(config))
    torch.manual_seed(1)
    ids = torch.randint(1, last, (BATCH, 10))
    ids[:, :4] = last
    pixels = torch.rand(BATCH, 3, 28, 28) * 2 - 1
    types = torch.zeros_like(ids)
    out = model(
        input_ids=ids, pixel_values=pixels, token_type_ids=types, attention_mask=types + 1,
        output_hidden_states=True,
    )  # fmt: skip
    return named("pg/", {"ids": ids, "px": pixels, "h": out.hidden_states[-1],
                         "logits": out.logits}, model)  # fmt: skip


def lerobot(folder: Path) -> None:
    """pi0.5: `model.safetensors` as LeRobot saves it, and what it makes of a batch."""
    from lerobot.policies.pi05 import modeling_pi05 as theirs
    from safetensors.torch import save_model

    config = theirs.PI05Config(
        chunk_size=HORIZON, n_action_steps=HORIZON, max_action_dim=ACTION,
        image_resolution=(28, 28), device="cpu",
    )  # fmt: skip
    variants = {
        "gemma_2b": theirs.GemmaConfig(**PI05),
        "gemma_300m": theirs.GemmaConfig(**EXPERT),
    }
    paligemma, gemma = (
        theirs.PaliGemmaForConditionalGenerationWithPiGemma,
        theirs.PiGemmaForCausalLM,
    )

    def small(config: Any) -> Any:
        """The class fixes the vocabulary and the sizes of the tower; here they are small."""
        config.text_config.vocab_size = config._vocab_size = PALIGEMMA["vocab_size"]
        for name, value in (VISION | {"projection_dim": PI05["width"]}).items():
            setattr(config.vision_config, name, value)
        return paligemma(config=config)

    def small_expert(config: Any) -> Any:
        config.vocab_size = PALIGEMMA["vocab_size"]
        return gemma(config=config)

    with (
        patch.object(theirs, "get_gemma_config", variants.__getitem__),
        patch.object(theirs, "PaliGemmaForConditionalGenerationWithPiGemma", small),
        patch.object(theirs, "PiGemmaForCausalLM", small_expert),
    ):
        model = randomised(theirs.PI05Pytorch(config))
    folder.mkdir(parents=True, exist_ok=True)
    whole = torch.nn.Module()
    whole.model = model
    save_model(whole, str(folder / "model.safetensors"))
    np.savez(folder / "batch.npz", allow_pickle=False, **acted(model))
    words = {"vocabulary": PALIGEMMA["vocab_size"]}
    sizes = {"vlm": PI05, "expert": EXPERT, "vision": VISION, **words}
    (folder / "sizes.json").write_text(json.dumps(sizes))


def acted(model: Any) -> dict[str, np.ndarray]:
    """A batch with a missing camera and padded text, its loss, and the chunk after ten steps."""
    images = [torch.rand(BATCH, 3, 28, 28) * 2 - 1 for _ in range(3)]
    seen = [torch.ones(BATCH, dtype=torch.bool) for _ in range(3)]
    seen[2][1] = False
    tokens = torch.randint(1, PALIGEMMA["vocab_size"], (BATCH, TOKENS))
    there = torch.arange(TOKENS)[None] < torch.tensor([[TOKENS], [TOKENS - 5]])
    action, noise = (torch.randn(BATCH, HORIZON, ACTION) for _ in range(2))
    time = torch.tensor([0.3, 0.8])
    given = (images, seen, tokens, there)
    loss = model.forward(*given, action, noise=noise, time=time)
    found = {
        "tok": tokens, "tokm": there, "act": action, "noise": noise, "t": time, "loss": loss,
        "prefix": model.embed_prefix(*given)[0],
        "sampled": model.sample_actions(*given, noise=noise, num_steps=10),
    }  # fmt: skip
    for n in range(3):
        found |= {f"image/{n}": images[n].permute(0, 2, 3, 1), f"imask/{n}": seen[n]}
    return {name: x.numpy() for name, x in found.items()}


def randomised(model: Any) -> Any:
    """Every tensor random: what starts at zero or one would exercise nothing."""
    for parameter in model.parameters():
        size = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.normal_(0.0, size)
    return model.eval()


def named(prefix: str, found: dict[str, torch.Tensor], model: Any) -> dict[str, np.ndarray]:
    """Inputs and outputs, and the parameters below `p/`."""
    tensors = {f"p/{name}": x for name, x in model.state_dict().items()}
    return {f"{prefix}{name}": x.numpy() for name, x in (found | tensors).items()}


if __name__ == "__main__":
    main()
