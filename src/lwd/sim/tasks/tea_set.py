"""The tea set of the Gongfu tea task: vessels, leaves, lid, bowl and tray, and where they stand.

Volumes are those of a small set: a kettle for two fillings of a gaiwan of 150 ml.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

from lwd.sim.lids import PLATE, add_lid, lid
from lwd.sim.task import TABLE_Z, Layout, Placement
from lwd.sim.things import COLOURS, Cluster, Shape, Thing, Vessel
from lwd.sim.vessels import add_beads, add_vessel, cylinder

_TEA = (0.66, 0.36, 0.08)
SCOOP = Vessel(
    name="scoop", shape=cylinder("scoop", 0.021, 0.064), capacity_ml=50.0, mouth_radius=0.019,
    depth=0.035,
)  # fmt: skip
GAIWAN = Vessel(
    name="gaiwan", shape=cylinder("gaiwan", 0.036, 0.055), capacity_ml=150.0, mouth_radius=0.033,
    depth=0.046, drain_ml_s=45.0, liquid=_TEA,
)  # fmt: skip
KETTLE = Vessel(
    name="kettle", shape=cylinder("kettle", 0.036, 0.085), capacity_ml=230.0, mouth_radius=0.030,
    depth=0.080, spout=0.018, drain_ml_s=40.0,
)  # fmt: skip
PITCHER = Vessel(
    name="pitcher", shape=cylinder("pitcher", 0.033, 0.075), capacity_ml=200.0, mouth_radius=0.030,
    depth=0.068, drain_ml_s=30.0, liquid=_TEA,
)  # fmt: skip
BOWL = Vessel(
    name="bowl", shape=cylinder("bowl", 0.052, 0.045), capacity_ml=260.0, mouth_radius=0.048,
    depth=0.039, liquid=_TEA,
)  # fmt: skip
CUPS = tuple(
    Vessel(
        name=f"{colour} cup", shape=cylinder("cup", 0.026, 0.045), colour=colour, capacity_ml=60.0,
        mouth_radius=0.023, depth=0.038, liquid=_TEA,
    )
    for colour in COLOURS
)  # fmt: skip
LID = lid("lid", 0.032)
LEAVES = Cluster(
    name="leaves", count=8,
    shape=Shape(kind="leaves", radius=0.005, height=0.010, round=True, topped=False),
)  # fmt: skip
THINGS: tuple[Thing, ...] = (SCOOP, LEAVES, GAIWAN, LID, KETTLE, BOWL, PITCHER, *CUPS)
SNAP = "lid snap"
"""Weld between the gaiwan and its lid."""
TRAY_HEIGHT = 0.012
_TRAY = (-0.16, 0.25)
"""Middle of the tray; the fixture's frame is at the foot of the bowl."""
_PLACES: tuple[tuple[Thing, float, float, float], ...] = (
    (SCOOP, 0.42, -0.24, 0.0),
    (KETTLE, 0.50, -0.37, np.pi / 2),
    (LID, 0.56, -0.23, 0.0),
    (GAIWAN, 0.45, -0.08, 0.0),
    (PITCHER, 0.46, 0.08, 0.0),
)
"""x, y and yaw before they are varied; the kettle's spout points to the left."""
_CUP_SPOTS = ((0.56, 0.19), (0.57, 0.31), (0.56, 0.43))
_BOWL = (0.60, 0.02)


def furnish(spec: mujoco.MjSpec, fixture: mujoco.MjsBody) -> None:
    """Add the set; the waste bowl and the tray are fixed."""
    white, glass, steel = (0.95, 0.95, 0.92, 1.0), (0.80, 0.90, 0.95, 0.35), (0.45, 0.47, 0.5, 1.0)
    wood = (0.62, 0.45, 0.28, 1.0)
    add_vessel(spec, SCOOP, rgba=wood, mass=0.05, beads=True)
    outline = ((0.020, 0.0), (0.020, 0.006), (0.034, 0.009), (0.036, 0.055))
    gaiwan = add_vessel(spec, GAIWAN, rgba=white, beads=True, outline=outline)
    _add_saucer(gaiwan, white)
    _add_kettle(spec, steel)
    add_vessel(spec, PITCHER, rgba=glass)
    foot = ((0.030, 0.0), (0.030, 0.004), (0.050, 0.006), (0.052, 0.045))
    bowl = add_vessel(spec, BOWL, rgba=wood, outline=foot, parent=fixture)
    bowl.pos = [0, 0, BOWL.shape.height / 2]
    for cup in CUPS:
        foot = ((0.016, 0.0), (0.016, 0.004), (0.025, 0.007), (0.026, 0.045))
        add_vessel(spec, cup, rgba=COLOURS[cup.colour], mass=0.08, outline=foot)
    fixture.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.075, 0.075, TRAY_HEIGHT / 2],
        pos=[*_TRAY, TRAY_HEIGHT / 2], rgba=[0.35, 0.2, 0.12, 1],
    )  # fmt: skip
    add_lid(spec, LID, rgba=white, mass=0.05)
    add_beads(spec, LEAVES, mass=0.001, rgba=(0.16, 0.30, 0.10, 1.0), drag=0.006)
    _add_welds(spec)


def _add_saucer(gaiwan: mujoco.MjsBody, rgba: tuple[float, float, float, float]) -> None:
    gaiwan.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.034, 0.002, 0], mass=0, contype=0,
        conaffinity=0, pos=[0, 0, 0.002 - GAIWAN.shape.height / 2], rgba=rgba,
    )  # fmt: skip


def _add_kettle(spec: mujoco.MjSpec, rgba: tuple[float, float, float, float]) -> None:
    """Add a round body with a spout along x and a bail over the mouth."""
    outline = ((0.036, 0.0), (0.036, 0.060), (0.030, 0.078), (0.031, 0.085))
    kettle = add_vessel(spec, KETTLE, rgba=rgba, mass=0.18, outline=outline)
    top, tip = KETTLE.shape.height / 2, KETTLE.mouth_radius + KETTLE.spout
    for start, end, radius in (
        ((0.032, 0, top - 0.05), (tip, 0, top - 0.002), 0.007),
        ((0.030, 0, top - 0.01), (0.026, 0, top + 0.045), 0.003),
        ((-0.030, 0, top - 0.01), (-0.026, 0, top + 0.045), 0.003),
        ((0.026, 0, top + 0.045), (-0.026, 0, top + 0.045), 0.004),
    ):
        kettle.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end], size=[radius, 0, 0], mass=0,
            contype=0, conaffinity=0, rgba=rgba,
        )  # fmt: skip


def _add_welds(spec: mujoco.MjSpec) -> None:
    """Add the ties of wet leaves to the gaiwan's floor and of its lid, all of them loose."""
    floor = GAIWAN.shape.height / 2 - GAIWAN.depth
    for k, leaf in enumerate(LEAVES.bodies):
        radius, angle = (0.008, 2.1 * k) if k < 3 else (0.021, 1.26 * k)
        spot = (radius * np.cos(angle), radius * np.sin(angle), floor + LEAVES.shape.radius)
        _add_weld(spec, leaf, leaf, spot)
    _add_weld(spec, SNAP, LID.name, (0.0, 0.0, (GAIWAN.shape.height + PLATE) / 2))


def _add_weld(spec: mujoco.MjSpec, name: str, body: str, spot: tuple[float, float, float]) -> None:
    weld = spec.add_equality(
        name=name, type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1=GAIWAN.name, name2=body, active=False, solref=[0.04, 1],
    )  # fmt: skip
    weld.data[:11] = [0, 0, 0, *spot, 1, 0, 0, 0, 1]


def held_out(cup: Thing, spot: int) -> bool:
    """Whether a pair of named cup and its place is kept for evaluation: one in four."""
    return (CUPS.index(cup) + spot) % 4 == 0


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the named cup and its place, the other two cups, and where everything stands."""
    spots = range(len(_CUP_SPOTS))
    pairs = [(cup, k) for cup in CUPS for k in spots if held_out(cup, k) == evaluation]
    target, place = pairs[rng.integers(len(pairs))]
    others = [CUPS[i] for i in rng.permutation(len(CUPS)) if CUPS[i] is not target]
    cups = [target if k == place else others.pop() for k in spots]
    table = [*_PLACES, *((c, *xy, 0.0) for c, xy in zip(cups, _CUP_SPOTS, strict=True))]
    items = [_placement(rng, *row) for row in table]
    scoop = next(item for item in items if item.thing is SCOOP)
    items.append(Placement(thing=LEAVES, position=scoop.position, yaw=0.0))
    x, y = np.array(_BOWL) + rng.uniform(-0.01, 0.01, 2)
    yaw = rng.uniform(-0.04, 0.04)
    items.append(Placement(thing=BOWL, position=(x, y, TABLE_Z), yaw=yaw))
    c, s = np.cos(yaw), np.sin(yaw)
    goal = (x + c * _TRAY[0] - s * _TRAY[1], y + s * _TRAY[0] + c * _TRAY[1])
    return Layout(
        target=target,
        items=tuple(items),
        fixture=(float(x), float(y), TABLE_Z, yaw),
        goal=(float(goal[0]), float(goal[1]), TABLE_Z + TRAY_HEIGHT),
    )


def _placement(rng: np.random.Generator, thing: Thing, x: float, y: float, yaw: float) -> Placement:
    dx, dy = rng.uniform(-0.012, 0.012, 2)
    height = TABLE_Z + thing.shape.height / 2 + 0.001
    return Placement(
        thing=thing, position=(x + dx, y + dy, height), yaw=yaw + rng.uniform(-0.25, 0.25)
    )
