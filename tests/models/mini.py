"""The smallest VLA that has every part of the large one."""

from lwd.models import presets
from lwd.models.gemma import GemmaConfig
from lwd.models.gemma3 import Gemma3Config
from lwd.models.presets import Vla
from lwd.models.siglip import SiglipConfig


def mini(horizon: int, atoms: int) -> Vla:
    """Twenty thousand parameters, most of them words."""
    blocks = GemmaConfig(width=16, depth=1, mlp=16, heads=2, kv_heads=1, head_dim=8)
    text = Gemma3Config(
        width=16, depth=1, mlp=16, heads=2, head_dim=8, query_scale=8.0, vocabulary=1024,
        causal=False,
    )  # fmt: skip
    vision = SiglipConfig(width=16, depth=1, mlp=16, heads=2, patch=16, image=32)
    return presets._on_a_cpu(blocks, blocks, text, vision, horizon=horizon, atoms=atoms)
