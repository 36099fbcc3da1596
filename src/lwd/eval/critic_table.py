"""The terminal's view of `lwd diagnose critic`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from lwd.learner.diagnose.bootstrap import Estimate

if TYPE_CHECKING:
    from lwd.eval.critic import Examined


def render(examined: "Examined") -> RenderableType:
    """Every finding with its interval, a table for each question."""
    found = examined.diagnosis
    parts: list[RenderableType] = [
        f"{found.recipe}, {found.stage} update {found.update}, acts by {found.act}; "
        f"Q is {found.q}, inv_temp {found.inv_temp:g}; {examined.episodes_from}; "
        f"{found.successes} of {found.episodes} succeeded, {found.states} states",
        rankings(examined),
        spreads(examined),
        calibration(examined),
        gradient(examined),
    ]
    if examined.true_ranking is not None:
        parts.append(simulated(examined))
    parts.append("Brackets: 95 % bootstrap intervals over episodes.")
    return Group(*parts)


def rankings(examined: "Examined") -> Table:
    """P(Q(executed) > Q(other)) in states of successes, by task, and in those of failures."""
    found = examined.diagnosis.rankings
    tasks = list(dict.fromkeys(ranking.task for ranking in found))
    of = {(r.alternative, r.task, r.success): share(r.wins) for r in found}
    columns = ("other chunk", *(f"successes, {task}" for task in tasks), "failures, all")
    shown = _table("Same state: Q prefers the executed chunk (chance 50 %)", columns)
    for name in dict.fromkeys(ranking.alternative for ranking in found):
        cells = [of.get((name, task, True), "-") for task in tasks]
        shown.add_row(name, *cells, of.get((name, "all", False), "-"))
    return shown


def spreads(examined: "Examined") -> Table:
    """Spread of Q over states and over actions; gain of the policy over the reference."""
    found = examined.diagnosis
    columns = ("", *(spread.task for spread in found.spreads))
    shown = _table("States or actions? Q of the policy's chunks", columns)
    rows = (
        ("standard deviation over states", [number(s.across) for s in found.spreads]),
        ("standard deviation in one state", [number(s.within) for s in found.spreads]),
        ("their ratio", [share(s.ratio) for s in found.spreads]),
        ("agreement of the heads in one state", [number(s.agreement) for s in found.spreads]),
        ("Q(policy) - Q(reference)", [number(g.mean, sign=True) for g in found.gains]),
        ("by the head that sees least", [number(g.smallest, sign=True) for g in found.gains]),
        ("states in which all heads see a gain", [share(g.agreed) for g in found.gains]),
    )
    for name, cells in rows:
        shown.add_row(name, *cells)
    return shown


def calibration(examined: "Examined") -> Table:
    """Predictions against the discounted returns that came."""
    found = examined.diagnosis
    columns = ("predictor", "task", "bias", "calibration error", "correlation")
    shown = _table("Against Monte-Carlo returns", columns)
    for one in found.reliability:
        numbers = number(one.bias, sign=True), number(one.error), number(one.correlation)
        shown.add_row(one.predictor, one.task, *numbers)
    targets = found.targets
    shown.caption = (
        f"TD targets: {share(targets.below)} below 0, {share(targets.above)} above 1, "
        f"highest {targets.highest:.3f}"
    )
    shown.caption_justify = "left"
    return shown


def gradient(examined: "Examined") -> Table:
    """dQ/da against finite differences, its reach, and how far the policy has gone."""
    slope, tilt = examined.diagnosis.slope, examined.diagnosis.tilt
    columns = ("step along dQ/da", "promised", "change of Q", "all heads agree")
    shown = _table("Action gradient and tilt (normalised units, root mean square)", columns)
    for reach in slope.reach:
        promised = f"{reach.predicted:+.3f}"
        shown.add_row(
            f"{reach.length:g}", promised, number(reach.realised, sign=True), share(reach.agreed)
        )
    shown.caption = (
        f"finite difference / gradient {slope.along:.4f} along it, relative error "
        f"{slope.along_error:.1e} (95 % of states), {slope.random_error:.1e} in random "
        f"directions\npolicy - reference: chunks {number(tilt.endpoint)}, velocities "
        f"{number(tilt.velocity)}; the reference's own spread {number(tilt.reference)}; "
        f"log density ratio asked for {number(tilt.log_ratio)}"
    )
    shown.caption_justify = "left"
    return shown


def simulated(examined: "Examined") -> Table:
    """Q against what came of several chunks executed from the same states."""
    truth = examined.true_ranking
    assert truth is not None
    columns = ("chunks", "states", "Q prefers the better", "rank correlation", "of two halves")
    shown = _table("Executed in the simulator from the same states", columns)
    for one in truth.agreements:
        shown.add_row(
            one.chunks,
            f"{one.decided} of {one.states} differ",
            share(one.accuracy),
            number(one.correlation, sign=True),
            number(one.repeatability, sign=True),
        )
    shown.caption = (
        f"{truth.continuations} continuations; across states Q and outcome correlate by "
        f"{number(truth.across, sign=True)}"
    )
    shown.caption_justify = "left"
    return shown


def share(estimate: Estimate) -> str:
    """`62% [55, 68]`."""
    return f"{estimate.value:.0%} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def number(estimate: Estimate, *, sign: bool = False) -> str:
    """`0.123 [0.100, 0.150]`."""
    form = "+.3f" if sign else ".3f"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _table(title: str, columns: Sequence[str]) -> Table:
    shown = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        shown.add_column(column, justify="right" if place else "left")
    return shown
