"""Algorithm 2: one update of DIVL and QAM; and the supervised one before it (Algorithm 1, line 2).

Both are pure: (state, batch, key, rates) to (state, metrics). An update whose losses or gradients
are not finite leaves everything but the update count as it was.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lwd.algorithms import divl, flow, qam
from lwd.algorithms.ema import ema
from lwd.config import QamConfig, StageConfig
from lwd.learner import heads, value_head
from lwd.learner.loss import ROW_LOSS, Metrics
from lwd.learner.state import Nets, Optimisers, Rates, TrainState, Transitions
from lwd.learner.trust import trusted
from lwd.models.fns import CriticFns, Inputs, Params, PolicyFns


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
    """Algorithm 2: learn the values of the batch, then extract the policy from them."""
    valued, value_metrics = learn_values(state, batch, rates, nets.critic, optimisers, stage)
    new, policy_metrics = extract_policy(valued, batch, key, rates, nets, optimisers, stage)
    return commit(state, new, value_metrics | policy_metrics)


def critic_update(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    *,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """Algorithm 2 without lines 7-11, for the updates between two of the policy."""
    del key  # nothing is drawn
    return commit(state, *learn_values(state, batch, rates, nets.critic, optimisers, stage))


def learn_values(
    state: TrainState,
    batch: Transitions,
    rates: Rates,
    critic: CriticFns,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """Distributional implicit value learning (Algorithm 2, lines 2-6)."""
    q_replay = critic.q(state.target_q, batch.inputs, batch.action).min(0)

    def value_loss(psi: Params) -> tuple[Array, Metrics]:  # Eq. 12
        outputs = critic.value_logits(psi, batch.inputs)
        return value_head.loss(outputs, q_replay, rates.tau_base, stage.divl)

    psi, value_state, value_metrics = descend(
        "value", value_loss, state.value, optimisers.value, state.optimiser.value, rates.critic
    )
    averaged = _average(state.target_value, psi, stage.optimiser.value_ema_rate)
    outputs = critic.value_logits(psi if averaged is None else averaged, batch.next_inputs)
    bootstrap, bootstrap_metrics = value_head.bootstrap(outputs, rates.tau_base, stage.divl)
    y, target_metrics = divl.td_target(  # Eq. 19
        batch.returns, batch.discount, bootstrap, stage.divl.target_clip
    )

    def q_loss(phi: Params) -> tuple[Array, Metrics]:  # Eq. 15
        q = critic.q(phi, batch.inputs, batch.action)
        loss, metrics = divl.critic_loss(q, y)
        if not stage.loss_adaptive:
            return loss, metrics
        return loss, metrics | {ROW_LOSS: jnp.square(q.astype(jnp.float32) - y).mean(axis=0)}

    phi, q_state, q_metrics = descend(
        "critic", q_loss, state.q, optimisers.q, state.optimiser.q, rates.critic
    )
    new = state._replace(
        value=psi,
        target_value=averaged,
        q=phi,
        target_q=ema(state.target_q, phi, stage.optimiser.ema_rate),
        optimiser=state.optimiser._replace(value=value_state, q=q_state),
    )
    return new, value_metrics | bootstrap_metrics | target_metrics | q_metrics


def extract_policy(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """Q-learning with adjoint matching (Algorithm 2, lines 7-11)."""
    gradient = _action_gradient(nets.critic, state, batch.inputs, stage.qam)
    gradient, trust_metrics = trusted(gradient, state, batch, key, nets, stage.qam)
    policy_loss = partial(
        _adjoint_matching, state.reference, batch, key, nets.policy, stage.qam, gradient
    )
    theta, policy_state, metrics = descend(
        "policy", policy_loss, state.policy, optimisers.policy, state.optimiser.policy, rates.policy
    )
    optimiser = state.optimiser._replace(policy=policy_state)
    return state._replace(policy=theta, optimiser=optimiser), metrics | trust_metrics


def sft_update(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    *,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """Flow matching on demonstrations (Algorithm 1, line 2; Eq. 34)."""
    policy = nets.policy
    noise_key, time_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, batch.action.shape)
    times = jax.random.uniform(time_key, batch.action.shape[:1])

    def loss(theta: Params) -> tuple[Array, Metrics]:
        context = policy.encode(theta, batch.inputs)
        return flow.sft_loss(
            lambda a, w: policy.velocity(theta, context, a, w),
            batch.action, noise, times, batch.action_mask,
        )  # fmt: skip

    theta, policy_state, metrics = descend(
        "policy", loss, state.policy, optimisers.policy, state.optimiser.policy, rates.policy
    )
    new = state._replace(policy=theta, optimiser=state.optimiser._replace(policy=policy_state))
    return commit(state, new, metrics)


def _average(target: Params | None, psi: Params, rate: float | None) -> Params | None:
    """The next target value network, where the learner keeps one; without a rate a copy of V."""
    if target is None or rate is None:
        return None if target is None else jax.tree.map(jnp.copy, psi)
    return ema(target, psi, rate)


def _action_gradient(
    critic: CriticFns, state: TrainState, inputs: Inputs, config: QamConfig
) -> qam.CriticGradient:
    """a to dQ/da, the source of the adjoint (Eq. 10)."""
    q = heads.worth(critic, state, inputs, config)
    gradient = jax.grad(lambda a: q(a).sum())
    return gradient if config.action_box is None else qam.boxed(gradient, config.action_box)


def _adjoint_matching(
    beta: Params, batch: Transitions, key: Array, policy: PolicyFns, config: QamConfig,
    action_gradient: Callable[[Array], Array], theta: Params,
) -> tuple[Array, Metrics]:  # fmt: skip
    """Eq. 9 on chunks that the current policy generates."""
    noise_key, path_key = jax.random.split(key)
    context, fixed = policy.encode(theta, batch.inputs), policy.encode(beta, batch.inputs)
    loss, metrics = qam.adjoint_matching_loss(
        lambda a, w: policy.velocity(theta, context, a, w),
        lambda a, w: policy.velocity(beta, fixed, a, w),
        action_gradient,
        jax.random.normal(noise_key, batch.action.shape),
        path_key,
        steps=config.steps,
        inv_temp=config.inv_temp,
        sampler=config.sampler,
        action_mask=batch.action_mask,
        weighting=config.weighting,
        recompute=config.recompute,
    )
    return config.loss_weight * loss, metrics


def descend(
    name: str,
    loss: Callable[[Params], tuple[Array, Metrics]],
    params: Params,
    optimiser: optax.GradientTransformation,
    optimiser_state: optax.OptState,
    rate: Array,
) -> tuple[Params, optax.OptState, Metrics]:
    """One gradient step on the network `name`; metrics gain the norms of gradient and step."""
    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params)
    steps, optimiser_state = optimiser.update(grads, optimiser_state, params)
    new = jax.tree.map(lambda p, step: p - rate * step, params, steps)
    norms = {
        f"{name}/grad_norm": optax.tree.norm(grads),
        f"{name}/step_norm": rate * optax.tree.norm(steps),
    }
    return new, optimiser_state, metrics | norms


def commit(old: TrainState, new: TrainState, metrics: Metrics) -> tuple[TrainState, Metrics]:
    """All of the update or nothing of it: only if every metric, every parameter and everything
    that an optimiser remembers is finite."""
    pairs = list(zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True))
    written = [leaf for leaf, before in pairs if leaf is not before]
    finite = jnp.stack([jnp.isfinite(x).all() for x in (*metrics.values(), *written)]).all()
    state = jax.tree.map(lambda a, b: a if a is b else jnp.where(finite, a, b), new, old)
    return state._replace(update=old.update + 1), metrics | {"finite": finite}
