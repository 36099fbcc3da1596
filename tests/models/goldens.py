"""The small pi0.5 of the golden numbers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lwd.models import pi05
from lwd.models.gemma import GemmaConfig
from lwd.models.pi05 import Pi05Config
from lwd.models.siglip import SiglipConfig

GOLDEN = Path(__file__).parents[1] / "golden"
BLOCKS = GemmaConfig(width=64, depth=4, mlp=128, heads=8, kv_heads=1, head_dim=16)
CONFIG = Pi05Config(
    vlm=BLOCKS,
    expert=BLOCKS,
    vision=SiglipConfig(width=32, depth=2, mlp=64, heads=2, patch=14, image=28),
    vocabulary=512,
    tokens=10,
    horizon=6,
    action=8,
    bfloat16=False,
)


def random_params(seed: int = 0):
    """Parameters that are random everywhere, also where a fresh model has zeros."""
    rng = np.random.default_rng(seed)
    fresh = jax.eval_shape(lambda: pi05.init(jax.random.key(seed), CONFIG))
    return jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), jnp.float32), fresh)
