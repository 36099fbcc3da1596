"""What recipes share that train an actor beside the flow."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from lwd.config import StageConfig
from lwd.errors import ConfigError
from lwd.learner.loss import Metrics, Step
from lwd.learner.state import Optimisers, TrainState
from lwd.learner.update import critic_update, descend
from lwd.models.fns import Params


@dataclass(frozen=True, kw_only=True)
class SoftStage(StageConfig):
    """A stage that trains a soft actor, whose entropy is kept on a target."""

    coefficient: float = 1e-3
    """What entropy is worth at the start, in units of Q for each number; it is learned."""
    target_entropy: float = -0.5
    """Entropy that the coefficient is learned for, in nats for each number in (-1, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "coefficient")
        if not -math.inf < self.target_entropy < math.log(2):
            raise ConfigError(
                f"target_entropy is {self.target_entropy}; it must be finite and less than log 2 = "
                f"{math.log(2):.3f}, the most that a number in (-1, 1) can have."
            )


def require_positive(stage: StageConfig, *names: str) -> None:
    """Raise ConfigError unless the settings `names` are positive numbers."""
    for name in names:
        if not (value := getattr(stage, name)) > 0:
            raise ConfigError(f"{name} is {value}; it must be positive.")


def every_policy_update(step: Step) -> Callable[[StageConfig, int], Step]:
    """`step` in every `policy_every`-th update, V and Q alone in the others."""
    return lambda stage, number: critic_update if (number + 1) % stage.policy_every else step


def box(stage: StageConfig) -> float:
    """Bound of the normalised actions that the critic knows; infinite for none."""
    return math.inf if stage.qam.action_box is None else stage.qam.action_box


def train_extra(
    name: str,
    loss: Callable[[Params], tuple[Array, Metrics]],
    state: TrainState,
    optimisers: Optimisers,
    rate: Array,
) -> tuple[TrainState, Metrics]:
    """One gradient step on the extra network `name`."""
    memory = state.optimiser.extra
    params, after, metrics = descend(
        name, loss, state.extra[name], optimisers.extra, memory[name], rate
    )
    optimiser = state.optimiser._replace(extra=memory | {name: after})
    return state._replace(extra=state.extra | {name: params}, optimiser=optimiser), metrics


def copy_of_policy(state: TrainState, name: str) -> TrainState:
    """Let the extra network `name` start from the policy's parameters."""
    copied = jax.tree.map(jnp.copy, state.policy)
    return state._replace(extra=state.extra | {name: copied})
