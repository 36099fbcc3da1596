"""Liquids as volumes: tilted vessels drain, streams fall into the vessel below or are spilled.

A volume is a number, so a litre costs nothing and a spill is exact. A vessel with fill fraction f
begins to run out when it is tilted by arctan(2 (1 - f) depth / (2 radius)) for f >= 1/2, where the
surface of a tilted cylinder reaches the lip; below half, where the surface also meets the floor, by
arctan(depth / (2 f 2 radius)). The outflow grows in proportion to the excess angle.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lwd.sim.things import Vessel

_FULL_FLOW = np.deg2rad(30)
_REACH = 0.01
"""A stream this far outside a mouth still flows in, m."""


@dataclass(kw_only=True)
class Liquids:
    """Volumes of one scene, ml."""

    ml: dict[str, float] = field(default_factory=dict)
    """By name of the vessel."""
    spilled_ml: dict[str, float] = field(default_factory=dict)
    """By name of the vessel that it came from."""
    poured_ml: dict[tuple[str, str], float] = field(default_factory=dict)
    """By names of the vessel that it came from and the one that caught it."""
    covered: set[str] = field(default_factory=set)
    """Names of the vessels with a lid on: nothing falls into them."""
    sealed: set[str] = field(default_factory=set)
    """Names of the vessels that nothing runs out of, however they are turned."""

    def copy(self) -> "Liquids":
        """The same volumes, independent of what happens next."""
        return Liquids(
            ml=dict(self.ml),
            spilled_ml=dict(self.spilled_ml),
            poured_ml=dict(self.poured_ml),
            covered=set(self.covered),
            sealed=set(self.sealed),
        )

    def missed(self, vessel: Vessel, since: "Liquids") -> float:
        """Share of what ran out of a vessel, after `since`, that no other one caught."""
        spilled = self._spilled(vessel) - since._spilled(vessel)
        caught = self._caught(vessel) - since._caught(vessel)
        return spilled / (spilled + caught) if spilled > 0 else 0.0

    def _spilled(self, vessel: Vessel) -> float:
        return self.spilled_ml.get(vessel.name, 0.0)

    def _caught(self, vessel: Vessel) -> float:
        return sum((ml for (name, _), ml in self.poured_ml.items() if name == vessel.name), 0.0)

    def volume(self, vessel: Vessel) -> float:
        """What a vessel holds, ml."""
        return self.ml.get(vessel.name, 0.0)

    def fill(self, vessel: Vessel, ml: float) -> None:
        """Set what a vessel holds; ValueError if it does not hold that much."""
        if not 0 <= ml <= vessel.capacity_ml:
            raise ValueError(f"{ml} ml do not fit the {vessel.name} of {vessel.capacity_ml} ml.")
        self.ml[vessel.name] = ml

    def pour(self, source: Vessel, into: Vessel | None, ml: float) -> None:
        """Move a volume; what overflows, hits a lid or has no vessel below, is spilled."""
        if source.name in self.sealed:
            return
        if into is not None and into.name in self.covered:
            into = None
        ml = min(ml, self.volume(source))
        self.ml[source.name] = self.volume(source) - ml
        room = 0.0 if into is None else into.capacity_ml - self.volume(into)
        caught = min(ml, room)
        if into is not None and caught > 0:
            self.ml[into.name] = self.volume(into) + caught
            key = (source.name, into.name)
            self.poured_ml[key] = self.poured_ml.get(key, 0.0) + caught
        if ml > caught:
            self.spilled_ml[source.name] = self.spilled_ml.get(source.name, 0.0) + ml - caught


def lip_angle(vessel: Vessel, ml: float) -> float:
    """Tilt at which a vessel that holds `ml` begins to run out, rad; a right angle when empty."""
    fraction = ml / vessel.capacity_ml
    width = 2 * vessel.mouth_radius
    if fraction >= 0.5:
        return float(np.arctan2(2 * (1 - fraction) * vessel.depth, width))
    return float(np.arctan2(vessel.depth, 2 * fraction * width))


def outflow(vessel: Vessel, ml: float, tilt: float) -> float:
    """Rate at which a tilted vessel runs out, ml/s."""
    excess = tilt - lip_angle(vessel, ml)
    return vessel.drain_ml_s * max(0.0, min(2.0, float(excess / _FULL_FLOW))) if ml > 0 else 0.0


def lip(vessel: Vessel, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """[3] lowest point of the rim, where the stream leaves."""
    top = position + rotation[:, 2] * vessel.shape.height / 2
    if vessel.spout:
        return top + rotation[:, 0] * (vessel.mouth_radius + vessel.spout)
    down = np.array([0, 0, -1.0]) + rotation[:, 2] * rotation[2, 2]
    length = np.linalg.norm(down)
    return top + down / length * vessel.mouth_radius if length > 1e-6 else top


def catcher(
    point: np.ndarray, vessels: Iterable[tuple[Vessel, np.ndarray, np.ndarray]]
) -> Vessel | None:
    """The vessel whose mouth a stream from a point falls into: the highest, standing upright.

    `vessels` are (vessel, position [3], rotation [3, 3]).
    """
    best, height = None, -np.inf
    for vessel, position, rotation in vessels:
        mouth = position + rotation[:, 2] * vessel.shape.height / 2
        near = np.linalg.norm(mouth[:2] - point[:2]) < vessel.mouth_radius + _REACH
        if near and rotation[2, 2] > 0.8 and height < mouth[2] < point[2] + 0.005:
            best, height = vessel, mouth[2]
    return best
