"""What recipes share that train an actor beside the flow."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from lwd.config import StageConfig
from lwd.config.require import require_positive
from lwd.errors import ConfigError
from lwd.learner.loss import Metrics, Step
from lwd.learner.state import Nets, Optimisers, Rates, TrainState, Transitions
from lwd.learner.update import commit, critic_update, descend, learn_values
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


@runtime_checkable
class Actor(Protocol):
    """How an update makes a policy of the values that it has just learned."""

    def __call__(
        self,
        state: TrainState,
        batch: Transitions,
        key: Array,
        rates: Rates,
        nets: Nets,
        optimisers: Optimisers,
        stage: StageConfig,
    ) -> tuple[TrainState, Metrics]: ...


def learn(*actors: Actor) -> Callable[[StageConfig, int], Step]:
    """Algorithm 2 with `actors`, one after another, where it has QAM."""

    def update(
        state: TrainState,
        batch: Transitions,
        key: Array,
        rates: Rates,
        *,
        nets: Nets,
        optimisers: Optimisers,
        stage: StageConfig,
    ) -> tuple[TrainState, Metrics]:
        new, metrics = learn_values(state, batch, rates, nets.critic, optimisers, stage)
        for actor, actor_key in zip(actors, jax.random.split(key, len(actors)), strict=True):
            new, found = actor(new, batch, actor_key, rates, nets, optimisers, stage)
            metrics |= found
        return commit(state, new, metrics)

    return every_few(update)


def every_few(update: Step) -> Callable[[StageConfig, int], Step]:
    """`update` in every `policy_every`-th update of a stage, V and Q alone in the others."""
    return lambda stage, number: critic_update if (number + 1) % stage.policy_every else update


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
