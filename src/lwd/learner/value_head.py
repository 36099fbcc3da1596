"""What the value network's outputs mean: DIVL's categorical distribution or IQL's scalar."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from lwd.algorithms import divl, iql
from lwd.algorithms.categorical import quantile, support
from lwd.algorithms.flow import Metrics
from lwd.config import DivlConfig


def loss(
    outputs: Float[Array, "batch outputs"],
    q: Float[Array, "batch"],
    tau_base: float | Float[Array, ""],
    config: DivlConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """Fit V(s) to the target critic's values of the replay's actions: Eq. 12, or Eq. 3."""
    if config.value == "expectile":
        return iql.expectile_loss(outputs[:, 0], q, tau_base)
    return divl.value_loss(outputs, q, _atoms(config), config.width)


def bootstrap(
    outputs: Float[Array, "batch outputs"],
    tau_base: float | Float[Array, ""],
    config: DivlConfig,
) -> tuple[Float[Array, "batch"], Metrics]:
    """What the TD target bootstraps from: the tau(s)-quantile (Eq. 19), or V(s) (Eq. 5)."""
    if config.value == "expectile":
        return iql.bootstrap(outputs[:, 0], tau_base)
    return divl.bootstrap(
        outputs,
        _atoms(config),
        tau_base=tau_base,
        alpha=config.alpha,
        tau_min=config.tau_min,
        tau_max=config.tau_max,
        form=config.quantile,
        sigma=config.width,
    )


def mean(outputs: Float[Array, "batch outputs"], config: DivlConfig) -> Float[Array, "batch"]:
    """Mean of the value distribution, or the scalar."""
    if config.value == "expectile":
        return outputs[:, 0].astype(jnp.float32)
    return jax.nn.softmax(outputs.astype(jnp.float32), axis=-1) @ _atoms(config)


def quantiles(
    outputs: Float[Array, "batch outputs"], levels: Sequence[float], config: DivlConfig
) -> Float[Array, "batch levels"]:
    """Quantiles of the value distribution; a scalar value is its own at every level."""
    if config.value == "expectile":
        return jnp.repeat(outputs[:, :1].astype(jnp.float32), len(levels), axis=-1)
    probs = jax.nn.softmax(outputs.astype(jnp.float32), axis=-1)
    atoms, everywhere = _atoms(config), len(probs)
    found = [
        quantile(probs, atoms, jnp.full(everywhere, level), config.quantile, config.width)
        for level in levels
    ]
    return jnp.stack(found, axis=-1)


def _atoms(config: DivlConfig) -> Float[Array, "atoms"]:
    return support(config.v_min, config.v_max, config.atoms)
