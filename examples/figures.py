"""The curves of docs/divl.md and docs/qam.md, computed with the library's own functions.

python examples/figures.py --out docs/img
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lwd.algorithms import categorical, divl, qam
from lwd.eval.figures import BLUE, FAINT, GREEN, GREY, INK, ORANGE, STYLE

ATOMS = categorical.support(-0.1, 1.1, 201)
ATOM = 0.006
CHUNK_DISCOUNT = 0.9999**30
LINES = {
    "linear": (GREY, "linear interpolation"),
    "atom": (ORANGE, "atom (Eq. 23)"),
    "interpolated": (BLUE, "interpolated"),
}
Affine = Callable[[float], tuple[float, float]]
"""Slope and offset of a velocity in one dimension, at a flow time."""


def quantile(probs: jax.Array, tau: float, form: str) -> jax.Array:
    """Quantile of one distribution [atoms]; `linear` spreads a mass over its atom's width."""
    if form != "linear":
        return categorical.quantile(probs[None], ATOMS, jnp.full(1, tau), form)[0]
    cdf = jnp.cumsum(probs)
    index = jnp.argmax(cdf >= tau)
    return ATOMS[index] + ATOM * (0.5 - (cdf[index] - tau) / probs[index])


def rise(values: np.ndarray, tau: float, form: str) -> np.ndarray:
    """How many atoms the quantile of a value's own projection lies above that value."""
    read = jax.vmap(lambda value: quantile(categorical.two_hot(value, ATOMS), tau, form))
    return (np.asarray(read(jnp.asarray(values, jnp.float32))) - values) / ATOM


def chain(chunks: int, n_step: int, tau: float, form: str) -> np.ndarray:
    """Q of a chain that surely ends in success, by the number of chunks left: [chunks]."""

    @jax.jit
    def backup(q: jax.Array) -> jax.Array:
        return CHUNK_DISCOUNT**n_step * quantile(categorical.two_hot(q, ATOMS), tau, form)

    q = [jnp.float32(CHUNK_DISCOUNT**left) for left in range(1, n_step + 1)]
    while len(q) < chunks:
        q.append(backup(q[-n_step]))
    return np.array(q[:chunks])


def gaussian_flow(mean: float, variance: float, w: float) -> tuple[float, float]:
    """Slope and offset of the flow from N(0, 1) to N(mean, variance)."""
    total = (1 - w) ** 2 + w**2 * variance
    slope = (w * variance - (1 - w)) / total
    return slope, mean - slope * w * mean


def sample(velocity: Affine, steps: int) -> tuple[float, float]:
    """Mean and variance of Euler samples."""
    mean, scale = 0.0, 1.0
    for i in range(steps):
        slope, offset = velocity(i / steps)
        mean, scale = mean + (slope * mean + offset) / steps, scale * (1 + slope / steps)
    return mean, scale**2


def with_sigma(half_variance: Callable[[float], float], w: float) -> tuple[float, float]:
    """N(0, 1) tilted by exp(a): f_beta - sigma^2 / 2 g_w, with the exact adjoint g_w."""
    slope, offset = gaussian_flow(0.0, 1.0, w)
    return slope, offset + half_variance(w) * w / ((1 - w) ** 2 + w**2)


def on_reference_paths(w: float) -> tuple[float, float]:
    """N(0, 1) tilted by exp(a - a^2 / 2), from roll-outs of the reference instead of the policy.

    f_beta - (1 - w) / w E[g_w | a], with g_w = -(w / S) (1 - a^1) and E[a^1 | a] = a + (1 - w) f.
    """
    slope, _ = gaussian_flow(0.0, 1.0, w)
    pull = (1 - w) / ((1 - w) ** 2 + w**2)
    return slope - pull * (1 + (1 - w) * slope), pull


def reached(scheme: qam.Scheme) -> float:
    """Mean of the policy that is optimal for a scheme; N(0, 1) tilted by exp(a), so 1 is exact."""
    steps, adjoint, shifts = len(scheme.time), -1.0, {}
    for i in reversed(range(steps)):
        slope, _ = gaussian_flow(0.0, 1.0, scheme.adjoint_time[i])
        earlier = (scheme.adjoint_keep[i] + scheme.adjoint_drive[i] * slope) * adjoint
        shifts[i] = -(scheme.gain[i] * earlier + scheme.gain_next[i] * adjoint)
        adjoint = earlier
    return sample(lambda w: (gaussian_flow(0.0, 1.0, w)[0], shifts[round(w * steps)]), steps)[0]


def tilted_rate(rate: np.ndarray | float, inv_temp: np.ndarray | float) -> np.ndarray:
    """Success rate after tilting by exp(inv_temp Q) where Q is known to be 1 or 0."""
    odds = rate * np.exp(inv_temp)
    return odds / (odds + 1 - rate)


def main(out: Path = Path("docs/img")) -> None:
    """Write quantile.png and tilt.png to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.2), layout="constrained")
        one_backup, chains, levels = figure.subplots(1, 3)
        draw_rise(one_backup)
        draw_chain(chains)
        draw_levels(levels)
        figure.savefig(out / "quantile.png", dpi=110)
        figure = Figure(figsize=(10.5, 5.8), layout="constrained")
        (sigma, roll_out), (steps, temperature) = figure.subplots(2, 2)
        draw_sigma(sigma)
        draw_roll_out(roll_out)
        draw_steps(steps)
        draw_temperature(temperature)
        figure.savefig(out / "tilt.png", dpi=110)


def draw_rise(axes: Axes) -> None:
    """Error of reading one value back from its projection."""
    place = np.linspace(0.0, 2.0, 401)
    values = np.asarray(ATOMS[100], float) + ATOM * place
    for form, (colour, label) in LINES.items():
        axes.plot(place, rise(values, 0.9, form), color=colour, label=label)
    axes.axhline(-0.5, color=INK, linewidth=1, linestyle=":", label="one chunk's discount of V = 1")
    axes.set(xlabel="value, in atoms above an atom", ylabel="atoms above the value")
    axes.set(ylim=(-0.7, 2.0), xlim=(0, 2), title="One value read back, τ = 0.9")
    axes.legend(loc="upper right")


def draw_chain(axes: Axes) -> None:
    """What the first state of a sure success is worth."""
    left = np.arange(1, 301)
    axes.plot(left, CHUNK_DISCOUNT**left, color=INK, linewidth=4, alpha=0.25, label="$γ^{Hk}$")
    cases = (("linear", 1, "-"), ("atom", 1, "--"), ("atom", 10, ":"), ("interpolated", 1, "-"))
    for form, n_step, line in cases:
        colour, label = LINES[form]
        q = chain(300, n_step, 0.9, form)
        axes.plot(left, q, line, color=colour, linewidth=1.3, label=f"{label}, n = {n_step}")
    axes.set(xlabel="chunks k to a sure success", ylabel="Q", ylim=(0.3, 1.08))
    axes.set_title("Chained backups, τ = 0.9")
    axes.legend(loc="lower left")


def draw_levels(axes: Axes) -> None:
    """Tau against entropy; where typical distributions lie."""
    entropy = jnp.linspace(0.0, 1.0, 101)
    for base, colour, stage in ((0.9, BLUE, "online"), (0.6, GREEN, "offline")):
        tau = divl.adaptive_tau(entropy, base, 0.3, 0.05, 0.95)
        axes.plot(entropy, tau, color=colour, label=f"{stage}: {base} - 0.3 H")
    for limit, name in ((0.05, "tau_min"), (0.95, "tau_max")):
        axes.axhline(limit, color=GREY, linewidth=1, linestyle=":")
        axes.annotate(name, (1.0, limit), ha="right", va="bottom", color=GREY, fontsize=8)
    index = jnp.arange(201.0)
    shapes = {
        "2 atoms": jnp.where((index == 100) | (index == 101), 0.0, -1e9),
        "σ = 1 atom": -0.5 * (index - 100) ** 2,
        "σ = 10 atoms": -0.5 * ((index - 100) / 10) ** 2,
        "uniform": jnp.zeros(201),
    }
    for name, logits in shapes.items():
        place = float(categorical.normalised_entropy(logits))
        axes.axvline(place, color=FAINT, linewidth=0.8, zorder=0)
        axes.annotate(
            name, (place, 0.12), rotation=90, ha="right", va="bottom", color=GREY, fontsize=8
        )
    axes.set(xlabel="normalised entropy H of V", ylabel="τ", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title("Adaptive level τ")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.94))


def draw_bell(axes: Axes, moments: tuple[float, float], label: str, **style: object) -> None:
    """Density of a Gaussian."""
    mean, variance = moments
    a = np.linspace(-4.5, 4.0, 400)
    density = np.exp(-((a - mean) ** 2) / 2 / variance) / math.sqrt(2 * math.pi * variance)
    axes.plot(a, density, label=label, **style)
    axes.set(xlabel="action", yticks=[], xlim=(-4.5, 4), ylim=(0, 0.72))


def draw_sigma(axes: Axes) -> None:
    """Q = a: what the two schedules make of N(0, 1)."""
    right = sample(partial(with_sigma, lambda w: (1 - w) / max(w, 1e-9)), 4000)
    printed = sample(partial(with_sigma, lambda w: (1 - w) * w), 4000)
    draw_bell(axes, (0.0, 1.0), "reference", color=GREY)
    draw_bell(axes, (1.0, 1.0), "exact: mean 1", color=GREEN, linewidth=4, alpha=0.4)
    draw_bell(axes, right, rf"$\sqrt{{2(1-w)/w}}$: {right[0]:.2f}", color=BLUE)
    draw_bell(axes, printed, rf"$\sqrt{{2(1-w)w}}$, as printed: {printed[0]:.2f}", color=ORANGE)
    axes.set_title(r"The schedule $\sigma_w$, Q = a")
    axes.legend(loc="upper left")


def draw_roll_out(axes: Axes) -> None:
    """Q = a - a^2 / 2: whose paths the adjoint is carried along."""
    base = sample(on_reference_paths, 4000)
    policy = sample(partial(gaussian_flow, 0.5, 0.5), 4000)
    draw_bell(axes, (0.0, 1.0), "reference", color=GREY)
    draw_bell(axes, (0.5, 0.5), "exact: mean 0.5", color=GREEN, linewidth=4, alpha=0.4)
    draw_bell(axes, policy, f"paths of the policy: {policy[0]:.2f}", color=BLUE)
    draw_bell(axes, base, f"paths of the reference: {base[0]:.2f}", color=ORANGE)
    axes.set_title("The roll-out, Q = a - a²/2")
    axes.legend(loc="upper left")


def draw_steps(axes: Axes) -> None:
    """Q = a: mean reached with T flow steps."""
    steps = (2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 40)
    axes.axhline(1.0, color=GREEN, linewidth=4, alpha=0.4, label="exact")
    axes.plot(steps, [reached(qam.bridge(t)) for t in steps], "o-", color=BLUE, label="bridge")
    axes.plot(steps, [reached(qam.euler(t)) for t in steps], "o-", color=ORANGE, label="euler")
    axes.set_xscale("log")
    axes.set_xticks([2, 3, 4, 6, 10, 20, 40], ["2", "3", "4", "6", "10", "20", "40"])
    axes.minorticks_off()
    axes.set(xlabel="flow steps T", ylabel="mean reached", ylim=(0, 1.1))
    axes.set_title("The discretisation, Q = a")
    axes.legend(loc="lower right")


def draw_temperature(axes: Axes) -> None:
    """How far a temperature can move a success rate."""
    inv_temp = np.linspace(0.0, 6.0, 200)
    for rate, colour in ((0.76, BLUE), (0.5, GREEN), (0.2, ORANGE)):
        axes.plot(
            inv_temp, tilted_rate(rate, inv_temp), color=colour, label=f"reference {rate:.0%}"
        )
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(" λ = 2", (0.5, 0.03), color=GREY, fontsize=8)
    axes.set(xlabel="inv_temp = 1/λ", ylabel="success rate", ylim=(0, 1.02), xlim=(0, 6))
    axes.set_title("The temperature, Q exact and 0 or 1")
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.legend(loc="lower right")


if __name__ == "__main__":
    tyro.cli(main)
