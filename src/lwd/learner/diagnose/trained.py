"""The networks of a checkpoint, asked with arrays in network units and answering with arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lwd.config import ControlConfig, LearnerConfig, StageConfig
from lwd.episode.types import Episode
from lwd.errors import ConfigError
from lwd.learner import feed, value_head
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.heads import judge, reduced, worth
from lwd.learner.recipes import input_format_of, losses, nets, preparation, shapes
from lwd.learner.settings import from_json
from lwd.learner.state import Nets, Networks
from lwd.models.acts import Acting, Parts, act_of
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Inputs, Params
from lwd.models.inputs.preparation import Preparation
from lwd.models.presets import cameras
from lwd.models.sharding import mesh

ROWS = 1024
"""Rows that are evaluated at a time, at most; fewer are filled up to a power of two, so that few
questions compile twice."""


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A checkpoint with the settings that it was trained with, and the way in which robots act."""

    nets: Nets
    networks: Networks
    normaliser: Preparation
    at: Position
    config: LearnerConfig
    acting: Acting

    @property
    def stage(self) -> StageConfig:
        """Settings of the stage that the checkpoint was written in."""
        return self.config.stage(self.at.stage)

    @property
    def control(self) -> ControlConfig:
        """Rate and chunk length of the policy."""
        return self.config.control

    def reduce(self, heads: np.ndarray) -> np.ndarray:
        """[critics, ...] to the Q that the policy follows."""
        return reduced(heads, self.stage.qam)

    def heads(self, inputs: Inputs, chunks: np.ndarray) -> np.ndarray:
        """[critics, rows] Q of chunks [rows, horizon, action]."""
        return in_blocks(self._heads, inputs, chunks).T

    def slope(self, inputs: Inputs, chunks: np.ndarray) -> np.ndarray:
        """dQ/da [rows, horizon, action] by differentiation."""
        return in_blocks(self._slope, inputs, chunks)

    def noise(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        """[rows, draws, horizon, action] standard normal draws, as many as an act of a robot
        needs for each chunk."""
        draws = act_of(self.acting.act).draws(self.acting.settings)
        shape = (rows, draws, self.control.horizon, self.normaliser.dimensions)
        return rng.standard_normal(shape, np.float32)

    def sample(self, inputs: Inputs, noise: np.ndarray) -> np.ndarray:
        """The policy's chunks [rows, horizon, action] from `noise`, as a robot makes them."""
        return in_blocks(self._sample, inputs, noise)

    def sample_reference(self, inputs: Inputs, noise: np.ndarray) -> np.ndarray:
        """The reference's chunks from the first draw of the same noise, by its plain flow."""
        return in_blocks(self._sample_reference, inputs, noise[:, 0])

    def velocity(
        self, params: Params, inputs: Inputs, chunks: np.ndarray, times: np.ndarray
    ) -> np.ndarray:
        """Velocity of the policy's or of the reference's flow at points of it."""
        return in_blocks(lambda *rows: self._velocity(params, *rows), inputs, chunks, times)

    def values(self, inputs: Inputs) -> Values:
        """What V says."""
        return Values(*in_blocks(self._values, inputs).T)

    def along(self, episode: Episode) -> Values:
        """What V says of every state of an episode that an action follows, [ticks] (Fig. 9).

        The last state is left out: where an episode ended by itself nothing is learnt of it. A
        critic that sees is asked where there are images; its last answer holds until the next.
        """
        return Values(*self._held(self._values, episode).T)

    def distribution_along(self, episode: Episode) -> np.ndarray:
        """[ticks, atoms] probabilities of a categorical V, of the same states."""
        return self._held(self._distribution, episode)

    def _held(self, ask: Callable[..., jax.Array], episode: Episode) -> np.ndarray:
        """[ticks, ...] answers along an episode, each until there is another."""
        rows = seen_rows(episode, self.cameras)
        found = in_blocks(ask, inputs(episode, rows, self.normaliser))
        latest = np.searchsorted(rows, np.arange(episode.ticks), side="right") - 1
        return found[latest]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Of the robot, what the networks see with."""
        return cameras(self.config.preset, self.control, self.config.embodiment)

    @property
    def image_size(self) -> int | None:
        """Pixels of a side of the images that they see; None for networks on state vectors."""
        robot = input_format_of(self.config)
        return None if robot is None else robot.image

    @cached_property
    def _heads(self) -> Callable[..., jax.Array]:
        return jax.jit(
            lambda inputs, a: judge(self.nets.critic, self.networks, inputs, self.stage.qam)(a).T
        )

    @cached_property
    def _slope(self) -> Callable[..., jax.Array]:
        def slope(inputs: Inputs, a: jax.Array) -> jax.Array:
            q = worth(self.nets.critic, self.networks, inputs, self.stage.qam)
            return jax.grad(lambda a: q(a).sum())(a)

        return jax.jit(slope)

    @cached_property
    def _sample(self) -> Callable[..., jax.Array]:
        act, settings = act_of(self.acting.act), self.acting.settings

        def sample(inputs: Inputs, noise: jax.Array) -> jax.Array:
            parts = self._parts(self.networks.policy, inputs)
            return act.sample(parts, jnp.swapaxes(noise, 0, 1), settings)

        return jax.jit(sample)

    @cached_property
    def _sample_reference(self) -> Callable[..., jax.Array]:
        return jax.jit(lambda inputs, z: self._parts(self.networks.beta, inputs).flow(z))

    def _parts(self, params: Params, inputs: Inputs) -> Parts:
        return Parts(
            policy=self.nets.policy,
            critic=self.nets.critic,
            params=params,
            extra=self.acting.extra,
            inputs=inputs,
            steps=FLOW_STEPS,
        )

    @cached_property
    def _velocity(self) -> Callable[..., jax.Array]:
        policy = self.nets.policy
        return jax.jit(lambda p, inputs, a, w: policy.velocity(p, policy.encode(p, inputs), a, w))

    @cached_property
    def _values(self) -> Callable[..., jax.Array]:
        outputs, stage, of = self.nets.critic.value_logits, self.stage, self.networks
        target = of.value if of.target_value is None else of.target_value

        def values(inputs: Inputs) -> jax.Array:
            seen = self.nets.critic.encode(of.target_q, inputs)
            found, tau_base = outputs(of.value, seen), stage.divl.tau_base
            mean = value_head.mean(found, stage.divl)
            at_tau, _ = value_head.bootstrap(outputs(target, seen), tau_base, stage.divl)
            spread = value_head.quantiles(found, (0.1, 0.5, 0.9), stage.divl)
            return jnp.concatenate([jnp.stack([mean, at_tau], axis=-1), spread], axis=-1)

        return jax.jit(values)

    @cached_property
    def _distribution(self) -> Callable[..., jax.Array]:
        critic, of = self.nets.critic, self.networks

        def distribution(inputs: Inputs) -> jax.Array:
            return jax.nn.softmax(critic.value_logits(of.value, critic.encode(of.target_q, inputs)))

        return jax.jit(distribution)


def load(
    folder: Path, *, step: int | None = None, otherwise: LearnerConfig | None = None
) -> Trained:
    """The newest checkpoint in `folder`, or number `step`, with its own settings.

    `otherwise` are those of a checkpoint that does not know its own, as before they were kept.
    Raises ConfigError if there is no such checkpoint, or none of its settings are known.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give the root of a run that was trained.")
    checkpoints = Checkpoints(folder)
    try:
        return _load(checkpoints, folder, step, otherwise)
    finally:
        checkpoints.close()


def _load(
    checkpoints: Checkpoints, folder: Path, step: int | None, otherwise: LearnerConfig | None
) -> Trained:
    kept = checkpoints.settings(step)
    config = otherwise if kept is None else from_json(kept)
    if config is None:
        raise ConfigError(
            f"{folder} holds no checkpoint with its settings; train first, give another folder, or "
            f"name the recipe of an older run."
        )
    wanted = feed.placed(shapes(config).networks, mesh())
    found = checkpoints.networks(wanted._asdict(), step=step)
    if found is None:
        raise ConfigError(f"{folder} holds no checkpoint; train first, or give another folder.")
    networks = Networks(**found.networks)
    return Trained(
        nets=nets(config),
        networks=networks,
        normaliser=preparation(config, found.statistics),
        at=found.position,
        config=config,
        acting=_acting(config, found.position.stage, networks),
    )


def _acting(config: LearnerConfig, stage: str, networks: Networks) -> Acting:
    """As robots do after `stage`: where nothing is published, by the newest stage before it."""
    stages = list(config.stages)
    for name in reversed(stages[: stages.index(stage) + 1]):
        if (acting := losses(config.recipe)[name].acting) is not None:
            return acting(networks, config.stage(name))
    return Acting()


def seen_rows(episode: Episode, cameras: Sequence[str]) -> np.ndarray:
    """States of an episode of which all of `cameras` have an image; ConfigError if the first has
    none."""
    none = (None,) * (episode.ticks + 1)
    kept = zip(*(episode.images.get(camera, none) for camera in cameras), strict=True)
    seen = np.array([None not in row for row in kept]) if cameras else np.ones(len(none), bool)
    if not seen[0]:
        raise ConfigError(
            f"episode {episode.header.episode_id} has no images of {', '.join(cameras)}, which "
            "the networks see with; its images are "
            f"{', '.join(sorted(episode.images)) or 'none'}."
        )
    return np.flatnonzero(seen)


def inputs(episode: Episode, rows: np.ndarray, normaliser: Preparation) -> Inputs:
    """Network inputs of some states of an episode."""
    images = {name: [kept[row] for row in rows] for name, kept in episode.images.items()}
    said = [episode.header.instruction] * len(rows)
    return Inputs(*normaliser.observe(episode.state[rows], images, said))  # pyright: ignore


def in_blocks(function: Callable[..., jax.Array], *rows: Inputs | np.ndarray) -> np.ndarray:
    """`function` over any number of rows, `ROWS` at a time; the last block is filled up."""
    count = len(jax.tree.leaves(rows)[0])
    found, size = [], min(ROWS, 1 << (count - 1).bit_length())
    for first in range(0, count, size):
        index = np.minimum(np.arange(first, first + size), count - 1)
        block = jax.tree.map(lambda x, at=index: jnp.asarray(np.asarray(x)[at]), rows)
        found.append(np.asarray(function(*block)))
    return np.concatenate(found)[:count]
