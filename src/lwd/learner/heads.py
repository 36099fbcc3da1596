"""Which Q a policy follows: the online heads or their targets, the mean of all or the least.

The paper has two heads and does not say which of them gives the action gradient; one setting,
`QamConfig.critic_gradient`, says it for updates, trust gate, robots and diagnosis alike.
"""

from typing import Literal, TypeVar

import numpy as np
from jax import Array

from lwd.algorithms.sac import Critic, Value
from lwd.config import QamConfig
from lwd.learner.state import Networks, TrainState
from lwd.models.fns import CriticFns, Inputs, Params

Numbers = TypeVar("Numbers", Array, np.ndarray)


def chosen(state: TrainState | Networks, config: QamConfig) -> Params:
    """Parameters of the heads."""
    return state.q if config.critic_gradient.startswith("online") else state.target_q


def reduction(config: QamConfig) -> Literal["mean", "min"]:
    """Whether the mean of the heads or the least counts."""
    return "min" if config.critic_gradient.endswith("min") else "mean"


def reduced(q: Numbers, config: QamConfig) -> Numbers:
    """[critics, ...] to the one number that counts."""
    return q.min(0) if reduction(config) == "min" else q.mean(0)  # pyright: ignore


def judge(
    critic: CriticFns, state: TrainState | Networks, inputs: Inputs, config: QamConfig
) -> Critic:
    """Every head's Q of chunks, at `inputs`."""
    params = chosen(state, config)
    seen = critic.encode(params, inputs)
    return lambda a: critic.q(params, seen, a)


def worth(
    critic: CriticFns, state: TrainState | Networks, inputs: Inputs, config: QamConfig
) -> Value:
    """The Q of chunks that the policy follows, at `inputs`."""
    heads = judge(critic, state, inputs, config)
    return lambda a: reduced(heads(a), config)
