"""A bar: bottles, a shaker whose lid catches, ice in a tub, a stemmed glass and a cherry."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

from lwd.sim.lids import PLATE, add_lid, lid, lid_on
from lwd.sim.scene import Scene
from lwd.sim.things import COLOURS, Shape, Thing, Vessel
from lwd.sim.vessels import BEADS, add_beads, add_vessel, contained, cylinder

COLOUR_OF = {"campari": "red", "midori": "green", "gin": "blue", "rum": "yellow"}
BOTTLES = {
    name: Vessel(
        name=name, shape=cylinder("bottle", 0.024, 0.15), colour=colour, capacity_ml=200.0,
        mouth_radius=0.010, depth=0.14, drain_ml_s=16.0, liquid=COLOURS[colour][:3],
    )
    for name, colour in COLOUR_OF.items()
}  # fmt: skip
BOTTLE_ML = 150.0
"""What a bottle holds at first."""
SHAKER = Vessel(
    name="shaker", shape=cylinder("shaker", 0.034, 0.11), capacity_ml=250.0, mouth_radius=0.031,
    depth=0.085, drain_ml_s=30.0, liquid=(0.9, 0.6, 0.4),
)  # fmt: skip
LID = lid("lid", 0.037)
GLASS = Vessel(
    name="glass", shape=cylinder("glass", 0.038, 0.13), capacity_ml=150.0, mouth_radius=0.034,
    depth=0.055, liquid=(0.9, 0.6, 0.4),
)  # fmt: skip
TUB = Thing(
    name="tub", shape=Shape(kind="bowl", radius=0.06, height=0.02, round=False, topped=True)
)
DISH = Thing(
    name="dish", shape=Shape(kind="bowl", radius=0.03, height=0.01, round=True, topped=True)
)
_CUBE = Shape(kind="ice", radius=0.009, height=0.018, round=False, topped=False)
ICE = tuple(Thing(name=f"ice {k}", shape=_CUBE) for k in range(3))
CHERRY = Thing(
    name="cherry", shape=Shape(kind="cherry", radius=0.009, height=0.018, round=True, topped=False)
)
FLOOR = 0.004
"""Thickness of the floor of tub and dish, m."""
_BASE = 0.006
_GEOM = mujoco.mjtGeom
_BOTTLE_OUTLINE = ((0.024, 0.0), (0.024, 0.09), (0.011, 0.115), (0.010, 0.15))
_GLASS_OUTLINE = (
    (0.032, 0.0), (0.030, 0.003), (0.005, 0.006), (0.005, 0.065), (0.030, 0.080), (0.037, 0.13),
)  # fmt: skip
_CATCHES = ("lid catch", "lid catch low")
_LID_TOLERANCE = 0.010
_STROKE = 0.15
"""Slower than this is no stroke of a shake, m/s."""


def add_bar(
    spec: mujoco.MjSpec,
    fixture: mujoco.MjsBody,
    tub: tuple[float, float, float],
    dish: tuple[float, float, float],
) -> None:
    """Add all of it; tub and dish are fixed, with the middle of their feet where told to."""
    for bottle in BOTTLES.values():
        rgba = (*COLOURS[bottle.colour][:3], 0.7)
        body = add_vessel(spec, bottle, rgba=rgba, mass=0.25, outline=_BOTTLE_OUTLINE)
        _brake(body)
    shaker = add_vessel(spec, SHAKER, rgba=(0.75, 0.77, 0.8, 1.0), mass=0.2, beads=True)
    _brake(shaker)
    _add_base(shaker, SHAKER)
    plate = add_lid(spec, LID, rgba=(0.65, 0.67, 0.7, 1.0), mass=0.05)
    plate.geoms[0].contype = 1 | BEADS  # keeps the ice in
    top = (SHAKER.shape.height + PLATE) / 2
    for name, z in zip(_CATCHES, (0.0, -0.08), strict=True):
        shaker.add_site(name=f"{name} shaker", pos=[0, 0, top + z], group=4)
        plate.add_site(name=f"{name} lid", pos=[0, 0, z], group=4)
        # Two points on one axis, made one: the lid may still turn.
        spec.add_equality(
            name=name, type=mujoco.mjtEq.mjEQ_CONNECT, name1=f"{name} shaker", name2=f"{name} lid",
            objtype=mujoco.mjtObj.mjOBJ_SITE, active=False,
        )  # fmt: skip
    glass = add_vessel(
        spec, GLASS, rgba=(0.85, 0.9, 0.95, 0.4), mass=0.2, beads=True, outline=_GLASS_OUTLINE
    )
    _brake(glass)
    _add_base(glass, GLASS)
    for cube in ICE:
        add_beads(spec, cube, mass=0.005, rgba=(0.8, 0.92, 1.0, 0.8), box=True)
    add_beads(spec, CHERRY, mass=0.005, rgba=(0.75, 0.05, 0.1, 1.0))
    _add_tray(fixture, TUB, tub, (0.068, 0.05), rgba=(0.55, 0.75, 0.85, 1.0))
    _add_tray(fixture, DISH, dish, (0.022, 0.022), rgba=(0.95, 0.95, 0.95, 1.0))


def _brake(body: mujoco.MjsBody) -> None:
    """Let a vessel that has toppled roll to a halt, as one with liquid in it does."""
    outline = body.geoms[0]
    outline.condim, outline.friction = 6, [1, 0.01, 0.002]


def _add_base(body: mujoco.MjsBody, vessel: Vessel) -> None:
    """Make a vessel solid below its floor, and a little above.

    Ice falls 7 mm in a step of 5 ms: it would sink into a thin floor and come out below. A block
    stops it where a cylinder, of which MuJoCo finds one contact, does not.
    """
    half = (vessel.shape.height - vessel.depth + _BASE) / 2
    body.add_geom(
        type=_GEOM.mjGEOM_BOX, size=[vessel.mouth_radius, vessel.mouth_radius, half], group=3,
        pos=[0, 0, half - vessel.shape.height / 2], mass=0, contype=BEADS, conaffinity=0,
        solref=[0.01, 1], friction=[0.2, 0.002, 0.0001], priority=2,
    )  # fmt: skip


def _add_tray(
    fixture: mujoco.MjsBody,
    thing: Thing,
    foot: tuple[float, float, float],
    half: tuple[float, float],
    *,
    rgba: tuple[float, ...],
) -> None:
    """Add a floor with a rim that only beads meet: fingers reach down to what lies in it."""
    x, y, z = foot
    rim = thing.shape.height / 2
    body = fixture.add_body(name=thing.name, pos=[x, y, z + rim])
    body.add_geom(
        type=_GEOM.mjGEOM_BOX, size=[*half, FLOOR / 2], pos=[0, 0, FLOOR / 2 - rim],
        contype=1 | BEADS, rgba=rgba,
    )  # fmt: skip
    wide, deep = half
    for at, size in (
        ((wide, 0, 0), (0.003, deep, rim)), ((-wide, 0, 0), (0.003, deep, rim)),
        ((0, deep, 0), (wide, 0.003, rim)), ((0, -deep, 0), (wide, 0.003, rim)),
    ):  # fmt: skip
        body.add_geom(
            type=_GEOM.mjGEOM_BOX, size=size, pos=at, contype=BEADS, conaffinity=0, rgba=rgba
        )


def caught(scene: Scene) -> bool:
    """Whether the lid is caught on the shaker."""
    return bool(scene.data.eq_active[scene.model.equality(_CATCHES[0]).id])


def work_catch(scene: Scene) -> None:
    """The lid catches when it has been put on; a grip on its knob undoes the catch."""
    active = scene.holder(LID) is None if caught(scene) else on_shaker(scene, _LID_TOLERANCE)
    for name in _CATCHES:
        scene.data.eq_active[scene.model.equality(name).id] = active
    change = set.add if active else set.discard
    change(scene.liquids.sealed, SHAKER.name)
    change(scene.liquids.covered, SHAKER.name)


def on_shaker(scene: Scene, tolerance: float) -> bool:
    """Whether the lid lies on the shaker, let go, and the shaker stands upright."""
    top = scene.position(SHAKER) + scene.rotation(SHAKER)[:, 2] * SHAKER.shape.height / 2
    return scene.upright(SHAKER) > 0.98 and lid_on(scene, LID, top, tolerance)


def ice_in(scene: Scene) -> int:
    """Number of ice cubes in the shaker."""
    return sum(contained(scene, SHAKER, cube) for cube in ICE)


def feel_shaking(scene: Scene) -> None:
    """Count how often the closed shaker, in a hand, changes direction, and its greatest speed."""
    if not caught(scene) or scene.holder(SHAKER) is None:
        return
    facts = scene.facts
    v = scene.data.joint(SHAKER.name).qvel[:3]
    speed = float(np.linalg.norm(v))
    facts["peak_m_s"] = max(facts.get("peak_m_s", 0.0), speed)
    if speed < _STROKE:
        return
    last = np.array([facts.get(f"stroke {axis}", 0.0) for axis in "xyz"])
    if v @ last < 0:
        facts["reversals"] = facts.get("reversals", 0.0) + 1
    if v @ last <= 0:
        facts.update({f"stroke {axis}": float(c) for axis, c in zip("xyz", v / speed, strict=True)})


def shaken(scene: Scene) -> bool:
    """Whether the shaker was shaken: six reversals, at the fastest more than 0.4 m/s."""
    return scene.facts.get("reversals", 0.0) >= 6 and scene.facts["peak_m_s"] > 0.4
