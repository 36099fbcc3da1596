"""Shoes, the shoebox with its hinged lid, and the rack: bodies of the packing task."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco

from lwd.sim.things import COLOURS, Shape, Thing

SHOE = Shape(kind="shoe", radius=0.025, height=0.066, round=False, topped=True)
"""0.16 m long; the toe points along x."""
FEET = ("left", "right")
PAIRS = {
    colour: tuple(Thing(name=f"{colour} {foot} shoe", shape=SHOE, colour=colour) for foot in FEET)
    for colour in COLOURS
}
COLLAR = (-0.030, 0.016)
"""x and z, in a shoe's frame, where a hand grasps it: the narrow part around the ankle."""
SHOEBOX = Thing(
    name="shoebox",
    shape=Shape(kind="shoebox", radius=0.092, height=0.08, round=False, topped=True),
)
LID = "shoebox lid"
"""Body of the lid; its hinge is the joint `lid`, 0 closed."""
INSIDE = (0.092, 0.086)
"""Half sizes of the box's inside along x and y, m."""
HINGE = (0.098, 0.0, 0.042)
"""The lid's hinge in the box's frame; the axis is y."""
KNOB = -0.222
"""x of the middle of the knob at the lid's front, from the hinge."""
HANDLE = (0.0, 0.132, 0.016)
"""Middle of the handle on the box's left side, a plate beside the wall; mirrored on the right."""
RACK_DEPTH, RACK_HALF_WIDTH, RACK_HEIGHT = 0.20, 0.27, 0.09

_BOX, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
_SURFACE = {"condim": 4, "friction": [1, 0.01, 0.001]}
_SEEN = {"contype": 0, "conaffinity": 0, "mass": 0.0}
"""Of what is only to be seen."""
_CARDBOARD, _LINER = (0.80, 0.62, 0.42, 1), (0.66, 0.30, 0.22, 1)


def add_shoe(spec: mujoco.MjSpec, shoe: Thing, mass: float = 0.2) -> None:
    """Add a shoe with a free joint: sole, toe, heel and a narrow collar; `mass` in kg."""
    body = spec.worldbody.add_body(name=shoe.name)
    body.add_freejoint(name=shoe.name)
    colour = COLOURS[shoe.colour]
    darker = (*(0.6 * c for c in colour[:3]), 1)
    sole = -SHOE.height / 2
    parts = (
        ((0, 0, sole + 0.007), (0.08, 0.025, 0.007), 0.3, (0.93, 0.93, 0.90, 1)),
        ((0.042, 0, sole + 0.023), (0.035, 0.023, 0.009), 0.2, colour),
        ((-0.034, 0, sole + 0.025), (0.042, 0.023, 0.011), 0.3, colour),
        ((COLLAR[0], 0, sole + 0.051), (0.032, 0.012, 0.015), 0.2, darker),
    )
    for position, size, share, rgba in parts:
        body.add_geom(type=_BOX, pos=position, size=size, mass=share * mass, rgba=rgba, **_SURFACE)
    for k in range(3):  # laces
        body.add_geom(
            type=_BOX, pos=[0.012 + 0.014 * k, 0, sole + 0.033], size=[0.003, 0.016, 0.002],
            rgba=[0.97, 0.97, 0.97, 1], **_SEEN,
        )  # fmt: skip


def add_shoebox(spec: mujoco.MjSpec) -> None:
    """Add the open box with a handle on either side, a free joint, and the lid on its hinge."""
    body = spec.worldbody.add_body(name=SHOEBOX.name)
    body.add_freejoint(name=SHOEBOX.name)
    half, wall = SHOEBOX.shape.height / 2, 0.003
    x, y = INSIDE[0] + wall, INSIDE[1] + wall
    walls = (
        ((0, 0, wall - half), (x, y, wall), 0.12),
        ((x, 0, 0), (wall, y, half), 0.05),
        ((-x, 0, 0), (wall, y, half), 0.05),
        ((0, y, 0), (x, wall, half), 0.05),
        ((0, -y, 0), (x, wall, half), 0.05),
    )
    for position, size, mass in walls:
        body.add_geom(type=_BOX, pos=position, size=size, mass=mass, rgba=_CARDBOARD, **_SURFACE)
    for sign in (1, -1):
        _add_handle(body, sign)
    _add_lid(body)


def _add_handle(body: mujoco.MjsBody, sign: int) -> None:
    """Add a plate beside the wall, held by two struts."""
    x, y, z = HANDLE
    body.add_geom(
        type=_BOX, pos=[x, sign * y, z], size=[0.034, 0.003, 0.018], mass=0.01, rgba=_LINER,
        **_SURFACE,
    )  # fmt: skip
    inner = INSIDE[1] + 0.006
    for side in (-0.031, 0.031):
        body.add_geom(
            type=_BOX, pos=[x + side, sign * (y + inner) / 2, z],
            size=[0.003, (y - inner) / 2, 0.012], mass=0.002, rgba=_LINER,
        )  # fmt: skip


def _add_lid(box: mujoco.MjsBody) -> None:
    lid = box.add_body(name=LID, pos=HINGE)
    lid.add_joint(
        name="lid", axis=[0, 1, 0], range=[0, 1.95], limited=True,
        damping=[0.01, 0, 0], frictionloss=0.01, armature=0.0005,
    )  # fmt: skip
    reach = 0.099
    lid.add_geom(
        type=_BOX, pos=[-reach, 0, 0.003], size=[reach, 0.094, 0.003], mass=0.05, rgba=_LINER,
        **_SURFACE,
    )  # fmt: skip
    lid.add_geom(  # the lid's rim
        type=_BOX, pos=[-2 * reach, 0, -0.008], size=[0.002, 0.094, 0.011], rgba=_LINER, **_SEEN
    )
    lid.add_geom(
        type=_BOX, pos=[(KNOB - 2 * reach) / 2, 0, 0.003], size=[-reach - KNOB / 2, 0.005, 0.003],
        mass=0.002, rgba=_LINER,
    )  # fmt: skip
    lid.add_geom(
        type=_CYLINDER, pos=[KNOB, 0, 0.003], size=[0.010, 0.016, 0],
        quat=[0.5**0.5, 0.5**0.5, 0, 0], mass=0.008, rgba=[0.15, 0.15, 0.15, 1], **_SURFACE,
    )  # fmt: skip


def add_rack(fixture: mujoco.MjsBody) -> None:
    """Add a rack of slats on legs, in its frame: x inwards from the middle of the front."""
    wood = (0.62, 0.45, 0.28, 1)
    for k in range(5):
        x = (0.1 + 0.2 * k) * RACK_DEPTH
        fixture.add_geom(
            type=_BOX, pos=[x, 0, RACK_HEIGHT - 0.006], size=[0.013, RACK_HALF_WIDTH, 0.006],
            rgba=wood,
        )  # fmt: skip
    for x in (0.01, RACK_DEPTH - 0.01):
        for y in (-RACK_HALF_WIDTH + 0.01, 0.0, RACK_HALF_WIDTH - 0.01):
            fixture.add_geom(
                type=_BOX, pos=[x, y, RACK_HEIGHT / 2 - 0.006],
                size=[0.01, 0.01, RACK_HEIGHT / 2 - 0.006], rgba=wood,
            )  # fmt: skip
        fixture.add_geom(
            type=_BOX, pos=[x, 0, 0.03], size=[0.006, RACK_HALF_WIDTH, 0.006], rgba=wood, **_SEEN
        )
