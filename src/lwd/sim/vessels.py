"""Bodies of vessels and beads, and what the cameras see of the liquid in them.

A vessel is one solid cylinder for the hands, the table and everything else; a polygon of walls
would turn in the jaws and tip. Beads pass through the solid and meet a floor and walls of their
own, which exist only where a vessel is to hold beads. What is seen is a turned mesh, hollow like
the real thing, without collisions.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from lwd.sim.liquids import catcher, lip, outflow
from lwd.sim.scene import Scene
from lwd.sim.task import TABLE_Z
from lwd.sim.things import Cluster, Shape, Thing, Vessel

Colour = tuple[float, float, float, float]
"""Red, green, blue, opacity, 0 to 1."""
BEADS = 4
"""Collision bit of beads: table, floor, finger pads, beads and the inner walls of vessels."""
_HIDDEN = 3
"""Group of geoms that no camera shows."""
_WALLS, _SEGMENTS = 8, 20
_THICK = 0.004
"""Half the thickness of an inner wall: at 1 m/s and 5 ms no bead jumps across."""
_GEOM = mujoco.mjtGeom


def add_vessel(
    spec: mujoco.MjSpec,
    vessel: Vessel,
    *,
    rgba: Colour,
    mass: float = 0.12,
    beads: bool = False,
    outline: Sequence[tuple[float, float]] = (),
    parent: mujoco.MjsBody | None = None,
) -> mujoco.MjsBody:
    """Add a vessel with a free joint, or fixed to `parent`; `mass` in kg.

    `outline` is the silhouette as (radius, height above the foot) in m from the foot to the mouth,
    by default straight; the inside is always a cylinder, and must fit. `beads` gives it walls that
    hold beads.
    """
    shape = vessel.shape
    body = (parent or spec.worldbody).add_body(name=vessel.name)
    if parent is None:
        body.add_freejoint(name=vessel.name)
    body.add_geom(
        type=_GEOM.mjGEOM_CYLINDER, size=[shape.radius, shape.height / 2, 0], mass=mass,
        condim=4, friction=[1, 0.01, 0.001], group=_HIDDEN,
    )  # fmt: skip
    straight = ((shape.radius, 0.0), (shape.radius, shape.height))
    look = spec.add_mesh(name=f"{vessel.name} look")
    look.uservert, look.userface = _turned(_hollow(vessel, outline or straight))
    body.add_geom(
        type=_GEOM.mjGEOM_MESH, meshname=look.name, mass=0, contype=0, conaffinity=0, rgba=rgba
    )
    if beads:
        _add_walls(body, vessel)
    return body


def add_beads(
    spec: mujoco.MjSpec,
    beads: Cluster | Thing,
    *,
    mass: float,
    rgba: Colour,
    box: bool = False,
    drag: float = 0.0,
) -> None:
    """Add small spheres, or cubes, of the thing's radius, which fit into vessels.

    `mass` is that of one, in kg; `drag` in N s/m (and N m s) makes them float like leaves, with a
    time constant of mass / drag, and keeps them from rolling.
    """
    radius = beads.shape.radius
    for name in beads.bodies:
        body = spec.worldbody.add_body(name=name)
        joint = body.add_freejoint(name=name)
        joint.damping = [drag, 0, 0]
        body.add_geom(
            type=_GEOM.mjGEOM_BOX if box else _GEOM.mjGEOM_SPHERE,
            size=[radius] * 3 if box else [radius, 0, 0], mass=mass, rgba=rgba,
            condim=4, friction=[0.2, 0.002, 0.0001], contype=BEADS, conaffinity=BEADS,
        )  # fmt: skip


def contained(scene: Scene, vessel: Vessel, thing: Thing) -> int:
    """Number of a thing's bodies whose middle is inside a vessel."""
    axes = scene.rotation(vessel)
    points = np.array([body_position(scene, body) for body in thing.bodies])
    local = (points - scene.position(vessel)) @ axes
    top = vessel.shape.height / 2
    near = np.hypot(local[:, 0], local[:, 1]) < vessel.mouth_radius
    return int((near & (local[:, 2] < top) & (local[:, 2] > top - vessel.depth - 0.005)).sum())


def body_position(scene: Scene, body: str) -> np.ndarray:
    """[3] centre of one movable body, for example of one bead."""
    q = scene.model.joint(body).qposadr[0]
    return scene.data.qpos[q : q + 3].copy()


class Drop(NamedTuple):
    """A visible cylinder of liquid."""

    radius: float
    half_length: float
    centre: np.ndarray
    """[3] m."""
    rotation: np.ndarray
    """[3, 3], the axis is the last column."""
    colour: tuple[float, float, float]


def visible(scene: Scene) -> Iterator[Drop]:
    """Levels and streams of a scene's liquids as cylinders, one per filled vessel and stream."""
    vessels = [thing for thing in scene.task.things if isinstance(thing, Vessel)]
    for vessel in vessels:
        if (ml := scene.liquids.volume(vessel)) <= 0:
            continue
        position, rotation = scene.position(vessel), scene.rotation(vessel)
        depth = vessel.depth * ml / vessel.capacity_ml
        middle = vessel.shape.height / 2 - vessel.depth + depth / 2
        yield Drop(
            0.97 * vessel.mouth_radius, max(depth / 2, 0.0005),
            position + rotation[:, 2] * middle, rotation, vessel.liquid,
        )  # fmt: skip
        tilt = float(np.arccos(np.clip(rotation[2, 2], -1, 1)))
        if outflow(vessel, ml, tilt) > 0:
            start = lip(vessel, position, rotation)
            others = [(v, scene.position(v), scene.rotation(v)) for v in vessels if v is not vessel]
            into = catcher(start, others)
            floor = scene.position(into)[2] if into else TABLE_Z
            yield Drop(
                0.003, max(start[2] - floor, 0.0) / 2,
                np.array([start[0], start[1], (start[2] + floor) / 2]), np.eye(3), vessel.liquid,
            )  # fmt: skip


def draw_liquids(view: mujoco.MjvScene, scene: Scene) -> None:
    """Add the liquids to a picture about to be rendered; the world itself is not touched."""
    for drop in visible(scene):
        if view.ngeom >= view.maxgeom:
            return
        mujoco.mjv_initGeom(
            view.geoms[view.ngeom], _GEOM.mjGEOM_CYLINDER,
            np.array([drop.radius, drop.half_length, 0.0]), drop.centre,
            drop.rotation.ravel(), np.array([*drop.colour, 1.0], np.float32),
        )  # fmt: skip
        view.ngeom += 1


def _add_walls(body: mujoco.MjsBody, vessel: Vessel) -> None:
    """Add a floor and a ring of walls that only beads meet."""
    inner, top = vessel.mouth_radius, vessel.shape.height / 2
    seen_by_beads = {
        "mass": 0, "contype": BEADS, "conaffinity": 0, "group": _HIDDEN,
        "friction": [0.2, 0.002, 0.0001],
    }  # fmt: skip
    floor = top - vessel.depth - _THICK
    body.add_geom(
        type=_GEOM.mjGEOM_CYLINDER, size=[inner, _THICK, 0], pos=[0, 0, floor], **seen_by_beads
    )
    for angle in np.linspace(0, 2 * np.pi, _WALLS, endpoint=False):
        c, s = np.cos(angle), np.sin(angle)
        body.add_geom(
            type=_GEOM.mjGEOM_BOX,
            size=[_THICK, (inner + _THICK) * np.tan(np.pi / _WALLS), vessel.depth / 2],
            pos=[(inner + _THICK) * c, (inner + _THICK) * s, top - vessel.depth / 2],
            quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)], **seen_by_beads,
        )  # fmt: skip


def _hollow(vessel: Vessel, outline: Sequence[tuple[float, float]]) -> np.ndarray:
    """[corners, 2] radius and height of a section, from the foot around the rim to the floor."""
    half = vessel.shape.height / 2
    outside = [(0.0, -half), *((radius, height - half) for radius, height in outline)]
    floor = half - vessel.depth
    return np.array(
        [*outside, (vessel.mouth_radius, half), (vessel.mouth_radius, floor), (0, floor)]
    )


def _turned(section: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles, both flat, of a section [corners, 2] turned about z.

    The first and the last corner lie on the axis.
    """
    angles = np.linspace(0, 2 * np.pi, _SEGMENTS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rings = [np.column_stack([r * circle, np.full(_SEGMENTS, z)]) for r, z in section[1:-1]]
    poles = [[0, 0, section[0, 1]], [0, 0, section[-1, 1]]]
    first, last = len(rings) * _SEGMENTS, len(rings) * _SEGMENTS + 1
    faces = []
    for k in range(_SEGMENTS):
        n = (k + 1) % _SEGMENTS
        faces.append((first, n, k))
        for ring in range(0, (len(rings) - 1) * _SEGMENTS, _SEGMENTS):
            a, b, c, d = ring + k, ring + n, ring + _SEGMENTS + k, ring + _SEGMENTS + n
            faces += [(a, b, d), (a, d, c)]
        faces.append((last, first - _SEGMENTS + k, first - _SEGMENTS + n))
    return np.concatenate([*rings, poles]).ravel(), np.array(faces).ravel()


def cylinder(kind: str, radius: float, height: float) -> Shape:
    """Outline of a vessel: round, with a top."""
    return Shape(kind=kind, radius=radius, height=height, round=True, topped=True)
