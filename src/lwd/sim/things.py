"""Things that a task's objects are made of: what they are called, how they look, what they hold."""

from dataclasses import dataclass

COLOURS = {
    "red": (0.85, 0.15, 0.15, 1.0),
    "green": (0.15, 0.65, 0.25, 1.0),
    "blue": (0.15, 0.30, 0.85, 1.0),
    "yellow": (0.95, 0.80, 0.15, 1.0),
}
KINDS = (
    *("box", "can", "bottle", "carton"),
    *("scoop", "leaves", "gaiwan", "lid", "kettle", "pitcher", "bowl", "cup"),
    *("fruit", "knife", "shaker", "ice", "glass", "cherry"),
    *("shoe", "shoebox"),
)
"""Every kind of object in the eight tasks; a slot of the state says which one it holds."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Outline of a thing: an upright box or cylinder."""

    kind: str
    """One of `KINDS`."""
    radius: float
    """Half width of the body, m."""
    height: float
    """Full height, m."""
    round: bool
    """Whether it looks the same after any turn about its axis."""
    topped: bool
    """Whether one end is the top, as a bottle's."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object: one body of the model, with a free joint of the same name where it can move.

    The body's frame is at the thing's centre, z along its axis; it fills a slot of the state.
    """

    name: str
    """What an instruction calls it, for example `red can`; also its body in the model."""
    shape: Shape
    colour: str = ""
    """One of `COLOURS`, empty where colour tells nothing."""

    @property
    def bodies(self) -> tuple[str, ...]:
        """Names of its bodies in the model."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Cluster(Thing):
    """Several small bodies that count as one thing: leaves, ice cubes."""

    count: int

    @property
    def bodies(self) -> tuple[str, ...]:
        """Names of its bodies, numbered from 0."""
        return tuple(f"{self.name} {k}" for k in range(self.count))


@dataclass(frozen=True, kw_only=True)
class Vessel(Thing):
    """A thing that holds liquid; the volume is a number, see `lwd.sim.liquids`."""

    capacity_ml: float
    mouth_radius: float
    """m."""
    depth: float
    """From the mouth down to the inner floor, m; the mouth is at the top of the outline."""
    spout: float = 0.0
    """How far the lip sticks out beyond the mouth along the body's x axis, m."""
    drain_ml_s: float = 40.0
    """Outflow when the vessel is tilted 30 degrees beyond the angle at which it begins."""
    liquid: tuple[float, float, float] = (0.55, 0.75, 0.95)
    """Colour of what is in it."""
