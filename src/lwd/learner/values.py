"""What the trained critic expects along an episode (Fig. 9)."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lwd.config import LearnerConfig
from lwd.episode.types import Episode
from lwd.errors import ConfigError
from lwd.learner import feed, value_head
from lwd.learner.checkpoint import Checkpoints
from lwd.learner.recipes import fresh, nets
from lwd.models.fns import Inputs
from lwd.models.tokenizer import tokenize


class Curve(NamedTuple):
    """V(s_t) over the ticks of an episode: quantiles of the value distribution, [ticks + 1]."""

    low: np.ndarray
    """10 % quantile."""
    median: np.ndarray
    high: np.ndarray
    """90 % quantile."""


def value_curves(config: LearnerConfig, folder: Path, episodes: list[Episode]) -> list[Curve]:
    """Curves of `episodes` by the critic of the newest checkpoint in `folder`."""
    critic = nets(config).critic
    like = feed.replicate(fresh(config, jax.random.key(0)), feed.mesh())
    checkpoints = Checkpoints(folder)
    restored = checkpoints.restore(like)
    checkpoints.close()
    if restored is None:
        raise ConfigError(f"{folder} holds no checkpoint; train first, or give another folder.")
    state, normaliser = restored.state, restored.normaliser
    settings = list(config.stages.values())[-1].divl

    @jax.jit
    def quantiles(inputs: Inputs) -> jax.Array:
        outputs = critic.value_logits(state.value, inputs)
        return value_head.quantiles(outputs, (0.1, 0.5, 0.9), settings)

    curves = []
    for episode in episodes:
        tokens = tokenize([episode.header.instruction] * len(episode.state))
        inputs = Inputs(jnp.asarray(normaliser.state(episode.state)), jnp.asarray(tokens))
        curves.append(Curve(*np.asarray(quantiles(inputs)).T))
    return curves
