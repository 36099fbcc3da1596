"""Implicit Q-learning (III-B): the scalar value that DIVL replaces; ablation of Tables III and V.

The TD target (Eq. 5) and the critic's loss (Eq. 6) are divl.td_target and divl.critic_loss.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lwd.algorithms.flow import Metrics


def asymmetric(
    u: Float[Array, "*batch"], tau: float | Float[Array, ""], power: float
) -> Float[Array, "*batch"]:
    """rho_{tau,p}(u) = |tau - 1(u < 0)| |u|^p, Eq. 16 and 25 (p = 2: Eq. 4).

    Its minimiser over v in E[rho(q - v)] is the expectile for p = 2 and the quantile for p = 1.
    """
    return jnp.abs(tau - (u < 0)) * jnp.abs(u) ** power


def expectile_loss(
    value: Float[Array, "batch"], q: Float[Array, "batch"], tau: float | Float[Array, ""]
) -> tuple[Float[Array, ""], Metrics]:
    """Regress the scalar value V(s) on the tau-expectile of the target critic's Q(s, a), Eq. 3."""
    value = value.astype(jnp.float32)
    loss = asymmetric(jax.lax.stop_gradient(q) - value, tau, 2.0).mean(axis=0)
    return loss, {"value/loss": loss, "value/mean": value.mean(axis=0)}


def bootstrap(
    value: Float[Array, "*batch"], tau: float | Float[Array, ""]
) -> tuple[Float[Array, "*batch"], Metrics]:
    """V(s) as it is, for Eq. 5: the level tau, the same everywhere, is already in its loss."""
    value = jax.lax.stop_gradient(value.astype(jnp.float32))
    return value, {"value/tau": jnp.float32(tau), "value/bootstrap": value.mean()}
