"""Policy extraction: Q-learning with adjoint matching, QAM (III-C, IV-B; Li and Levine 2026).

The policy is tilted towards pi_beta(a|s) exp(inv_temp Q(s, a)), Eq. 8, without differentiating
through the sampler: roll out the current policy with a memoryless SDE, carry the critic's gradient
at the endpoint back through the *reference* flow (the lean adjoint), and regress the velocity on
what it asks for at every step. Where this differs from the text of the paper:

- Eq. 9 prints sigma_w = sqrt(2 (1 - w) w). Memoryless, and therefore correct, is
  sigma_w = sqrt(2 (1 - w) / w); the printed one gives a fifth of the tilt of N(0, 1) by a linear Q.
- Algorithm 2 rolls out the reference and takes a^1 = a_t. The fixed point is the tilted policy only
  if the roll-out and its endpoint are the current policy's own.
- The default discretisation is a bridge that keeps the flow's marginals at every step (`bridge`);
  the Euler-Maruyama scheme of the authors' code is `euler`.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from lwd.algorithms.flow import Chunk, Metrics, Velocity, masked_mean

CriticGradient = Callable[[Chunk], Chunk]


class Scheme(NamedTuple):
    """Coefficients of a discretised memoryless SDE; each array is [steps].

    Roll-out: a' = keep a + drive f(a, time) + noise eps.
    Lean adjoint: g = adjoint_keep g' + adjoint_drive J(a, adjoint_time)^T g', J the Jacobian of the
    reference velocity. Target of the regression: f_beta(a, time) - (gain g + gain_next g').
    """

    time: np.ndarray
    keep: np.ndarray
    drive: np.ndarray
    noise: np.ndarray
    adjoint_time: np.ndarray
    adjoint_keep: np.ndarray
    adjoint_drive: np.ndarray
    gain: np.ndarray
    gain_next: np.ndarray
    weight: np.ndarray
    reference_last: bool
    """Whether the last step follows the reference velocity instead of the policy's."""


def bridge(steps: int) -> Scheme:
    """Ancestral steps w -> w' that keep the path's marginals when a^1 is predicted exactly.

    With the predicted endpoint a^1 = a + (1 - w) f and r = ((1 - w') w / ((1 - w) w'))^2:
    a' = w' (1 - r) a^1 + (1 - w')^2 w / ((1 - w)^2 w') a + (1 - w') sqrt(1 - r) eps.
    The adjoint is that of this map without its noise. There is no singularity at either end.
    Raises ValueError for a single step: it has no noise, and without noise there is no control.
    """
    if steps < 2:
        raise ValueError(f"bridge got {steps} steps; it needs at least 2 steps. Use euler for one.")
    low = np.arange(steps) / steps
    high = (np.arange(steps) + 1) / steps
    ratio = ((1 - high) * low / ((1 - low) * high)) ** 2
    endpoint = high * (1 - ratio)
    keep = endpoint + (1 - high) ** 2 * low / ((1 - low) ** 2 * high)
    drive = endpoint * (1 - low)
    later = low > 0
    return Scheme(
        time=low,
        keep=keep,
        drive=drive,
        noise=(1 - high) * np.sqrt(1 - ratio),
        adjoint_time=low,
        adjoint_keep=keep,
        adjoint_drive=drive,
        gain=np.where(later, (1 - low) / np.where(later, low, 1.0), 0.0),
        gain_next=np.where(later, 0.0, (1 - high) ** 2 / high),
        weight=np.full(steps, 1.0 / steps),
        reference_last=False,
    )


def euler(steps: int) -> Scheme:
    """Euler-Maruyama steps of the memoryless SDE as in the authors' QAM code (agents/qam.py).

    sigma^2 = 2 (1 - w + h) / (w + h); the last step is noise-free and follows the reference; the
    adjoint takes the state of a node with the time of the next one; the weight is (2 / sigma)^2.
    """
    h = 1.0 / steps
    low = np.arange(steps) / steps
    high = (np.arange(steps) + 1) / steps
    half_variance = (1 - low + h) / high
    last = np.arange(steps) == steps - 1
    return Scheme(
        time=low,
        keep=np.where(last, 1.0, 1 - h / high),
        drive=np.where(last, h, 2 * h),
        noise=np.where(last, 0.0, np.sqrt(2 * h * half_variance)),
        adjoint_time=high,
        adjoint_keep=1 - h / high,
        adjoint_drive=np.full(steps, 2 * h),
        gain=half_variance,
        gain_next=np.zeros(steps),
        weight=2 / half_variance,
        reference_last=True,
    )


def adjoint_matching_loss(  # noqa: PLR0913 - the whole of Algorithm 2, lines 8 to 11
    velocity: Velocity,
    reference: Velocity,
    critic_gradient: CriticGradient,
    noise: Chunk,
    key: PRNGKeyArray,
    *,
    steps: int,
    inv_temp: float,
    sampler: Literal["bridge", "euler"] = "bridge",
    action_mask: Bool[Array, "batch horizon"],
) -> tuple[Float[Array, ""], Metrics]:
    """Adjoint-matching loss, Eq. 9 and 10; the gradient reaches only the parameters of `velocity`.

    `critic_gradient` maps the generated chunks a^1 to dQ/da, `noise` is a^0 and `key` draws the
    noise of the roll-out. Where `action_mask` is False the episode was over: no gradient enters and
    nothing is regressed. Like sft_loss this is a mean over dimensions; over the steps it is a mean
    for `bridge` (any positive weight has the same optimum) and Eq. 9's weighted sum for `euler`.

    One evaluation of `velocity` per step serves both the roll-out and the regression, and one VJP
    of `reference` both the adjoint and the target. For a large network pass
    `jax.checkpoint(velocity)`: the backward pass then keeps one step's activations at a time.
    """
    scheme = bridge(steps) if sampler == "bridge" else euler(steps)
    path, predicted, endpoint = _roll_out(velocity, noise, key, scheme)
    if scheme.reference_last:
        drift = _evaluate(reference, path[-1], scheme.time[-1])
        endpoint = scheme.keep[-1] * path[-1] + scheme.drive[-1] * drift
    gradient = critic_gradient(jax.lax.stop_gradient(endpoint)).astype(jnp.float32)
    adjoint = jnp.where(action_mask[:, :, None], -inv_temp * gradient, 0.0)
    base, target = jax.lax.stop_gradient(_lean_adjoint(reference, path, adjoint, scheme))

    mean = jax.vmap(masked_mean, in_axes=(0, None))
    weight = jnp.asarray(scheme.weight, jnp.float32)
    loss = weight @ mean(jnp.square(predicted - target), action_mask)
    shift = mean(jnp.square(jax.lax.stop_gradient(predicted) - base), action_mask)
    return loss, {
        "policy/qam_loss": loss,
        "policy/adjoint": jnp.sqrt(masked_mean(jnp.square(adjoint), action_mask)),
        "policy/shift": jnp.sqrt(shift.mean(axis=0)),
    }


def _evaluate(velocity: Velocity, a: Array, w: Array | float) -> Array:
    """Velocity in float32 at one flow time for the whole batch."""
    return velocity(a, jnp.full(a.shape[:1], w, jnp.float32)).astype(jnp.float32)


def _columns(scheme: Scheme, *names: str) -> tuple[Array, ...]:
    """The named coefficients as float32 arrays [steps] for a scan."""
    return tuple(jnp.asarray(getattr(scheme, name), jnp.float32) for name in names)


def _roll_out(
    velocity: Velocity, noise: Array, key: Array, scheme: Scheme
) -> tuple[Array, Array, Array]:
    """States a_i and velocities f(a_i, w_i), [steps, batch, horizon, action], and the endpoint.

    The states carry no gradient, the velocities do: they are the predictions of the regression.
    """

    def step(a: Array, inputs: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        key_noise, time, keep, drive, scale = inputs
        predicted = _evaluate(velocity, a, time)
        drawn = scale * jax.random.normal(key_noise, a.shape)
        after = keep * a + drive * jax.lax.stop_gradient(predicted) + drawn
        return after, (a, predicted)

    keys = jax.random.split(key, len(scheme.time))
    inputs = (keys, *_columns(scheme, "time", "keep", "drive", "noise"))
    endpoint, (path, predicted) = jax.lax.scan(step, noise, inputs)
    return path, predicted, endpoint


def _lean_adjoint(
    reference: Velocity, path: Array, adjoint: Array, scheme: Scheme
) -> tuple[Array, Array]:
    """Reference velocities and regression targets, each [steps, batch, horizon, action].

    Carries `adjoint`, g at w = 1, back to w = 0, one VJP of the reference per step.
    """
    same_time = np.array_equal(scheme.time, scheme.adjoint_time)

    def step(later: Array, inputs: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        a, time, adjoint_time, keep, drive, gain, gain_next = inputs
        base, pull_back = jax.vjp(lambda a: _evaluate(reference, a, adjoint_time), a)
        earlier = keep * later + drive * pull_back(later)[0]
        if not same_time:
            base = _evaluate(reference, a, time)
        return earlier, (base, base - (gain * earlier + gain_next * later))

    names = ("time", "adjoint_time", "adjoint_keep", "adjoint_drive", "gain", "gain_next")
    inputs = (jax.lax.stop_gradient(path), *_columns(scheme, *names))
    _, (base, target) = jax.lax.scan(step, adjoint, inputs, reverse=True)
    return base, target
