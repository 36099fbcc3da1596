"""Distributional implicit value learning, DIVL (IV-A, -A1).

V(s) is a categorical distribution over `atoms` of the critic's values of the replay's actions; its
tau-quantile is the bootstrap of the critic. `sigma` names the projection onto the atoms, see
`lwd.algorithms.categorical`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lwd.algorithms.categorical import Form, normalised_entropy, project, quantile
from lwd.algorithms.flow import Metrics


def value_loss(
    logits: Float[Array, "batch atoms"],
    q: Float[Array, "batch"],
    atoms: Float[Array, "atoms"],
    sigma: float = 0.0,
) -> tuple[Float[Array, ""], Metrics]:
    """Cross entropy of V(s) with the projected values of the target critic, Eq. 12 and 21.

    `q` is the smaller of the target critic's heads (IV-D), taken before the projection.
    """
    target = project(jax.lax.stop_gradient(q), atoms, sigma)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    loss = -(target * log_probs).sum(axis=-1).mean(axis=0)
    return loss, {"value/loss": loss}


def adaptive_tau(
    entropy: Float[Array, "*batch"],
    tau_base: float | Float[Array, ""],
    alpha: float,
    tau_min: float,
    tau_max: float,
) -> Float[Array, "*batch"]:
    """Quantile level tau = clip(tau_base - alpha H, tau_min, tau_max), Eq. 18.

    alpha = 0 makes it constant, the ablation of Table III (there at 0.52). As H is in [0, 1], the
    clip does nothing unless tau_min > tau_base - alpha or tau_max < tau_base.
    """
    return jnp.clip(tau_base - alpha * entropy, tau_min, tau_max)


def bootstrap(  # noqa: PLR0913
    logits: Float[Array, "*batch atoms"],
    atoms: Float[Array, "atoms"],
    *,
    tau_base: float | Float[Array, ""],
    alpha: float,
    tau_min: float,
    tau_max: float,
    form: Form = "interpolated",
    sigma: float = 0.0,
) -> tuple[Float[Array, "*batch"], Metrics]:
    """Quant_tau(s)(V(s)) of Eq. 19 with its own tau(s), at the state that is bootstrapped from."""
    logits = jax.lax.stop_gradient(logits.astype(jnp.float32))
    entropy = normalised_entropy(logits)
    tau = adaptive_tau(entropy, tau_base, alpha, tau_min, tau_max)
    value = quantile(jax.nn.softmax(logits, axis=-1), atoms, tau, form, sigma)
    return value, {
        "value/tau": tau.mean(),
        "value/tau_at_min": (tau <= tau_min).mean(dtype=jnp.float32),
        "value/tau_at_max": (tau >= tau_max).mean(dtype=jnp.float32),
        "value/entropy": entropy.mean(),
        "value/bootstrap": value.mean(),
    }


def td_target(
    returns: Float[Array, "batch"],
    discount: Float[Array, "batch"],
    value: Float[Array, "batch"],
    clip: tuple[float, float] | None = None,
) -> tuple[Float[Array, "batch"], Metrics]:
    """Critic's target, Eq. 5 and 14 (one chunk), Eq. 19 (n chunks): returns + discount * value.

    `returns` is the discounted reward of the window and `discount` is gamma^(ticks to the
    bootstrap), 0 where the episode ends inside the window. The metric counts targets that no
    return can have: rewards are 0 or 1, but the support reaches beyond both.
    """
    target = jax.lax.stop_gradient(returns + discount * value)
    outside = ((target < 0.0) | (target > 1.0)).mean(axis=0, dtype=jnp.float32)
    if clip is not None:
        target = jnp.clip(target, *clip)
    return target, {"critic/target": target.mean(axis=0), "critic/target_outside": outside}


def critic_loss(
    q_heads: Float[Array, "critics batch"], target: Float[Array, "batch"]
) -> tuple[Float[Array, ""], Metrics]:
    """Squared TD error of every head against the same target, summed over heads; Eq. 15 and 6."""
    target = jax.lax.stop_gradient(target)
    error = jax.vmap(lambda q: q.astype(jnp.float32) - target)(q_heads)
    loss = jnp.square(error).mean(axis=1).sum(axis=0)
    spread = (q_heads.max(axis=0) - q_heads.min(axis=0)).mean(axis=0)
    return loss, {
        "critic/loss": loss,
        "critic/q": q_heads.mean(axis=(0, 1)),
        "critic/spread": spread,
    }
