"""What may be wrong with statistics, before a policy is trained or deployed with them."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from lwd.models.inputs.format import ABSOLUTE
from lwd.models.inputs.norm_stats import EPSILON, NormStats
from lwd.models.inputs.running import Spread

Frame = Literal["absolute", "relative", "unclear"]
CLIPPED = 0.02
"""Share of samples at the smallest or largest value from which on a range counts as clipped."""
REACH = 5.0
"""Distance of the farthest sample from 0, in network units, from which on there are outliers."""
UNITS = {np.degrees(1.0): "degrees and radians", 1000.0: "mm and m", 100.0: "cm and m"}
"""Ratios of ranges that tell of other units."""


class Finding(NamedTuple):
    """One thing that somebody should look at."""

    quantity: str
    """`state` or `actions`."""
    dimension: int | None
    """None for all of them."""
    kind: str
    """`constant`, `clipped`, `outliers`, `frame`, `dimensions`, `units`, `shift` or `range`."""
    message: str


def review(
    stats: Mapping[str, NormStats],
    spreads: Mapping[str, Spread] | None = None,
    *,
    anchored: Sequence[int] | None = None,
) -> list[Finding]:
    """Findings about one set of statistics.

    `anchored` has for each action dimension the dimension of the statistics' state that it is
    relative to, or -1 if it is absolute; None does not compare.
    """
    found = [f for name in stats for f in _constant(name, stats[name])]
    for name, spread in (spreads or {}).items():
        found += _clipped(name, spread) + _outliers(name, stats[name], spread)
    if anchored is not None and any(at != ABSOLUTE for at in anchored):
        found += _frame(stats, anchored)
    return found


def compare(first: Mapping[str, NormStats], second: Mapping[str, NormStats]) -> list[Finding]:
    """What would change if the second statistics took the place of the first."""
    found = []
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            missing = "first" if name not in first else "second"
            found.append(Finding(name, None, "dimensions", f"the {missing} has none of {name}"))
        elif len(first[name].mean) != len(second[name].mean):
            sizes = f"{len(first[name].mean)} and {len(second[name].mean)} dimensions"
            found.append(Finding(name, None, "dimensions", f"{sizes}: another robot or padding"))
        else:
            found += _differences(name, first[name], second[name])
    return found


def frame_of(stats: Mapping[str, NormStats], anchors: Sequence[int]) -> Frame:
    """Whether actions look like targets as the joints are measured, or like differences from them.

    Targets have the mean of the joints that they are for; differences have a mean near 0. Joints
    whose own mean is near 0 say nothing.
    """
    votes = []
    for action, at in enumerate(anchors):
        if at == ABSOLUTE or at >= len(stats["state"].mean):
            continue
        joint, mean = stats["state"].mean[at], stats["actions"].mean[action]
        width = max(stats["state"].q99[at] - stats["state"].q01[at], EPSILON)
        if abs(joint) > width / 4:
            votes.append(abs(mean - joint) < abs(mean))
    if not votes or 0.3 < np.mean(votes) < 0.7:
        return "unclear"
    return "absolute" if np.mean(votes) > 0.5 else "relative"


def _frame(stats: Mapping[str, NormStats], anchored: Sequence[int]) -> list[Finding]:
    if frame_of(stats, anchored) != "absolute":
        return []
    message = (
        "the statistics look like those of absolute targets, but targets relative to the measured "
        "joints are to be normalised; compute them again, or train with absolute targets"
    )
    return [Finding("actions", None, "frame", message)]


def _constant(name: str, stats: NormStats) -> list[Finding]:
    """Dimensions that never change; `widened` has given those a range of 2 and a deviation of 1."""
    width = stats.q99 - stats.q01
    nothing = (stats.std < EPSILON) | (width < EPSILON)
    made = (stats.std == 1.0) & np.isclose(width, 2.0) & np.isclose(stats.q01 + 1, stats.mean)
    text = "never changes ({:.4g}): the policy learns nothing of it"
    return [
        Finding(name, int(at), "constant", text.format(stats.mean[at]))
        for at in np.flatnonzero(nothing | made)
    ]


def _clipped(name: str, spread: Spread) -> list[Finding]:
    text = "{:.0%} of the samples are at {:.4g} or {:.4g}: a limit (a gripper has two), or clipped"
    clipped = (spread.at_limits > CLIPPED) & (spread.high > spread.low)
    return [
        Finding(
            name,
            int(at),
            "clipped",
            text.format(spread.at_limits[at], spread.low[at], spread.high[at]),
        )
        for at in np.flatnonzero(clipped)
    ]


def _outliers(name: str, stats: NormStats, spread: Spread) -> list[Finding]:
    reach = np.maximum(
        np.abs(stats.normalise(spread.low, "quantile")),
        np.abs(stats.normalise(spread.high, "quantile")),
    )
    text = "reaches {:.1f} in network units, where 98 % lie within 1: outliers, or a rare motion"
    return [
        Finding(name, int(at), "outliers", text.format(reach[at]))
        for at in np.flatnonzero(reach > REACH)
    ]


def _differences(name: str, first: NormStats, second: NormStats) -> list[Finding]:
    widths = [np.maximum(each.q99 - each.q01, EPSILON) for each in (first, second)]
    ratio = widths[1] / widths[0]
    shift = np.abs(second.mean - first.mean) / widths[0]
    found = []
    for at in range(len(ratio)):
        if units := _units(ratio[at]):
            message = f"the second range is {ratio[at]:.4g} times the first: {units}?"
            found.append(Finding(name, at, "units", message))
        elif not 0.5 <= ratio[at] <= 2:
            message = f"the second range is {ratio[at]:.3g} times the first"
            found.append(Finding(name, at, "range", message))
        if shift[at] > 0.5:
            means = f"the mean goes from {first.mean[at]:.4g} to {second.mean[at]:.4g}"
            message = f"{means}, {shift[at]:.2g} of the first range"
            found.append(Finding(name, at, "shift", message))
    return found


def _units(ratio: float) -> str:
    """Units that a ratio of ranges tells of, within a tenth."""
    for factor, units in UNITS.items():
        if any(abs(each / factor - 1) < 0.1 for each in (ratio, 1 / ratio)):
            return units
    return ""
