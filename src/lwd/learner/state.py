"""What the learner trains and what a checkpoint holds."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Float
from optax.contrib import muon

from lwd.algorithms.flow import Mask
from lwd.config import OptimiserConfig, StageConfig
from lwd.models.fns import CriticFns, Inputs, Params, PolicyFns, combine, take


class Transitions(NamedTuple):
    """A batch in network units: (s_t, a_t, R_t, s_{t+nH}) of Eq. 19."""

    inputs: Inputs
    action: Float[Array, "batch horizon action"]
    action_mask: Mask
    """False where the episode ended inside the chunk; with an axis for the action's dimensions,
    also where one of them is padding."""
    returns: Float[Array, " batch"]
    """Discounted reward inside the window."""
    discount: Float[Array, " batch"]
    """gamma^(ticks to the bootstrap), 0 where the episode ended."""
    next_inputs: Inputs


class Nets(NamedTuple):
    """The functions of the networks, chosen by preset."""

    policy: PolicyFns
    critic: CriticFns


class Optimisers(NamedTuple):
    """A gradient transformation per network (-B2)."""

    policy: optax.GradientTransformation
    value: optax.GradientTransformation
    q: optax.GradientTransformation
    extra: optax.GradientTransformation
    """For each of the networks that only some recipes have."""


class OptimiserStates(NamedTuple):
    """What each network's optimiser remembers."""

    policy: optax.OptState
    value: optax.OptState
    q: optax.OptState
    extra: dict[str, optax.OptState]


class Networks(NamedTuple):
    """What of `TrainState` acting and examining need: all but how it is trained on."""

    policy: Params
    reference: Params
    value: Params
    target_value: Params | None
    q: Params
    target_q: Params
    extra: dict[str, Params]

    @property
    def beta(self) -> Params:
        """The whole reference: what it shares with the policy is the policy's."""
        return combine(self.reference, self.policy)


class TrainState(NamedTuple):
    """Everything that an update reads and writes."""

    policy: Params
    """theta, the flow that robots run."""
    reference: Params
    """beta, fixed after SFT (Algorithm 1, line 3); without what it shares with the policy."""
    value: Params
    """psi, the categorical value distribution."""
    target_value: Params | None
    """Its exponential moving average, where a stage bootstraps from one; else None."""
    q: Params
    """phi, the Q heads."""
    target_q: Params
    """phi bar, their exponential moving average."""
    extra: dict[str, Params]
    """Networks that only some recipes have, by name."""
    optimiser: OptimiserStates
    update: Array
    """Updates applied or skipped in the current stage."""

    @property
    def networks(self) -> Networks:
        """The networks without their training."""
        return Networks(*(getattr(self, name) for name in Networks._fields))

    @property
    def beta(self) -> Params:
        """The whole reference."""
        return self.networks.beta


class Rates(NamedTuple):
    """What changes between updates and stages, so that a change compiles nothing."""

    policy: Array
    """Learning rate of the policy."""
    critic: Array
    """Learning rate of V and Q."""
    tau_base: Array
    """Quantile level of DIVL for confident states."""


def rates(stage: StageConfig) -> Callable[[int], Rates]:
    """Rates of each update of a stage: warm-up, then cosine decay to 10 %."""
    peaks, warmup = stage.optimiser, min(stage.optimiser.warmup, max(stage.updates // 10, 1))
    length = max(stage.updates, warmup + 1)
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, length, end_value=0.1)

    def at(update: int) -> Rates:
        factor = float(np.asarray(shape(update + 1)))
        each = (peaks.policy_lr * factor, peaks.critic_lr * factor, stage.divl.tau_base)
        return Rates(*map(jnp.float32, each))

    return at


def optimisers(config: OptimiserConfig) -> Optimisers:
    """AdamW or Muon for the policy and Adam for the critics after a clip of the norm; rate 1."""
    clip, adam = optax.clip_by_global_norm(config.clip_norm), optax.scale_by_adam()
    decay = optax.add_decayed_weights(config.weight_decay)
    # Muon of optax has a rate and descends; ours is applied, and descends, in `descend`.
    orthogonal = optax.chain(muon(1.0, consistent_rms=0.2), optax.scale(-1.0))
    step = {"adamw": adam, "muon": orthogonal}[config.policy]
    policy, critic = optax.chain(clip, step, decay), optax.chain(clip, adam)
    return Optimisers(policy=policy, value=critic, q=critic, extra=critic)


def init(
    key: Array,
    policy: PolicyFns,
    critic: CriticFns,
    chain: Optimisers,
    extra: dict[str, Params] | None = None,
    *,
    average_value: bool = False,
    share_vlm: bool = False,
) -> TrainState:
    """Fresh networks beside `extra`; targets start as copies (Algorithm 1, line 4)."""
    extra = extra or {}
    policy_key, value_key, q_key = jax.random.split(key, 3)
    theta, psi, phi = policy.init(policy_key), critic.init_value(value_key), critic.init_q(q_key)
    return TrainState(
        policy=theta,
        reference=jax.tree.map(jnp.copy, take(theta, policy.is_expert) if share_vlm else theta),
        value=psi,
        target_value=jax.tree.map(jnp.copy, psi) if average_value else None,
        q=phi,
        target_q=jax.tree.map(jnp.copy, phi),
        extra=extra,
        optimiser=_remember_nothing(chain, theta, psi, phi, extra),
        update=jnp.zeros((), jnp.int32),
    )


def trained(policy: PolicyFns, stage: StageConfig) -> Callable[[str], bool] | None:
    """Which parameters of the policy, by path, a stage trains; None for all."""
    return policy.is_expert if stage.trained == "expert" else None


def start_stage(
    state: TrainState, chain: Optimisers, trained: Callable[[str], bool] | None = None
) -> TrainState:
    """The same networks with fresh optimisers, of what is `trained`, and no updates done."""
    theta = state.policy if trained is None else take(state.policy, trained)
    fresh = _remember_nothing(chain, theta, state.value, state.q, state.extra)
    return state._replace(optimiser=fresh, update=jnp.zeros((), jnp.int32))


def _remember_nothing(
    chain: Optimisers, policy: Params, value: Params, q: Params, extra: dict[str, Params]
) -> OptimiserStates:
    return OptimiserStates(
        policy=chain.policy.init(policy),
        value=chain.value.init(value),
        q=chain.q.init(q),
        extra={name: chain.extra.init(params) for name, params in extra.items()},
    )
