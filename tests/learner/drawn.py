"""A checkpoint that nobody trained: its numbers are drawn, so it answers otherwise everywhere."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lwd.config import LearnerConfig, StateLayout
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.recipes import shapes
from lwd.learner.settings import as_json
from lwd.models.presets import ACTION, fit


def checkpoint(root: Path, config: LearnerConfig, at: Position) -> Path:
    """Write it into the folder of a run; the folder of its checkpoints."""
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), shapes(config, at.stage)
    )
    statistics = fit(
        config.preset,
        config.control,
        rng.normal(size=(64, StateLayout().size)).astype(np.float32),
        rng.normal(size=(64, config.control.horizon, ACTION)).astype(np.float32),
    )
    folder = root / "checkpoints"
    writer = Checkpoints(folder)
    writer.save(at, state, statistics, snapshot=1, policy=1, settings=as_json(config))
    writer.close()
    return folder
