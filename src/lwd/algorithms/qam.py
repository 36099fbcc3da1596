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

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from lwd.algorithms.flow import Chunk, Metrics, Velocity, flattened, require_mask
from lwd.errors import unknown

CriticGradient = Callable[[Chunk], Chunk]
Path = Float[Array, "steps batch *chunk"]
"""Also with all numbers of a chunk in a row, as `flattened` has them."""


def boxed(critic_gradient: CriticGradient, bound: float) -> CriticGradient:
    """Gradient of Q(s, clip(a, -bound, bound)): exactly 0 in each coordinate outside the box.

    As in the authors' code, with bound 1: there is nothing to gain outside, where no action was.
    """

    def gradient(a: Chunk) -> Chunk:
        inside = jnp.abs(a) <= bound
        return jnp.where(inside, critic_gradient(jnp.clip(a, -bound, bound)), 0.0)

    return gradient


class Scheme(NamedTuple):
    """Coefficients of a discretised memoryless SDE; each array is [steps].

    Roll-out: a' = keep a + drive f(a, time) + noise eps; the last step has no noise.
    Lean adjoint: g = adjoint_keep g' + adjoint_drive J(a, adjoint_time)^T g', J the Jacobian of the
    reference velocity. It asks for f_delta = f_theta - f_beta = -(gain g + gain_next g').
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
    """
    _require_steps(steps)
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
    _require_steps(steps)
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


SAMPLERS: dict[str, Callable[[int], Scheme]] = {"bridge": bridge, "euler": euler}


def scheme(sampler: str, steps: int) -> Scheme:
    """The discretisation named `sampler` with `steps` flow steps; ConfigError if there is none."""
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    return SAMPLERS[sampler](steps)


def _require_steps(steps: int) -> None:
    if steps < 2:
        raise ValueError(
            f"adjoint matching got {steps} flow steps; it needs at least 2 steps: a single one has "
            f"no noise, and without noise there is no control."
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
    action_mask: Bool[Array, "..."],
    weighting: Literal["constant", "sigma"] | None = None,
    recompute: Literal["nothing", "elementwise", "everything"] = "elementwise",
) -> tuple[Float[Array, ""], Metrics]:
    """Adjoint-matching loss, Eq. 9 and 10; the gradient reaches only the parameters of `velocity`.

    `critic_gradient` maps the generated chunks a^1 to dQ/da, `noise` is a^0 and `key` draws the
    noise of the roll-out. `action_mask`, [batch, horizon] or [batch, horizon, action], is False
    where the episode was over or a dimension is padding: no critic's gradient enters and nothing is
    regressed. The loss is a mean over what is not masked (the authors sum over dimensions).

    `weighting` over flow time: `constant` is a mean over steps, `sigma` Eq. 9's sum; None is the
    first for `bridge`, the second for `euler`. Both have the same optimum. `recompute` says what of
    `velocity` the backward pass evaluates again instead of keeping it for every step.

    One evaluation of `velocity` per step serves both the roll-out and the regression, and one VJP
    of `reference` both the adjoint and, for `bridge`, the target; its first step needs no VJP.
    """
    _check(noise, action_mask, inv_temp)
    plan, shape = scheme(sampler, steps), noise.shape
    policy = flattened("velocity", _forgetful(velocity, recompute), shape)
    fixed = flattened("reference", reference, shape)
    live = jnp.broadcast_to(_per_dimension(action_mask), shape).reshape(len(noise), -1)
    start = noise.reshape(live.shape)
    drawn = jax.random.normal(key, (steps - 1, *start.shape))
    path, predicted, endpoint = roll_out(policy, fixed, start, drawn, plan)
    gradient = flattened("critic_gradient", critic_gradient, shape)(endpoint)
    adjoint = jnp.where(live, -inv_temp * gradient.astype(jnp.float32), 0.0)
    base, asked = jax.lax.stop_gradient(lean_adjoint(fixed, path, adjoint, plan))

    def mean(values: Array) -> Array:
        return jnp.where(live, values, 0.0).sum((-2, -1)) / jnp.maximum(live.sum((0, 1)), 1)

    loss = _weights(plan, weighting) @ mean(jnp.square(predicted - (base + asked)))
    shift = mean(jnp.square(jax.lax.stop_gradient(predicted) - base))
    return loss, {
        "policy/qam_loss": loss,
        "policy/adjoint": jnp.sqrt(mean(jnp.square(adjoint))),
        "policy/shift": jnp.sqrt(shift.mean(axis=0)),
    }


def roll_out(
    velocity: Velocity,
    reference: Velocity,
    noise: Float[Array, "batch *chunk"],
    drawn: Float[Array, "noisy batch *chunk"],
    plan: Scheme,
) -> tuple[Path, Path, Float[Array, "batch *chunk"]]:
    """States a_i, velocities f_theta(a_i, w_i) and the endpoint a^1 from a^0 = `noise`.

    `drawn` is eps of every step but the last. No gradient of `velocity` passes through the states;
    the velocities at them have one: they are the predictions of the regression.
    """

    def step(a: Array, inputs: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        eps, time, keep, drive, scale = inputs
        predicted = _evaluate(velocity, a, time)
        after = keep * a + drive * jax.lax.stop_gradient(predicted) + scale * eps
        return after, (a, predicted)

    eps = jnp.concatenate([drawn, jnp.zeros((1, *noise.shape), drawn.dtype)])
    inputs = (eps, *_columns(plan, "time", "keep", "drive", "noise"))
    endpoint, (path, predicted) = jax.lax.scan(step, noise, inputs)
    if plan.reference_last:
        last = _evaluate(reference, path[-1], plan.time[-1])
        endpoint = plan.keep[-1] * path[-1] + plan.drive[-1] * last
    return path, predicted, endpoint


def lean_adjoint(
    reference: Velocity, path: Path, adjoint: Float[Array, "batch *chunk"], plan: Scheme
) -> tuple[Path, Path]:
    """Reference velocities f_beta(a_i, w_i) and the f_delta that the adjoint asks for there.

    Carries `adjoint`, g at w = 1, back along the path, one VJP of the reference per step.
    """
    same_time = np.array_equal(plan.time, plan.adjoint_time)

    def step(later: Array, inputs: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        a, time, adjoint_time, keep, drive, gain, gain_next = inputs
        base, pull_back = jax.vjp(lambda a: _evaluate(reference, a, adjoint_time), a)
        earlier = keep * later + drive * pull_back(later)[0]
        if not same_time:
            base = _evaluate(reference, a, time)
        return earlier, (base, -(gain * earlier + gain_next * later))

    names = ("time", "adjoint_time", "adjoint_keep", "adjoint_drive", "gain", "gain_next")
    # The first step of the bridge asks for nothing that needs its own adjoint: no VJP there.
    first = 1 if plan.gain[0] == 0 else 0
    inputs = tuple(column[first:] for column in (path, *_columns(plan, *names)))
    last, (base, asked) = jax.lax.scan(step, adjoint, inputs, reverse=True)
    if first:
        start = _evaluate(reference, path[0], plan.time[0])
        base = jnp.concatenate([start[None], base])
        asked = jnp.concatenate([-plan.gain_next[0] * last[None], asked])
    return base, asked


def _evaluate(velocity: Velocity, a: Array, w: Array | float) -> Array:
    """Velocity in float32 at one flow time for the whole batch."""
    return velocity(a, jnp.full(a.shape[:1], w, jnp.float32)).astype(jnp.float32)


def _columns(plan: Scheme, *names: str) -> tuple[Array, ...]:
    """The named coefficients as float32 arrays [steps] for a scan."""
    return tuple(jnp.asarray(getattr(plan, name), jnp.float32) for name in names)


def _weights(plan: Scheme, weighting: str | None) -> Float[Array, "steps"]:
    """Weight of each step; (2 / sigma)^2 is 2 / gain, with the gain of g or, at w = 0, of g'."""
    steps = len(plan.time)
    chosen = {
        None: plan.weight,
        "constant": np.full(steps, 1.0 / steps),
        "sigma": 2 / (plan.gain + plan.gain_next),
    }
    if weighting not in chosen:
        raise unknown("weighting", str(weighting), [name for name in chosen if name])
    return jnp.asarray(chosen[weighting], jnp.float32)


def _forgetful(velocity: Velocity, recompute: str) -> Velocity:
    """The same function; its backward pass keeps less and evaluates the rest again."""
    if recompute not in RECOMPUTE:
        raise unknown("recompute", recompute, RECOMPUTE)
    if recompute == "nothing":
        return velocity
    # A scan's body is never merged with its backward pass, so nothing has to prevent that.
    return jax.checkpoint(velocity, policy=RECOMPUTE[recompute], prevent_cse=False)


RECOMPUTE = {
    "nothing": jax.checkpoint_policies.everything_saveable,
    "elementwise": jax.checkpoint_policies.dots_saveable,
    "everything": jax.checkpoint_policies.nothing_saveable,
}


def _per_dimension(action_mask: Array) -> Array:
    """The mask with an axis for dimensions, if only of length one."""
    return action_mask if action_mask.ndim == 3 else action_mask[:, :, None]


def _check(noise: Array, action_mask: Array, inv_temp: float) -> None:
    """ValueError if the arguments of the loss do not fit one another."""
    require_mask("action_mask", action_mask, noise.shape)
    if not 0 <= inv_temp < math.inf:
        raise ValueError(
            f"inv_temp is {inv_temp}; it must be finite and not negative: 0 ignores the critic, "
            f"more follows it further."
        )
