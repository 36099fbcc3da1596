"""The goods of the grocery tasks: twelve stock keeping units (SKUs), three shapes, four colours."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco

from lwd.sim.things import COLOURS, Shape, Thing

SHAPES = (
    Shape(kind="box", radius=0.023, height=0.075, round=False, topped=False),
    Shape(kind="can", radius=0.025, height=0.085, round=True, topped=False),
    Shape(kind="bottle", radius=0.021, height=0.105, round=True, topped=True),
)
SKUS = tuple(
    Thing(name=f"{colour} {shape.kind}", shape=shape, colour=colour)
    for shape in SHAPES
    for colour in COLOURS
)


def add_goods(spec: mujoco.MjSpec) -> None:
    """Add one free body per SKU."""
    for sku in SKUS:
        add_item(spec, sku)


def add_item(spec: mujoco.MjSpec, item: Thing, mass: float = 0.15) -> mujoco.MjsBody:
    """Add a solid box or cylinder with a free joint; `mass` in kg."""
    shape = item.shape
    body = spec.worldbody.add_body(name=item.name)
    body.add_freejoint(name=item.name)
    half, radius = shape.height / 2, shape.radius
    rgba = COLOURS.get(item.colour, (0.8, 0.8, 0.8, 1.0))
    surface = {"condim": 4, "friction": [1, 0.01, 0.001], "rgba": rgba}
    if not shape.round:
        box = mujoco.mjtGeom.mjGEOM_BOX
        body.add_geom(type=box, size=[radius, radius, half], mass=mass, **surface)
    else:
        cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
        body.add_geom(type=cylinder, size=[radius, half, 0], mass=mass, **surface)
    if shape.topped:  # a cap, to be told from a can by the cameras
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius * 0.6, 0.004, 0],
            pos=[0, 0, half + 0.004], mass=0.001, contype=0, conaffinity=0,
            rgba=[0.95, 0.95, 0.95, 1],
        )  # fmt: skip
    return body
