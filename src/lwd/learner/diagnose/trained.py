"""The networks of a checkpoint, asked with arrays in network units and answering with arrays."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lwd.algorithms.flow import euler_sample
from lwd.config import ControlConfig, LearnerConfig, StageConfig
from lwd.errors import ConfigError
from lwd.learner import feed, value_head
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.recipes import fresh, nets
from lwd.learner.state import Nets
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Inputs, Params
from lwd.models.normaliser import Normaliser

ROWS = 1024
"""Rows that are evaluated at a time, so that every question compiles once."""


class Values(NamedTuple):
    """What V says of each state, [states]."""

    mean: np.ndarray
    quantile: np.ndarray
    """At the state's own tau: the bootstrap of Eq. 19."""
    low: np.ndarray
    """10 % quantile."""
    median: np.ndarray
    high: np.ndarray
    """90 % quantile."""


class Networks(NamedTuple):
    """Parameters, as in `TrainState`."""

    policy: Params
    reference: Params
    value: Params
    q: Params
    target_q: Params


class Trained:
    """A checkpoint with the settings of the stage that it was written in."""

    def __init__(
        self,
        nets: Nets,
        networks: Networks,
        normaliser: Normaliser,
        at: Position,
        stage: StageConfig,
        control: ControlConfig,
    ) -> None:
        self.nets, self.networks, self.normaliser = nets, networks, normaliser
        self.at, self.stage, self.control = at, stage, control

    @property
    def critic_params(self) -> Params:
        """The Q heads whose gradient the policy follows."""
        online = self.stage.qam.critic_gradient.startswith("online")
        return self.networks.q if online else self.networks.target_q

    def reduce(self, heads: np.ndarray) -> np.ndarray:
        """[critics, ...] to the Q that the policy follows: the mean of the heads, or the least."""
        smallest = self.stage.qam.critic_gradient.endswith("min")
        return heads.min(0) if smallest else heads.mean(0)

    def heads(self, inputs: Inputs, chunks: np.ndarray) -> np.ndarray:
        """[critics, rows] Q of chunks [rows, horizon, action]."""
        return in_blocks(self._heads, inputs, chunks).T

    def slope(self, inputs: Inputs, chunks: np.ndarray) -> np.ndarray:
        """dQ/da [rows, horizon, action] by differentiation."""
        return in_blocks(self._slope, inputs, chunks)

    def sample(self, params: Params, inputs: Inputs, noise: np.ndarray) -> np.ndarray:
        """Chunks of the policy or of the reference from noise, as a robot samples them."""
        return in_blocks(lambda *rows: self._sample(params, *rows), inputs, noise)

    def velocity(
        self, params: Params, inputs: Inputs, chunks: np.ndarray, times: np.ndarray
    ) -> np.ndarray:
        """Velocity of the policy or of the reference at points of the flow."""
        return in_blocks(lambda *rows: self._velocity(params, *rows), inputs, chunks, times)

    def values(self, inputs: Inputs) -> Values:
        """What V says."""
        return Values(*in_blocks(self._values, inputs).T)

    @cached_property
    def _heads(self) -> Callable[..., jax.Array]:
        q, params = self.nets.critic.q, self.critic_params
        return jax.jit(lambda inputs, a: q(params, inputs, a).T)

    @cached_property
    def _slope(self) -> Callable[..., jax.Array]:
        q, params = self.nets.critic.q, self.critic_params
        reduce = jnp.min if self.stage.qam.critic_gradient.endswith("min") else jnp.mean
        return jax.jit(
            lambda inputs, a: jax.grad(lambda x: reduce(q(params, inputs, x), 0).sum())(a)
        )

    @cached_property
    def _sample(self) -> Callable[..., jax.Array]:
        policy = self.nets.policy

        def sample(params: Params, inputs: Inputs, noise: jax.Array) -> jax.Array:
            context = policy.encode(params, inputs)
            return euler_sample(
                lambda a, w: policy.velocity(params, context, a, w), noise, FLOW_STEPS
            )

        return jax.jit(sample)

    @cached_property
    def _velocity(self) -> Callable[..., jax.Array]:
        policy = self.nets.policy
        return jax.jit(lambda p, inputs, a, w: policy.velocity(p, policy.encode(p, inputs), a, w))

    @cached_property
    def _values(self) -> Callable[..., jax.Array]:
        outputs, params, stage = self.nets.critic.value_logits, self.networks.value, self.stage

        def values(inputs: Inputs) -> jax.Array:
            found, tau_base = outputs(params, inputs), stage.divl.tau_base
            mean = value_head.mean(found, stage.divl)
            at_tau, _ = value_head.bootstrap(found, tau_base, stage.divl)
            spread = value_head.quantiles(found, (0.1, 0.5, 0.9), stage.divl)
            return jnp.concatenate([jnp.stack([mean, at_tau], axis=-1), spread], axis=-1)

        return jax.jit(values)


def load(config: LearnerConfig, folder: Path, *, step: int | None = None) -> Trained:
    """The newest checkpoint in `folder`, or number `step`; ConfigError if it is absent."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give the root of a run that was trained.")
    whole = feed.replicate(fresh(config, jax.random.key(0)), feed.mesh())
    like = {name: getattr(whole, name) for name in Networks._fields}
    checkpoints = Checkpoints(folder)
    restored = checkpoints.networks(like, step=step)
    checkpoints.close()
    if restored is None:
        raise ConfigError(f"{folder} holds no checkpoint; train first, or give another folder.")
    at, networks, normaliser = restored
    stage = config.stage(at.stage)
    return Trained(nets(config), Networks(**networks), normaliser, at, stage, config.control)


def in_blocks(function: Callable[..., jax.Array], *rows: Inputs | np.ndarray) -> np.ndarray:
    """`function` over any number of rows, `ROWS` at a time; the last block is filled up."""
    count = len(jax.tree.leaves(rows)[0])
    found = []
    for first in range(0, count, ROWS):
        index = np.minimum(np.arange(first, first + ROWS), count - 1)
        block = jax.tree.map(lambda x, at=index: jnp.asarray(np.asarray(x)[at]), rows)
        found.append(np.asarray(function(*block)))
    return np.concatenate(found)[:count]
