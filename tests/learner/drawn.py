"""What fits a preset and is drawn: statistics, a batch, and a checkpoint that nobody trained."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lwd.config import LearnerConfig, StateLayout
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.recipes import shapes
from lwd.learner.settings import as_json
from lwd.learner.state import Transitions
from lwd.models.fns import Inputs
from lwd.models.inputs.preparation import Preparation
from lwd.models.presets import ACTION, fit
from lwd.models.presets import cameras as cameras_of


def statistics(config: LearnerConfig) -> Preparation:
    """Of windows of standard normal numbers."""
    rng = np.random.default_rng(0)
    return fit(
        config.preset,
        config.control,
        rng.normal(size=(64, StateLayout().size)).astype(np.float32),
        rng.normal(size=(64, config.control.horizon, ACTION)).astype(np.float32),
    )


def batch(config: LearnerConfig, rows: int = 8) -> Transitions:
    """Zeros in the shapes that the preset learns from, in the dark."""
    made = statistics(config)
    dark = [np.zeros((32, 32, 3), np.uint8)] * rows
    images = dict.fromkeys(cameras_of(config.preset, config.control), dark)
    state = np.zeros((rows, StateLayout().size), np.float32)
    said = ["put the red can on the shelf"] * rows
    inputs = Inputs(*jax.tree.map(jnp.asarray, tuple(made.observe(state, images, said))))
    return Transitions(
        inputs=inputs,
        action=jnp.zeros((rows, config.control.horizon, made.dimensions)),
        action_mask=jnp.ones((rows, config.control.horizon), bool),
        returns=jnp.zeros(rows),
        discount=jnp.ones(rows),
        next_inputs=inputs,
    )


def checkpoint(root: Path, config: LearnerConfig, at: Position) -> Path:
    """Write one, whose critic answers otherwise in every state, into the folder of a run; the
    folder of its checkpoints."""
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), shapes(config, at.stage)
    )
    folder, settings = root / "checkpoints", as_json(config)
    writer = Checkpoints(folder)
    writer.save(at, state, statistics(config), snapshot=1, policy=1, settings=settings)
    writer.close()
    return folder
