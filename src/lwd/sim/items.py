"""The goods: twelve stock keeping units (SKUs), three shapes in four colours."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass

import mujoco

COLOURS = {
    "red": (0.85, 0.15, 0.15, 1.0),
    "green": (0.15, 0.65, 0.25, 1.0),
    "blue": (0.15, 0.30, 0.85, 1.0),
    "yellow": (0.95, 0.80, 0.15, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Outline of an item: an upright box or cylinder."""

    name: str
    radius: float
    """Half width of the body, m."""
    height: float
    """Full height, m."""
    round: bool
    """Whether it looks the same after any turn about its axis."""
    topped: bool
    """Whether one end is the top, as a bottle's."""


SHAPES = (
    Shape(name="box", radius=0.023, height=0.075, round=False, topped=False),
    Shape(name="can", radius=0.025, height=0.085, round=True, topped=False),
    Shape(name="bottle", radius=0.021, height=0.105, round=True, topped=True),
)


@dataclass(frozen=True, kw_only=True)
class Sku:
    """One kind of goods; a scene holds at most one item of it."""

    index: int
    """Place in `SKUS`."""
    shape: Shape
    colour: str

    @property
    def name(self) -> str:
        """What an instruction calls it, for example `red can`; also its body in the model."""
        return f"{self.colour} {self.shape.name}"


SKUS = tuple(
    Sku(index=4 * s + c, shape=shape, colour=colour)
    for s, shape in enumerate(SHAPES)
    for c, colour in enumerate(COLOURS)
)


def add_items(spec: mujoco.MjSpec) -> None:
    """Add one free body per SKU, its frame at the item's centre."""
    for sku in SKUS:
        body = spec.worldbody.add_body(name=sku.name)
        body.add_freejoint(name=sku.name)
        half, radius = sku.shape.height / 2, sku.shape.radius
        surface = {"condim": 4, "friction": [1, 0.01, 0.001], "rgba": COLOURS[sku.colour]}
        if not sku.shape.round:
            box = mujoco.mjtGeom.mjGEOM_BOX
            body.add_geom(type=box, size=[radius, radius, half], mass=0.15, **surface)
        else:
            cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
            body.add_geom(type=cylinder, size=[radius, half, 0], mass=0.15, **surface)
        if sku.shape.topped:  # a cap, to be told from a can by the cameras
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius * 0.6, 0.004, 0],
                pos=[0, 0, half + 0.004], mass=0.001, contype=0, conaffinity=0,
                rgba=[0.95, 0.95, 0.95, 1],
            )  # fmt: skip
