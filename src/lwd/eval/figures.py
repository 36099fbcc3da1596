"""The picture of a run: did the policy get better, did the critic know, did tau follow (Fig. 5-8).

Takes plain arrays; draws on a figure of its own, so nothing global is touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lwd.eval.intervals import wilson
from lwd.store.disk import written_aside

INK, FAINT = "#222222", "#c8c8c8"
BLUE, ORANGE, GREEN, GREY = "#2f6db5", "#d9822b", "#2f8f5b", "#8a8a8a"
BAR_COLOURS = (GREY, ORANGE, BLUE, GREEN)
STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Successes of a number of episodes."""

    label: str
    successes: int
    episodes: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """A policy that was evaluated after so many online episodes."""

    after: int
    successes: int
    episodes: int


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What the fleet did online, episode by episode in the order of production."""

    success: np.ndarray
    """[episodes] bool."""
    human: np.ndarray
    """[episodes] bool, whether an operator intervened."""
    checks: Sequence[Check] = ()
    """Held-out evaluations along the way."""


@dataclass(frozen=True, kw_only=True)
class ValueCurve:
    """V(s_t) over one episode."""

    label: str
    success: bool
    time_s: np.ndarray
    """[ticks] robot seconds since the start."""
    value: np.ndarray
    """[ticks] expected value."""
    low: np.ndarray | None = None
    """[ticks] lower quantile of the value distribution, where it is to be shown."""
    high: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """The quantile level and what it depends on, over learner updates (Fig. 8)."""

    update: np.ndarray
    """[reports] updates over all RL stages."""
    tau: np.ndarray
    """[reports] mean tau."""
    entropy: np.ndarray
    """[reports] mean normalised entropy of V, in [0, 1]."""
    online_from: int | None = None
    """First online update."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything that the picture of a run shows."""

    title: str
    stages: Sequence[Rate]
    """Held-out success after SFT, offline RL and online RL."""
    deployment: Deployment
    values: Sequence[ValueCurve]
    quantile: Quantile


def draw(story: Story, path: Path) -> None:
    """Write the picture as a PNG that is whole or absent."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, 7.2), layout="constrained")
        figure.suptitle(story.title, x=0.01, ha="left", fontsize=12, color=INK)
        left, right = figure.add_gridspec(1, 2, width_ratios=[1, 1.35])
        left, right = left.subgridspec(2, 1), right.subgridspec(2, 1)
        lower = right[1].subgridspec(2, 1, hspace=0.05)
        tau = figure.add_subplot(lower[0])
        draw_stages(figure.add_subplot(left[0]), story.stages)
        draw_values(figure.add_subplot(left[1]), story.values)
        draw_deployment(figure.add_subplot(right[0]), story.deployment)
        draw_quantile(tau, figure.add_subplot(lower[1], sharex=tau), story.quantile)
        with written_aside(path) as file:
            figure.savefig(file, format="png", dpi=150)


def draw_stages(axes: Axes, stages: Sequence[Rate]) -> None:
    """Success rate of each stage with its Wilson 95 % interval."""
    for place, stage in enumerate(stages):
        rate = stage.successes / stage.episodes
        low, high = wilson(stage.successes, stage.episodes)
        axes.bar(place, rate, width=0.62, color=BAR_COLOURS[place % len(BAR_COLOURS)])
        axes.errorbar(
            place, rate, [[rate - low], [high - rate]], color=INK, capsize=4, linewidth=1.2
        )
        axes.annotate(
            f"{rate:.0%}\n{stage.successes}/{stage.episodes}",
            (place, min(high + 0.02, 1.02)),
            ha="center",
            va="bottom",
            fontsize=8,
        )
    axes.set_xlim(-0.6, max(len(stages), 3) - 0.4)
    axes.set_xticks(range(len(stages)), [stage.label for stage in stages])
    _rates(axes)
    axes.set_ylim(0, 1.22)
    axes.set_title("Held-out success, Wilson 95 %")


def draw_deployment(axes: Axes, deployment: Deployment) -> None:
    """Success of the fleet while it is deployed, interventions, and held-out checks."""
    episodes = len(deployment.success)
    window = max(10, episodes // 12)
    if episodes >= window:
        autonomous = deployment.success & ~deployment.human
        curves = ((deployment.success, BLUE, "success"), (autonomous, GREEN, "without a human"))
        for series, colour, label in curves:
            after, rate, low, high = moving_rate(series, window)
            axes.plot(after, rate, color=colour, label=f"fleet: {label}, last {window} episodes")
            axes.fill_between(after, low, high, color=colour, alpha=0.12, linewidth=0)
    if deployment.checks:
        rates = np.array([check.successes / check.episodes for check in deployment.checks])
        bounds = np.array([wilson(c.successes, c.episodes) for c in deployment.checks])
        axes.errorbar(
            [check.after for check in deployment.checks],
            rates,
            np.stack([rates - bounds[:, 0], bounds[:, 1] - rates]),
            **{"fmt": "o", "color": INK, "markersize": 4, "capsize": 3, "linewidth": 1},
            label="held-out evaluation, no human",
        )
    axes.set_xlabel("online episodes of the fleet")
    _rates(axes)
    axes.set_title("Deployment")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")


def moving_rate(
    success: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Episode count, success rate of the last `window` episodes, and its Wilson interval."""
    sums = np.convolve(np.asarray(success, int), np.ones(window, int), mode="valid")
    bounds = np.array([wilson(int(k), window) for k in range(window + 1)])[sums]
    return np.arange(window, len(success) + 1), sums / window, bounds[:, 0], bounds[:, 1]


def draw_values(axes: Axes, curves: Sequence[ValueCurve]) -> None:
    """V(s_t) of whole episodes: it should rise towards success and fall before failure."""
    for curve in curves:
        colour = GREEN if curve.success else ORANGE
        axes.plot(curve.time_s, curve.value, color=colour, label=curve.label)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(
                curve.time_s, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
            )
        axes.plot(curve.time_s[-1], curve.value[-1], "o" if curve.success else "X", color=colour)
    axes.set_xlabel("robot seconds")
    axes.set_ylabel("V(s)")
    axes.set_title("What the critic expects")
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    if curves:
        axes.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")


def draw_quantile(tau: Axes, entropy: Axes, quantile: Quantile) -> None:
    """Tau above, normalised entropy below: tau rises as the critic becomes certain."""
    tau.plot(quantile.update, quantile.tau, color=BLUE)
    tau.set_ylabel("τ")
    tau.set_title("Quantile level τ and entropy of V")
    tau.tick_params(labelbottom=False)
    entropy.plot(quantile.update, quantile.entropy, color=ORANGE)
    entropy.set_ylabel("entropy")
    entropy.set_xlabel("learner updates (offline, then online)")
    for axes in (tau, entropy):
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        axes.margins(y=0.15)
        if quantile.online_from is not None:
            axes.axvline(quantile.online_from, color=GREY, linewidth=1, linestyle=":")
    if quantile.online_from is not None:
        tau.annotate(
            " online",
            (quantile.online_from, 1.0),
            xycoords=("data", "axes fraction"),
            va="top",
            color=GREY,
            fontsize=8,
        )


def _rates(axes: Axes) -> None:
    axes.set_ylim(0, 1.02)
    axes.set_yticks(np.linspace(0, 1, 6), [f"{rate:.0%}" for rate in np.linspace(0, 1, 6)])
    axes.set_ylabel("success rate")
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
