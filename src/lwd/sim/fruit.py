"""Fruits that can be cut and the knife that cuts them.

A fruit is three slabs held together by welds; where the blade passes deep enough between two of
them, the weld goes.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from itertools import pairwise

import mujoco
import numpy as np

from lwd.sim.scene import Scene
from lwd.sim.things import COLOURS, Shape, Thing

SLAB = (0.022, 0.016, 0.018)
"""Half sizes of a slab, m; the fruit is three of them side by side along y."""
PITCH = 2 * SLAB[1] + 0.0004
_LENGTH = 0.052
"""Half the length of the ellipsoid that the fruit is a part of, m."""
_FLESH = (0.98, 0.95, 0.80, 1.0)
_PIECE = Shape(kind="fruit", radius=SLAB[0], height=2 * SLAB[2], round=False, topped=False)
COLOUR_OF = {"mango": "red", "lime": "green", "lemon": "yellow"}
FRUITS = {
    name: tuple(Thing(name=f"{name} {k}", shape=_PIECE, colour=colour) for k in range(3))
    for name, colour in COLOUR_OF.items()
}
"""Slabs of every fruit, from one end to the other."""
KNIFE = Thing(
    name="knife",
    shape=Shape(kind="knife", radius=0.045, height=0.024, round=False, topped=True),
)
BLADE = (0.105, 0.06, 0.018)
"""Middle of the blade before the handle's, its half length, and its edge below, m."""
_CUT_PLANE, _CUT_YAW, _CUT_DEPTH = 0.010, np.cos(np.deg2rad(25)), 0.010
"""The blade parts two slabs within 10 mm and 25 degrees of their joint, 10 mm below its middle."""


def add_fruit(spec: mujoco.MjSpec, slabs: tuple[Thing, ...]) -> None:
    """Add three slabs side by side along y, welded to one another."""
    for k, slab in enumerate(slabs):
        body = spec.worldbody.add_body(name=slab.name)
        body.add_freejoint(name=slab.name)
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=SLAB, mass=0.04, group=3,
            condim=4, friction=[1, 0.01, 0.001],
        )  # fmt: skip
        _add_look(spec, body, slab, k - 1)
    for a, b in pairwise(slabs):
        weld = spec.add_equality(
            name=f"{a.name} weld", type=mujoco.mjtEq.mjEQ_WELD, name1=a.name, name2=b.name,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
        )  # fmt: skip
        weld.data[:11] = [0, 0, 0, 0, PITCH, 0, 1, 0, 0, 0, 1]


def _add_look(spec: mujoco.MjSpec, body: mujoco.MjsBody, slab: Thing, k: int) -> None:
    """Add what is seen of slab `k`, -1 to 1 along the fruit: a section of an ellipsoid, and its
    flesh where it will be cut."""
    half = SLAB[1]
    along = np.linspace(-half, half, 7)
    radius = np.sqrt(1 - ((along + k * PITCH) / _LENGTH) ** 2)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rings = [
        np.column_stack(
            [SLAB[0] * r * np.cos(angles), np.full(16, y), SLAB[2] * r * np.sin(angles)]
        )
        for y, r in zip(along, radius, strict=True)
    ]
    look = spec.add_mesh(name=f"{slab.name} look")
    look.uservert = np.concatenate(rings).ravel()
    unseen = {"mass": 0, "contype": 0, "conaffinity": 0}
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH, meshname=look.name, rgba=COLOURS[slab.colour], **unseen
    )
    for end in (-1, 1):
        if k != end:
            middle = 0.85 * radius[0 if end < 0 else -1]
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, pos=[0, end * half, 0],
                size=[middle * SLAB[0], 0.0004, middle * SLAB[2]], rgba=_FLESH, **unseen,
            )  # fmt: skip


def add_knife(spec: mujoco.MjSpec) -> None:
    """Add a handle with a blade before it, which touches nothing: it cuts, see `_cut`."""
    body = spec.worldbody.add_body(name=KNIFE.name)
    body.add_freejoint(name=KNIFE.name)
    box = mujoco.mjtGeom.mjGEOM_BOX
    body.add_geom(
        type=box, size=[KNIFE.shape.radius, 0.008, KNIFE.shape.height / 2], mass=0.06,
        condim=4, friction=[1.2, 0.02, 0.001], rgba=[0.2, 0.1, 0.08, 1],
    )  # fmt: skip
    ahead, half, edge = BLADE
    body.add_geom(
        type=box, size=[half, 0.001, 0.014], pos=[ahead, 0, 0.014 - edge], mass=0.02,
        contype=0, conaffinity=0, rgba=[0.8, 0.82, 0.86, 1],
    )  # fmt: skip


def hold_together(scene: Scene) -> None:
    """Weld the fruits that a layout has; the slabs of the others wait apart from one another."""
    present = {item.thing.name for item in scene.layout.items}
    for slabs in FRUITS.values():
        for slab in slabs[:2]:
            scene.data.eq_active[_weld(scene, slab)] = slab.name in present


def whole(scene: Scene, slab: Thing) -> bool:
    """Whether a slab, not the last of its fruit, is still one with the next."""
    return bool(scene.data.eq_active[_weld(scene, slab)])


def _weld(scene: Scene, slab: Thing) -> int:
    """Number of the weld between a slab and the next."""
    return scene.model.equality(f"{slab.name} weld").id


def cut(scene: Scene) -> None:
    """Part two slabs of a fruit where the blade is deep enough between them."""
    at, turn = scene.position(KNIFE), scene.rotation(KNIFE)
    for slabs in FRUITS.values():
        for a, b in pairwise(slabs):
            if not whole(scene, a):
                continue
            joint = (scene.position(a) + scene.position(b)) / 2
            offset, normal = turn.T @ (joint - at), scene.rotation(a)[:, 1]
            along = abs(offset[0] - BLADE[0]) < BLADE[1]
            deep = _CUT_DEPTH < offset[2] + BLADE[2] < _CUT_DEPTH + BLADE[2]
            straight = abs(turn[:, 1] @ normal) > _CUT_YAW
            near = abs(offset[1]) < _CUT_PLANE
            if along and deep and straight and near and scene.holder(KNIFE):
                scene.data.eq_active[_weld(scene, a)] = 0
