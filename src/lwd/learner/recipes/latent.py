"""Latent steering, DSRL (Wagenmaker et al. 2025): as `lwd`, with a chosen noise in QAM's place.

The flow stays what SFT made it. A second critic learns what Q says of the chunk that the flow makes
of a noise, a soft actor-critic chooses the noise by it, and robots hand that to the flow.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from lwd.algorithms.latent import noise_actor_loss, noise_critic_loss
from lwd.config import COMPACT, ControlConfig, LearnerConfig, StageConfig
from lwd.config.require import require_positive
from lwd.learner.actors import SoftStage, box, learn, train_extra
from lwd.learner.heads import judge, reduced
from lwd.learner.loss import Loss, Metrics
from lwd.learner.recipes import lwd
from lwd.learner.state import Nets, Networks, Optimisers, Rates, TrainState, Transitions
from lwd.models.acts import Acting, gaussian, velocity
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Params


@dataclass(frozen=True, kw_only=True)
class SteeredStage(SoftStage):
    """A stage that trains an actor of the flow's noise."""

    noise_bound: float = 1.5
    """Largest number of the noise; the flow was trained on standard normal ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "noise_bound")


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """`lwd`, with a noise critic and a noise actor that learn in every update."""
    base = lwd.settings(control, seed=seed)
    return lwd.with_stages("latent", SteeredStage, base, policy_every=1)


def judge_noise(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """One step of the noise critic."""
    assert isinstance(stage, SteeredStage)
    noise = jax.random.normal(key, batch.action.shape)

    def loss(params: Params) -> tuple[Array, Metrics]:
        seen = nets.critic.encode(params, batch.inputs)
        return noise_critic_loss(
            lambda z: nets.critic.q(params, seen, z),
            judge(nets.critic, state, batch.inputs, stage.qam),
            velocity(nets.policy, state.policy, batch.inputs),
            noise,
            steps=FLOW_STEPS,
            action_bound=box(stage),
        )

    return train_extra("noise_critic", loss, state, optimisers, rates.critic)


def choose_noise(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """One step of the noise actor and of its entropy's coefficient."""
    assert isinstance(stage, SteeredStage)
    noise = jax.random.normal(key, batch.action.shape)
    judged = state.extra["noise_critic"]
    seen = nets.critic.encode(judged, batch.inputs)

    def loss(params: Params) -> tuple[Array, Metrics]:
        actor = gaussian(nets.policy, params["net"], batch.inputs)
        return noise_actor_loss(
            actor(jnp.zeros_like(noise)),
            params["log_coefficient"] + math.log(stage.coefficient),
            lambda z: reduced(nets.critic.q(judged, seen, z), stage.qam),
            noise,
            bound=stage.noise_bound,
            target_entropy=stage.target_entropy,
        )

    return train_extra("noise_actor", loss, state, optimisers, rates.policy)


def noise_nets(key: Array, nets: Nets) -> dict[str, Params]:
    """Networks of the critic's and of the policy's kind; how far the coefficient is from its
    start."""
    critic_key, actor_key = jax.random.split(key)
    actor = {"net": nets.policy.init(actor_key), "log_coefficient": jnp.zeros(())}
    return {"noise_critic": nets.critic.init_q(critic_key), "noise_actor": actor}


def acting(networks: Networks, stage: StageConfig) -> Acting:
    """Robots choose the noise of the flow."""
    assert isinstance(stage, SteeredStage)
    nets = {"noise_actor": networks.extra["noise_actor"]["net"]}
    bounds = {"noise_bound": stage.noise_bound, "bound": box(stage)}
    return Acting(act="steered", extra=nets, settings=bounds)


RL = Loss(learn(judge_noise, choose_noise), extra=noise_nets, acting=acting)
LOSSES = lwd.with_rl(RL)
