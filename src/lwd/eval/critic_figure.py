"""The picture of `lwd diagnose critic`: does Q know actions, do V and Q mean what they say."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lwd.eval.figures import BLUE, FAINT, GREEN, GREY, INK, ORANGE, STYLE
from lwd.eval.true_ranking import TrueRanking
from lwd.learner.diagnose.actions import Gain, Ranking, Spread, Tilt
from lwd.learner.diagnose.bootstrap import Estimate
from lwd.learner.diagnose.calibration import Reliability, Targets, ValueCurve
from lwd.learner.diagnose.slope import Slope
from lwd.store.disk import written_aside

if TYPE_CHECKING:
    from lwd.eval.critic import Examined

OUTCOMES = ((True, GREEN, "o", "successes"), (False, ORANGE, "D", "failures"))
SHOWN = (("V mean", BLUE, "o"), ("Q", ORANGE, "s"))
"""Predictors whose reliability is drawn."""
NAMES = {
    "policy": "another chunk of the policy",
    "reference": "a chunk of the reference",
    "shuffled": "a chunk of another state",
}


def draw(examined: "Examined", path: Path) -> None:
    """Write the picture as a PNG that is whole or absent."""
    found = examined.diagnosis
    with rc_context(STYLE):
        figure = Figure(figsize=(13.0, 7.8))
        title = f"Can this critic be trusted with a policy? ({found.stage} update {found.update})"
        figure.text(0.012, 0.965, title, fontsize=13, color=INK)
        figure.text(0.012, 0.018, _note(examined), fontsize=7.5, color=GREY, linespacing=1.4)
        places = {"left": 0.14, "right": 0.985, "top": 0.905, "bottom": 0.125}
        axes = figure.subplots(2, 3, gridspec_kw=places | {"wspace": 0.3, "hspace": 0.38})
        draw_ranking(axes[0, 0], found.rankings)
        draw_spread(axes[0, 1], found.spreads, found.gains)
        draw_reach(axes[0, 2], found.slope, found.tilt)
        draw_curves(axes[1, 0], found.curves)
        draw_reliability(axes[1, 1], found.reliability)
        if examined.true_ranking is None:
            draw_targets(axes[1, 2], found.targets, found.tilt)
        else:
            draw_truth(axes[1, 2], examined.true_ranking)
        with written_aside(path) as file:
            figure.savefig(file, format="png", dpi=150)


def draw_ranking(axes: Axes, rankings: Sequence[Ranking]) -> None:
    """How often Q prefers the executed chunk to another one in the same state."""
    shown = [ranking for ranking in rankings if ranking.task == "all"]
    names = list(dict.fromkeys(ranking.alternative for ranking in shown))
    names.sort(key=lambda name: (name not in NAMES, name.split()[0] == "shift"))
    for success, colour, marker, label in OUTCOMES:
        of = {ranking.alternative: ranking.wins for ranking in shown if ranking.success == success}
        places = [place for place, name in enumerate(names) if name in of]
        offset = -0.13 if success else 0.13
        _points(
            axes.errorbar,
            [of[names[place]] for place in places],
            [place + offset for place in places],
            colour,
            marker,
            f"states of {label}",
        )
    axes.plot([0.5, 0.5], [-0.6, len(names)], color=INK, linewidth=1, linestyle=":", label="chance")
    axes.set_yticks(range(len(names)), [_spoken(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -1.7)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 5), [f"{rate:.0%}" for rate in np.linspace(0, 1, 5)])
    axes.set_xlabel("Q prefers the executed chunk to …")
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    axes.set_title("Same state, other action")
    axes.legend(loc="upper left", ncols=3, columnspacing=1.0, handletextpad=0.3, borderaxespad=0)


def draw_spread(axes: Axes, spreads: Sequence[Spread], gains: Sequence[Gain]) -> None:
    """Standard deviations of Q over states and over actions, and the policy's gain, by task."""
    gain_of = {gain.task: gain.mean for gain in gains}
    kinds = (
        ("standard deviation over states", FAINT, lambda spread: spread.across),
        ("… over the policy's chunks in one state", BLUE, lambda spread: spread.within),
        ("mean of Q(policy) − Q(reference)", GREEN, lambda spread: gain_of[spread.task]),
    )
    for number, (label, colour, pick) in enumerate(kinds):
        for place, spread in enumerate(spreads):
            bar: Estimate = pick(spread)
            at = place + (number - 1) * 0.3
            axes.bar(at, bar.value, width=0.26, color=colour, label=label if not place else None)
            if np.isfinite([bar.low, bar.high]).all():
                axes.plot([at, at], [bar.low, bar.high], color=INK, linewidth=1.1)
            top = np.nanmax([bar.value, bar.high, 0.0])
            axes.annotate(f"{bar.value:.3f}".lstrip("0"), (at, top), xytext=(0, 2), fontsize=7.5,
                          textcoords="offset points", ha="center")  # fmt: skip
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(spreads)), [_task(spread.task) for spread in spreads])
    axes.set_ylabel("Q")
    axes.margins(y=0.4)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_title("Does Q know states or actions?")
    axes.legend(loc="upper left", borderaxespad=0.2)


def draw_reach(axes: Axes, slope: Slope, tilt: Tilt) -> None:
    """What a step along dQ/da gains, against what the gradient promises."""
    length = np.array([reach.length for reach in slope.reach])
    realised = np.array([reach.realised for reach in slope.reach])
    axes.plot(length, [reach.predicted for reach in slope.reach], "--", color=GREY,
              label="promised by the gradient")  # fmt: skip
    axes.plot(length, realised[:, 0], "o-", color=BLUE, markersize=4, label="change of Q")
    axes.fill_between(length, realised[:, 1], realised[:, 2], color=BLUE, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.6 * max(np.nanmax(realised), 1e-3))
    axes.set_xticks(length, [f"{x:g}" for x in length])
    axes.minorticks_off()
    for at, text, side in (
        (tilt.endpoint.value, "policy −\nreference", "right"),
        (tilt.reference.value, "reference's\nown spread", "left"),
    ):
        if at > 0:
            axes.axvline(at, color=INK, linewidth=1, linestyle=":")
            axes.annotate(text, (at, 0.99), xycoords=("data", "axes fraction"), ha=side, va="top",
                          xytext=(3 if side == "left" else -3, 0), textcoords="offset points",
                          fontsize=7.5)  # fmt: skip
    axes.set_xlabel("step along dQ/da (RMS, normalised units)")
    axes.set_ylabel("gain of Q")
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_title("How far the action gradient reaches")
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.84))


def draw_curves(axes: Axes, curves: Sequence[ValueCurve]) -> None:
    """Mean V before the end, over successes and over failures, with the return that came."""
    for success, colour, marker, label in OUTCOMES:
        for curve in curves:
            if (curve.task, curve.success) == ("all", success):
                before = -np.array(curve.before_end_s)
                axes.plot(before, curve.value, color=colour, label=f"{curve.episodes} {label}")
                axes.fill_between(
                    before, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
                )
                axes.plot(before, curve.truth, color=colour, linewidth=1, linestyle=":")
                axes.plot(before[0], curve.value[0], marker, color=colour, markersize=5)
    axes.plot([], [], color=INK, linewidth=1, linestyle=":", label="return that came")
    axes.set_ylim(-0.05, 1.32)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xlabel("robot seconds to the end")
    axes.set_ylabel("mean V(s)")
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_title("What V expected before the end")
    axes.legend(loc="upper left", ncols=2, columnspacing=1.2, borderaxespad=0.2)


def draw_reliability(axes: Axes, curves: Sequence[Reliability]) -> None:
    """Mean return of states with a like prediction."""
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    for name, colour, marker in SHOWN:
        for curve in curves:
            if (curve.predictor, curve.task) == (name, "all"):
                observed = [
                    Estimate(*numbers)
                    for numbers in zip(curve.observed, curve.low, curve.high, strict=True)
                ]
                label = f"{name}: error {curve.error.value:.2f}, bias {curve.bias.value:+.2f}"
                _points(axes.errorbar, observed, curve.predicted, colour, marker, label, up=True)
    axes.set_xlim(-0.05, 1.1)
    axes.set_ylim(-0.05, 1.32)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xlabel("predicted, mean of a tenth of the states")
    axes.set_ylabel("discounted return that came")
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_title("Do V and Q mean what they say?")
    axes.legend(loc="upper left", borderaxespad=0.2)


def draw_truth(axes: Axes, truth: TrueRanking) -> None:
    """Agreement of Q with what came of the chunks of one state in the simulator."""
    measures = (
        ("Q prefers the better chunk (chance 0.5)", lambda a: a.accuracy, 0.5),
        ("rank correlation of Q and outcome in a state", lambda a: a.correlation, 0.0),
        ("… of two halves of the outcomes", lambda a: a.repeatability, 0.0),
    )
    for number, agreement in enumerate(truth.agreements):
        offset = (number - 0.5) * 0.24
        _points(
            axes.errorbar,
            [pick(agreement) for _, pick, _ in measures],
            [place + offset for place in range(len(measures))],
            (BLUE, GREEN)[number % 2],
            "o",
            f"chunks of the {agreement.chunks} ({agreement.states} states)",
        )
    for place, (_, _, chance) in enumerate(measures):
        axes.plot([chance, chance], [place - 0.25, place + 0.25], color=INK, linestyle=":")
    for place, (name, _, _) in enumerate(measures):
        axes.text(-0.98, place - 0.32, name, fontsize=8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(measures) + 0.25, -0.7)
    axes.set_xlim(-1, 1.02)
    axes.set_xlabel(f"{truth.continuations} continuations; dotted: chance")
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    axes.set_title("Executed in the simulator")
    axes.legend(loc="lower left", borderaxespad=0.2)


def draw_targets(axes: Axes, targets: Targets, tilt: Tilt) -> None:
    """The numbers that need no axes."""
    rows = (
        ("TD targets", ""),
        ("mean", f"{targets.mean.value:.2f}"),
        ("below 0", f"{targets.below.value:.2%}"),
        ("above 1", f"{targets.above.value:.2%}"),
        ("highest", f"{targets.highest:.3f}"),
        ("Tilt (root mean square)", ""),
        ("policy's chunk − reference's", f"{tilt.endpoint.value:.3f}"),
        ("their velocities", f"{tilt.velocity.value:.3f}"),
        ("the reference's own spread", f"{tilt.reference.value:.3f}"),
        ("log density ratio asked for", f"{tilt.log_ratio.value:.2f}"),
    )
    axes.set_axis_off()
    for place, (name, value) in enumerate(rows):
        y, weight = 0.95 - 0.098 * place, "normal" if value else "bold"
        axes.text(0.0 if not value else 0.04, y, name, va="top", fontsize=9, fontweight=weight)
        axes.text(0.95, y, value, va="top", ha="right", fontsize=9)


def _points(
    errorbar: Callable[..., object],
    estimates: Sequence[Estimate],
    places: Sequence[float],
    colour: str,
    marker: str,
    label: str,
    *,
    up: bool = False,
) -> None:
    """Estimates with intervals, side by side or, with `up`, above their places."""
    value, low, high = np.array(estimates, float).reshape(-1, 3).T
    bars = np.nan_to_num(np.maximum([value - low, high - value], 0.0))
    settings = {"fmt": marker, "color": colour, "markersize": 4.5, "linewidth": 1.2, "capsize": 2}
    if up:
        errorbar(places, value, yerr=bars, label=label, **settings)
    else:
        errorbar(value, places, xerr=bars, label=label, **settings)


def _spoken(alternative: str) -> str:
    if alternative in NAMES:
        return NAMES[alternative]
    kind, size = alternative.split()
    return f"itself + noise {size}" if kind == "noise" else f"itself + offset {size}"


def _task(name: str) -> str:
    return "all tasks" if name == "all" else name


def _note(examined: "Examined") -> str:
    found = examined.diagnosis
    return (
        f"{examined.episodes_from[0].upper()}{examined.episodes_from[1:]}. {found.successes} of "
        f"{found.episodes} succeeded; {found.states} states, {found.samples} chunks of each kind "
        f"in each; Q is {found.q}.\nBars and bands: 95 % bootstrap intervals over episodes. "
        f"Offsets and noises in normalised units."
    )
