"""Algorithm 2: one update of DIVL and QAM; and the supervised one before it (Algorithm 1, line 2).

Both are pure: (state, batch, key, rates) to (state, metrics). An update whose losses or gradients
are not finite leaves everything but the update count as it was.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lwd.algorithms import divl, flow, qam
from lwd.algorithms.ema import ema
from lwd.algorithms.flow import Mask, Velocity
from lwd.algorithms.sac import Critic
from lwd.config import QamConfig, StageConfig
from lwd.learner import heads, value_head
from lwd.learner.loss import ROW_LOSS, Metrics
from lwd.learner.state import Nets, Optimisers, Rates, TrainState, Transitions, trained
from lwd.learner.trust import trusted
from lwd.models.fns import CriticFns, Inputs, Params, PolicyFns, combine, take


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
    now, then = (critic.encode(state.target_q, seen) for seen in (batch.inputs, batch.next_inputs))
    q_replay = critic.q(state.target_q, now, batch.action).min(0)

    def value_loss(psi: Params) -> tuple[Array, Metrics]:  # Eq. 12
        outputs = critic.value_logits(psi, now)
        return value_head.loss(outputs, q_replay, rates.tau_base, stage.divl)

    psi, value_state, value_metrics = descend(
        "value", value_loss, state.value, optimisers.value, state.optimiser.value, rates.critic
    )
    averaged = _average(state.target_value, psi, stage.optimiser.value_ema_rate)
    outputs = critic.value_logits(psi if averaged is None else averaged, then)
    bootstrap, bootstrap_metrics = value_head.bootstrap(outputs, rates.tau_base, stage.divl)
    y, target_metrics = divl.td_target(  # Eq. 19
        batch.returns, batch.discount, bootstrap, stage.divl.target_clip
    )

    def q_loss(phi: Params, rows: Transitions, y: Array) -> tuple[Array, Metrics]:  # Eq. 15
        q = critic.q(phi, critic.encode(phi, rows.inputs), rows.action)
        loss, metrics = divl.critic_loss(q, y)
        if not stage.loss_adaptive:
            return loss, metrics
        return loss, metrics | {ROW_LOSS: jnp.square(q.astype(jnp.float32) - y[None]).mean(axis=0)}

    phi, q_state, q_metrics = descend(
        "critic",
        in_parts(q_loss, stage.parts, batch, y),
        state.q,
        optimisers.q,
        state.optimiser.q,
        rates.critic,
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
    """Q-learning with adjoint matching (Algorithm 2, lines 7-11).

    What policy, reference and critic see of a batch is encoded once, for the roll-out, the adjoint,
    the regression and the trust gate, over all flow steps.
    """
    keys = jax.random.split(key, stage.parts) if stage.parts > 1 else key[None]

    def loss(theta: Params, rows: Transitions, key: Array) -> tuple[Array, Metrics]:
        velocity, still, reference = _flows(theta, state.beta, rows.inputs, nets.policy, stage.qam)
        q = heads.judge(nets.critic, state, rows.inputs, stage.qam)
        noise_key, path_key, gate_key = jax.random.split(key[0], 3)
        gradient = _action_gradient(q, stage.qam)
        gradient, trust_metrics = trusted(gradient, q, still, reference, rows, gate_key, stage.qam)
        noise = jax.random.normal(noise_key, rows.action.shape)
        loss, metrics = _adjoint_matching(
            velocity, reference, gradient, noise, path_key, rows.action_mask, stage.qam
        )
        return loss, metrics | trust_metrics

    return train_policy(
        in_parts(loss, stage.parts, batch, keys), state, rates, nets, optimisers, stage
    )


def train_policy(
    loss: Callable[[Params], tuple[Array, Metrics]],
    state: TrainState,
    rates: Rates,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """One gradient step on the part of the policy that the stage trains."""
    theta, after, metrics = descend(
        "policy", loss, state.policy, optimisers.policy, state.optimiser.policy, rates.policy,
        trained(nets.policy, stage),
    )  # fmt: skip
    return state._replace(policy=theta, optimiser=state.optimiser._replace(policy=after)), metrics


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
    size, *chunk = batch.action.shape
    noise = jax.random.normal(noise_key, (size, stage.draws, *chunk))
    times = jax.random.uniform(time_key, (size, stage.draws))

    def loss(theta: Params, rows: Transitions, noise: Array, times: Array) -> tuple[Array, Metrics]:
        context = policy.encode(theta, rows.inputs)

        def of_a_draw(noise: Array, times: Array) -> tuple[Array, Metrics]:
            return flow.sft_loss(
                lambda a, w: policy.velocity(theta, context, a, w),
                rows.action, noise, times, rows.action_mask, of=policy.predicts,
            )  # fmt: skip

        each = jax.vmap(of_a_draw, in_axes=1)(noise, times)
        return jax.tree.map(lambda x: x.mean(axis=0), each)

    whole = in_parts(loss, stage.parts, batch, noise, times)
    return commit(state, *train_policy(whole, state, rates, nets, optimisers, stage))


def _average(target: Params | None, psi: Params, rate: float | None) -> Params | None:
    """The next target value network, where the learner keeps one; without a rate a copy of V."""
    if target is None or rate is None:
        return None if target is None else jax.tree.map(jnp.copy, psi)
    return ema(target, psi, rate)


def _flows(
    theta: Params, beta: Params, inputs: Inputs, policy: PolicyFns, config: QamConfig
) -> tuple[Velocity, Velocity, Velocity]:
    """The policy's flow, the same without gradients, and the reference's, at `inputs`."""

    def at(params: Params, context: Any) -> Velocity:
        return lambda a, w: policy.velocity(params, context, a, w)

    context = policy.encode(theta, inputs)
    held = jax.lax.stop_gradient((theta, context))
    fixed = held[1] if config.reference == "shared_vlm" else policy.encode(beta, inputs)
    return at(theta, context), at(*held), at(beta, fixed)


def _action_gradient(q: Critic, config: QamConfig) -> qam.CriticGradient:
    """a to dQ/da, the source of the adjoint (Eq. 10)."""
    gradient = jax.grad(lambda a: heads.reduced(q(a), config).sum())
    return gradient if config.action_box is None else qam.boxed(gradient, config.action_box)


def _adjoint_matching(
    velocity: Velocity,
    reference: Velocity,
    gradient: qam.CriticGradient,
    noise: Array,
    key: Array,
    action_mask: Mask,
    config: QamConfig,
) -> tuple[Array, Metrics]:
    """Eq. 9 on chunks that the current policy generates from `noise`."""
    loss, metrics = qam.adjoint_matching_loss(
        velocity,
        reference,
        gradient,
        noise,
        key,
        steps=config.steps,
        inv_temp=config.inv_temp,
        sampler=config.sampler,
        action_mask=action_mask,
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
    wanted: Callable[[str], bool] | None = None,
) -> tuple[Params, optax.OptState, Metrics]:
    """One gradient step on the network `name`; metrics gain the norms of gradient and step.

    Parameters whose path is not `wanted` stay, and cost neither gradients nor memory of the
    optimiser.
    """
    mine, frozen = params, None
    if wanted is not None:
        mine, frozen = take(params, wanted), take(params, lambda path: not wanted(path))

    def loss_of_mine(mine: Params) -> tuple[Array, Metrics]:
        return loss(mine if frozen is None else combine(mine, frozen))

    (_, metrics), grads = jax.value_and_grad(loss_of_mine, has_aux=True)(mine)
    steps, optimiser_state = optimiser.update(grads, optimiser_state, mine)
    new = jax.tree.map(lambda p, step: p - rate * step, mine, steps)
    new = new if frozen is None else combine(new, frozen)
    norms = {
        f"{name}/grad_norm": optax.tree.norm(grads),
        f"{name}/step_norm": rate * optax.tree.norm(steps),
    }
    return new, optimiser_state, metrics | norms


def in_parts(
    loss: Callable[..., tuple[Array, Metrics]], parts: int, *rows: Any
) -> Callable[[Params], tuple[Array, Metrics]]:
    """Mean of `loss(params, *rows)` over equal parts of the rows, and of its metrics; metrics of
    each row stay those.

    The parts are taken one after another and evaluated again in the backward pass, so that only
    one of them needs memory at a time. ValueError where the rows do not divide.
    """
    if parts == 1:
        return lambda params: loss(params, *rows)
    if len(jax.tree.leaves(rows[0])[0]) % parts:
        raise ValueError(
            f"a batch of {len(jax.tree.leaves(rows[0])[0])} rows does not divide into {parts} "
            "parts; choose parts that divide the batch."
        )
    split = jax.tree.map(lambda x: x.reshape(parts, len(x) // parts, *x.shape[1:]), rows)

    def whole(params: Params) -> tuple[Array, Metrics]:
        part = jax.checkpoint(lambda _, part: (None, loss(params, *part)))
        _, found = jax.lax.scan(part, None, split)
        return jax.tree.map(lambda x: x.mean(0) if x.ndim == 1 else x.reshape(-1), found)

    return whole


def commit(old: TrainState, new: TrainState, metrics: Metrics) -> tuple[TrainState, Metrics]:
    """All of the update or nothing of it: only if every metric, every parameter and everything
    that an optimiser remembers is finite."""
    pairs = list(zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True))
    written = [leaf for leaf, before in pairs if leaf is not before]
    finite = jnp.stack([jnp.isfinite(x).all() for x in (*metrics.values(), *written)]).all()
    state = jax.tree.map(lambda a, b: a if a is b else jnp.where(finite, a, b), new, old)
    return state._replace(update=old.update + 1), metrics | {"finite": finite}
