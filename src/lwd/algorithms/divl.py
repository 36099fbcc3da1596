"""Distributional implicit value learning, DIVL (IV-A, -A1).

V(s) is a categorical distribution over `atoms` of the critic's values of the replay's actions; its
tau-quantile is the bootstrap of the critic. The atoms are evenly spaced.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lwd.algorithms.flow import Metrics


def support(v_min: float, v_max: float, atoms: int) -> Float[Array, "atoms"]:
    """Evenly spaced atoms from v_min to v_max, the V_i of Eq. 20 (-A1: 201 on [-0.1, 1.1])."""
    return jnp.linspace(v_min, v_max, atoms, dtype=jnp.float32)


def spacing(atoms: Float[Array, "atoms"]) -> Float[Array, ""]:
    """Distance between neighbouring atoms."""
    return (atoms[-1] - atoms[0]) / (atoms.shape[0] - 1)


def two_hot(
    values: Float[Array, "*batch"], atoms: Float[Array, "atoms"]
) -> Float[Array, "*batch atoms"]:
    """C51 projection: clip to the support, then split over the two neighbouring atoms (Eq. 21's m).

    The mean is kept: `two_hot(v) @ atoms == clip(v)`.
    """
    last = atoms.shape[0] - 1
    position = jnp.clip((values - atoms[0]) / spacing(atoms), 0.0, last)
    index = jnp.arange(last + 1, dtype=jnp.float32)
    distance = jax.vmap(lambda i: jnp.abs(position - i), out_axes=-1)(index)
    return jnp.maximum(0.0, 1.0 - distance)


def value_loss(
    logits: Float[Array, "batch atoms"], q: Float[Array, "batch"], atoms: Float[Array, "atoms"]
) -> tuple[Float[Array, ""], Metrics]:
    """Cross entropy of V(s) with the projected values of the target critic, Eq. 12 and 21.

    `q` is the smaller of the target critic's heads (IV-D), taken before the projection.
    """
    target = two_hot(jax.lax.stop_gradient(q), atoms)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    loss = -(target * log_probs).sum(axis=-1).mean(axis=0)
    return loss, {"value/loss": loss}


def normalised_entropy(logits: Float[Array, "*batch atoms"]) -> Float[Array, "*batch"]:
    """Entropy of softmax(logits) as a fraction of the uniform's, in [0, 1]; Eq. 17 and 24."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -(jnp.exp(log_probs) * log_probs).sum(axis=-1) / jnp.log(logits.shape[-1])


def adaptive_tau(
    entropy: Float[Array, "*batch"],
    tau_base: float | Float[Array, ""],
    alpha: float,
    tau_min: float,
    tau_max: float,
) -> Float[Array, "*batch"]:
    """Quantile level tau = clip(tau_base - alpha H, tau_min, tau_max), Eq. 18."""
    return jnp.clip(tau_base - alpha * entropy, tau_min, tau_max)


def quantile(
    probs: Float[Array, "*batch atoms"],
    atoms: Float[Array, "atoms"],
    tau: Float[Array, "*batch"],
    form: Literal["interpolated", "atom"] = "interpolated",
) -> Float[Array, "*batch"]:
    """The tau-quantile of the value distribution, Eq. 13.

    `atom` is Eq. 23: the first atom at which the CDF (Eq. 22) reaches tau. It rounds up to a whole
    atom, which is as much as a one-step discount takes away: in a long chain of one-step backups
    values do not decay. `interpolated`, ours, is continuous and increasing in tau: the mass of
    atom i lies between edges i and i + 1 (see `_edges`), so a value that the projection split over
    two atoms comes back exactly, at every tau, and the discount survives.
    """
    cdf = jnp.cumsum(probs.astype(jnp.float32), axis=-1)
    below = cdf < tau[..., None]
    index = jnp.minimum(below.sum(axis=-1), atoms.shape[0] - 1)
    if form == "atom":
        return atoms[index]
    return _interpolate(probs, cdf, _edges(probs, atoms), tau, index)


def _interpolate(probs: Array, cdf: Array, edges: Array, tau: Array, index: Array) -> Array:
    """Point between edges index and index + 1 that leaves the fraction tau below it."""

    def pick(values: Array, at: Array) -> Array:
        return jnp.take_along_axis(values, at[..., None], axis=-1)[..., 0]

    mass = pick(probs, index)
    above = pick(cdf, index) - tau
    fraction = 1.0 - jnp.clip(above / jnp.maximum(mass, 1e-12), 0.0, 1.0)
    low, high = pick(edges, index), pick(edges, index + 1)
    return low + (high - low) * fraction


EDGE_WINDOW = 3
"""Atoms on each side of an edge that decide where it lies."""


def _edges(probs: Array, atoms: Array) -> Array:
    """Where the mass of one atom ends and that of the next begins: [*batch, atoms + 1], sorted.

    Midway between two atoms if the distribution is wide. The projection itself, however, gives one
    value a spread of up to a quarter (in atoms squared), and spreading an atom's mass adds 1/12.
    The edge therefore moves towards the mean of the atoms around it by the part of the standard
    deviation that these two explain: all the way when all the mass there may be one value.
    """
    count = atoms.shape[0] + 1
    offsets = [k + 0.5 for k in range(-EDGE_WINDOW, EDGE_WINDOW)]
    padding = [(0, 0)] * (probs.ndim - 1) + [(EDGE_WINDOW, EDGE_WINDOW)]
    padded = jnp.pad(probs.astype(jnp.float32), padding)
    near = [padded[..., k : k + count] for k in range(2 * EDGE_WINDOW)]

    def moment(order: int) -> Array:
        return sum((p * x**order for p, x in zip(near, offsets, strict=True)), jnp.zeros(()))

    total = moment(0)
    safe = jnp.where(total > 0, total, 1.0)
    mean = moment(1) / safe
    variance = moment(2) / safe - mean**2
    kept = jnp.sqrt(jnp.maximum(variance - 1 / 4, 0.0) / (variance + 1 / 12))
    middle = jnp.broadcast_to(jnp.arange(count) - 0.5, mean.shape)
    edges = atoms[0] + spacing(atoms) * (middle + mean * (1.0 - kept))
    return jax.lax.cummax(jnp.clip(edges, atoms[0], atoms[-1]), axis=edges.ndim - 1)


def bootstrap(
    logits: Float[Array, "*batch atoms"],
    atoms: Float[Array, "atoms"],
    *,
    tau_base: float | Float[Array, ""],
    alpha: float,
    tau_min: float,
    tau_max: float,
    form: Literal["interpolated", "atom"] = "interpolated",
) -> tuple[Float[Array, "*batch"], Metrics]:
    """Quant_tau(s)(V(s)) of Eq. 19 with its own tau(s), at the state that is bootstrapped from."""
    logits = jax.lax.stop_gradient(logits.astype(jnp.float32))
    entropy = normalised_entropy(logits)
    tau = adaptive_tau(entropy, tau_base, alpha, tau_min, tau_max)
    value = quantile(jax.nn.softmax(logits, axis=-1), atoms, tau, form)
    clipped = (tau <= tau_min) | (tau >= tau_max)
    return value, {
        "value/tau": tau.mean(),
        "value/tau_clipped": clipped.mean(),
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
