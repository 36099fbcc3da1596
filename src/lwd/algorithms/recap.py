"""RECAP: an advantage-conditioned policy, the baseline of -C1 (its maths: Eq. 35 and 36).

A value model is fitted to Monte-Carlo returns, every recorded chunk gets an advantage, the best
fraction of them is called positive, and the policy imitates all of them with that word in its
instruction. It then acts as if told "positive".
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from lwd.algorithms.categorical import project
from lwd.algorithms.flow import Metrics, Velocity


def value_loss(
    logits: Float[Array, "batch atoms"],
    returns: Float[Array, "batch"],
    atoms: Float[Array, "atoms"],
    sigma: float = 0.0,
) -> tuple[Float[Array, ""], Metrics]:
    """Cross entropy of V(s) with the projection of the discounted return to go: two-hot, or
    HL-Gauss of width `sigma`."""
    target = project(jax.lax.stop_gradient(returns), atoms, sigma)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    loss = -(target * log_probs).sum(axis=-1).mean(axis=0)
    error = jnp.abs(expected(logits, atoms) - returns).mean(axis=0)
    return loss, {"value/loss": loss, "value/error": error}


def expected(
    logits: Float[Array, "*batch atoms"], atoms: Float[Array, "atoms"]
) -> Float[Array, "*batch"]:
    """Mean of the value distribution."""
    return jax.nn.softmax(logits.astype(jnp.float32), axis=-1) @ atoms


def lookahead_advantage(
    returns: Float[Array, "batch"],
    discount: Float[Array, "batch"],
    value: Float[Array, "batch"],
    next_value: Float[Array, "batch"],
) -> Float[Array, "batch"]:
    """A(s_t, a_t) of Eq. 35: reward of the chunk plus V(s_{t+H}) minus V(s_t).

    `discount` weighs V(s_{t+H}) and is 0 where the episode ended. Eq. 35 has 1 there, which calls
    progress as expected an advantage when V was fitted to discounted returns: A is then 0.
    """
    return returns + discount * next_value - value


def improvement_labels(
    advantage: np.ndarray, intervention: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """[windows] bool, I_t of Eq. 36 over the whole training set: positive or not.

    The threshold is a rank: exactly round(fraction * windows) windows are positive, those with the
    largest advantages. Many are equal to the last bit (no reward and a saturated V), so that no
    number divides them that way: among equals the lot decides. Interventions, [windows] bool, are
    positive on top of that. Raises ValueError if the fraction is not in (0, 1), if lengths differ,
    or if an advantage is not finite.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it lies strictly between 0 and 1.")
    if advantage.shape != intervention.shape or advantage.ndim != 1:
        raise ValueError(
            f"advantages have shape {advantage.shape}, interventions {intervention.shape}; one "
            f"number and one flag for each window are expected."
        )
    if not np.isfinite(advantage).all():
        bad = int((~np.isfinite(advantage)).sum())
        raise ValueError(f"{bad} of {len(advantage)} advantages are not finite; train V again.")
    best = np.lexsort((rng.random(len(advantage)), -advantage))
    positive = intervention.copy()
    positive[best[: round(fraction * len(advantage))]] = True
    return positive


def append_indicator(
    tokens: Int[Array, "batch tokens"], indicator: Int[Array, "words"]
) -> Int[Array, "batch tokens"]:
    """Every instruction followed by the words of the indicator; 0 is the padding."""
    place = jnp.arange(tokens.shape[1])[None] - (tokens > 0).sum(axis=-1, keepdims=True)
    inside = (place >= 0) & (place < len(indicator))
    return jnp.where(inside, indicator[jnp.clip(place, 0, len(indicator) - 1)], tokens)


def drop_indicator(
    tokens: Int[Array, "batch tokens"],
    length: int,
    fraction: float,
    key: PRNGKeyArray,
) -> tuple[Int[Array, "batch tokens"], Bool[Array, "batch"]]:
    """Leave the last `length` words out of a random `fraction` of the instructions.

    What is left is the plain instruction: the policy learns both, and guidance needs both. Returns
    the tokens, 0 being the padding, and in which rows the indicator was left out.
    """
    dropped = jax.random.bernoulli(key, fraction, tokens.shape[:1])
    said = (tokens > 0).sum(axis=-1) - jnp.where(dropped, length, 0)
    return jnp.where(jnp.arange(tokens.shape[1])[None] < said[:, None], tokens, 0), dropped


def guided(conditional: Velocity, unconditional: Velocity, guidance: float) -> Velocity:
    """Classifier-free guidance: v_u + guidance (v_c - v_u); 0 ignores the indicator, 1 obeys it."""

    def velocity(a: Array, w: Array) -> Array:
        without = unconditional(a, w)
        return without + guidance * (conditional(a, w) - without)

    return velocity
