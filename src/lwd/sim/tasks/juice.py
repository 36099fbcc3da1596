"""Fruit juice: put the named fruit on the board, cut it twice, juice the pieces (task 6 of V-A).

The right arm serves fruit and knife, the left arm the juicer.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import math
from collections.abc import Iterator

import mujoco
import numpy as np

from lwd.sim.fruit import (
    BLADE,
    COLOUR_OF,
    FRUITS,
    KNIFE,
    PITCH,
    SLAB,
    add_fruit,
    add_knife,
    cut,
    hold_together,
    whole,
)
from lwd.sim.geometry import UP, Pose, leaning, yawed
from lwd.sim.grasps import across_axis, roomiest
from lwd.sim.hands import Hands
from lwd.sim.juicer import JUICER, KNOB, KNOB_FULL, KNOB_TURN, RIM, SPOUT, add_juicer
from lwd.sim.lids import add_lid, lid, lid_on, lift_lid, put_lid
from lwd.sim.liquids import catcher
from lwd.sim.pinching import (
    across,
    at_fixture,
    carry,
    from_fixture,
    holding,
    pinch,
    ready,
    set_down,
    yaw_of,
)
from lwd.sim.scene import Scene
from lwd.sim.task import TABLE_Z, Layout, Placement, Step, Subtask, TaskSpec, spilt
from lwd.sim.things import Thing, Vessel
from lwd.sim.vessels import add_vessel, cylinder

_REST_Z = 0.02
LID = lid("lid", 0.066)
CUP = Vessel(
    name="cup", shape=cylinder("cup", 0.030, 0.075), capacity_ml=150.0, mouth_radius=0.026,
    depth=0.070, liquid=(0.95, 0.65, 0.15),
)  # fmt: skip

_BOARD, _BOARD_HALF = (0.02, -0.03, 0.0), (0.075, 0.09, 0.0075)
_CUP = (0.05, 0.345, CUP.shape.height / 2)
_KNIFE = (-0.08, -0.24, _REST_Z + KNIFE.shape.height / 2)
_LID = (-0.08, 0.38, 0.005)
_SPOTS = ((0.41, -0.37), (0.55, -0.37), (0.43, -0.50), (0.57, -0.50))
"""Where on the table fruits may lie, in the robot's frame."""
_LEFT = 0.15
"""Beyond this much to a side, the arm of that side serves the fruit, m."""
_YAW, _YAW_INNER = math.radians(15), math.radians(10)
_LID_TOLERANCE, _LID_INNER = 0.010, 0.007
_JUICE_ML, _JUICE_ML_S = 90.0, 30.0
_OVER = TABLE_Z + 0.24
"""Height at which things travel: above the juicer and its lid."""


def furnish(spec: mujoco.MjSpec, fixture: mujoco.MjsBody) -> None:
    """Add fruits, knife, lid and cup, and under `fixture` board, knife rest and juicer."""
    for slabs in FRUITS.values():
        add_fruit(spec, slabs)
    add_knife(spec)
    add_lid(spec, LID, rgba=(0.75, 0.80, 0.85, 0.9))
    add_vessel(spec, CUP, rgba=(0.85, 0.9, 0.95, 0.4), mass=0.15)
    box = mujoco.mjtGeom.mjGEOM_BOX
    fixture.add_geom(
        type=box, size=_BOARD_HALF, pos=(*_BOARD[:2], _BOARD_HALF[2]), rgba=[0.85, 0.65, 0.4, 1]
    )
    for x in (-0.035, 0.035):
        fixture.add_geom(
            type=box, size=[0.008, 0.03, _REST_Z / 2],
            pos=[_KNIFE[0] + x, _KNIFE[1], _REST_Z / 2], rgba=[0.4, 0.3, 0.2, 1],
        )  # fmt: skip
    add_juicer(fixture)


def held_out(fruit: str, spot: int) -> bool:
    """Whether a pair of fruit and place is kept for evaluation: one in four."""
    return (list(FRUITS).index(fruit) + spot) % len(_SPOTS) == 0


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the pair of fruit and spot, another fruit, where the lid lies and the station's pose."""
    pairs = [(f, s) for f in FRUITS for s in range(len(_SPOTS)) if held_out(f, s) == evaluation]
    fruit, spot = pairs[rng.integers(len(pairs))]
    others = [name for name in FRUITS if name != fruit]
    other = others[rng.integers(len(others))]
    # Diagonally opposite, or beside it: never so near that the hand meets the other fruit.
    elsewhere = (spot + (1, 3)[rng.integers(2)]) % len(_SPOTS)
    items = [*_lying(rng, fruit, spot), *_lying(rng, other, elsewhere)]
    fixture = (
        0.50 + rng.uniform(-0.015, 0.015), rng.uniform(-0.02, 0.02), TABLE_Z,
        rng.uniform(-0.06, 0.06),
    )  # fmt: skip
    lid_at = (_LID[0] + rng.uniform(-0.02, 0.02), _LID[1] + rng.uniform(-0.01, 0.03), _LID[2])
    for thing, point in ((KNIFE, _KNIFE), (LID, lid_at), (CUP, _CUP), (JUICER, RIM)):
        x, y, z = at_fixture(fixture, point) + 0.001 * UP
        items.append(Placement(thing=thing, position=(x, y, z), yaw=fixture[3]))
    goal = at_fixture(fixture, (_BOARD[0], _BOARD[1], 2 * _BOARD_HALF[2]))
    return Layout(
        target=FRUITS[fruit][1], items=tuple(items), fixture=fixture,
        goal=(goal[0], goal[1], goal[2]), words={"fruit": fruit, "colour": COLOUR_OF[fruit]},
    )  # fmt: skip


def _lying(rng: np.random.Generator, fruit: str, spot: int) -> list[Placement]:
    """An uncut fruit near a spot, turned by up to a radian."""
    x, y = np.array(_SPOTS[spot]) + rng.uniform(-0.015, 0.015, 2)
    yaw = rng.uniform(-1.0, 1.0)
    along = yawed(yaw)[:, 1]
    return [
        Placement(
            thing=slab,
            position=(x + k * PITCH * along[0], y + k * PITCH * along[1], TABLE_Z + SLAB[2]),
            yaw=yaw,
        )
        for k, slab in zip((-1, 0, 1), FRUITS[fruit], strict=True)
    ]


def react(scene: Scene, seconds: float) -> None:
    """Cut where the blade passes; make juice while the knob is turned and the lid is on."""
    cut(scene)
    made = scene.facts.get("juice_ml", 0.0)
    if made < _JUICE_ML and scene.angle("knob") > KNOB_TURN and ready_to_juice(scene):
        ml = min(_JUICE_ML_S * seconds, _JUICE_ML - made)
        scene.facts["juice_ml"] = made + ml
        scene.liquids.fill(JUICER, ml)
        below = [(CUP, scene.position(CUP), scene.rotation(CUP))]
        spout = at_fixture(scene.layout.fixture, SPOUT)
        scene.liquids.pour(JUICER, catcher(spout, below), ml)


def pieces(scene: Scene) -> tuple[Thing, ...]:
    """Slabs of the named fruit."""
    return next(slabs for slabs in FRUITS.values() if scene.layout.target in slabs)


def cuts(scene: Scene) -> int:
    """How often the named fruit has been cut."""
    return sum(not whole(scene, slab) for slab in pieces(scene)[:2])


def board_yaw(scene: Scene) -> float:
    """How far the fruit lies across the board's axis, rad; either end may be in front."""
    return abs(across(fruit_yaw(scene, scene.layout.target) - scene.layout.fixture[3], 0.0))


def fruit_yaw(scene: Scene, slab: Thing) -> float:
    """Heading of a fruit's side, rad, also where it lies on its side."""
    along = scene.rotation(slab)[:, 1]
    return math.atan2(-along[0], along[1])


def on_board(scene: Scene) -> bool:
    """Whether the named fruit lies on the board as it is to be cut, settled and let go."""
    slabs = pieces(scene)
    middle = from_fixture(scene.layout.fixture, scene.position(slabs[1])) - _BOARD
    height = middle[2] - 2 * _BOARD_HALF[2] - SLAB[2]
    return bool(
        abs(middle[0]) < 0.05
        and abs(middle[1]) < 0.045
        and abs(height) < 0.008
        and board_yaw(scene) < _YAW
        and all(scene.speed(s) < 0.02 and not scene.touched(s) for s in slabs)
    )


def in_bowl(scene: Scene, slab: Thing) -> bool:
    """Whether a slab is in the juicer, let go."""
    offset = from_fixture(scene.layout.fixture, scene.position(slab)) - RIM
    inside = np.hypot(*offset[:2]) < JUICER.mouth_radius and -JUICER.shape.height < offset[2] < 0
    return bool(inside and not scene.touched(slab))


def all_in_bowl(scene: Scene) -> bool:
    """Whether the three pieces of the named fruit are in the juicer."""
    return cuts(scene) == 2 and all(in_bowl(scene, slab) for slab in pieces(scene))


def covered(scene: Scene, tolerance: float = _LID_TOLERANCE) -> bool:
    """Whether the lid is on the juicer."""
    return lid_on(scene, LID, at_fixture(scene.layout.fixture, RIM), tolerance)


def ready_to_juice(scene: Scene) -> bool:
    """Whether the pieces are in the juicer and the lid is on."""
    return all_in_bowl(scene) and covered(scene)


def juiced(scene: Scene) -> bool:
    """Whether the juice is in the cup, up to what the sub-step forgives."""
    return scene.liquids.volume(CUP) >= 0.8 * _JUICE_ML


def needed(scene: Scene) -> list[Thing]:
    """The fruit, the knife, the lid and the cup."""
    return [*pieces(scene), KNIFE, LID, CUP]


def _take_slab(hands: Hands, slab: Thing, side: str, natural: float) -> Iterator[None]:
    """Take a fruit or a piece by a slab, where there is room for the fingers."""
    scene = hands.scene
    way = roomiest(scene, slab, SLAB, natural)
    return pinch(hands, slab, side, lambda: across_axis(scene, slab, way, natural))


def _lay_on_board(hands: Hands, thing: Thing) -> Iterator[None]:
    """Take the fruit by its middle and lay it on the board as it is to be cut."""
    scene, slab = hands.scene, pieces(hands.scene)[1]
    near_left = scene.position(slab)[1] > _LEFT
    side = scene.holder(slab) or ("left" if near_left else "right")
    yield from _take_slab(hands, slab, side, 0.0)
    if scene.holder(slab) != side:
        return
    layout = scene.layout
    point = np.array(layout.goal) + UP * (SLAB[2] + 0.002)
    gap = across(layout.fixture[3] - fruit_yaw(scene, slab), 0.0)
    yield from set_down(hands, slab, point, yawed(gap) @ scene.rotation(slab), over=_OVER)


def _take_knife(hands: Hands, thing: Thing) -> Iterator[None]:
    scene = hands.scene

    def grasp() -> Pose:
        at, turn = scene.position(KNIFE), scene.rotation(KNIFE)
        return at, leaning(math.radians(10), across(yaw_of(turn), 0.0, 2 * np.pi))

    return pinch(hands, KNIFE, "right", grasp, opening=0.06, lift=0.14)


def _cut_once(hands: Hands, thing: Thing) -> Iterator[None]:
    """Bring the blade above the next joint, down through it, and up again."""
    scene, side = hands.scene, "right"
    slabs = pieces(scene)
    k = next(k for k in (0, 1) if whole(scene, slabs[k]))
    joint = (scene.position(slabs[k]) + scene.position(slabs[k + 1])) / 2
    turn = yawed(across(fruit_yaw(scene, slabs[k]), 0.0))
    # The blade's edge ends 4 mm above the board.
    edge = joint - UP * (SLAB[2] - 0.004)
    position = edge + UP * BLADE[2] - turn[:, 0] * BLADE[0]
    yield from carry(hands, KNIFE, position + 0.04 * UP, turn, over=position[2] + 0.06)
    if scene.holder(KNIFE) != side:
        return
    yield from hands.move(side, [holding(scene, side, KNIFE, position, turn)], 0.15)
    above = holding(scene, side, KNIFE, position + 0.07 * UP, turn)
    yield from hands.move(side, [above], 0.3)


def _lay_knife_down(hands: Hands, thing: Thing) -> Iterator[None]:
    layout = hands.scene.layout
    point = at_fixture(layout.fixture, _KNIFE) + 0.002 * UP
    turn = yawed(layout.fixture[3])
    yield from set_down(hands, KNIFE, point, turn, over=TABLE_Z + 0.14, opening=0.05)


def _piece_step(k: int) -> Step:
    """Bring slab `k` to the juicer, with the left arm unless it lies far on the right."""

    def done(scene: Scene, thing: Thing) -> bool:
        return in_bowl(scene, pieces(scene)[k])

    def skill(hands: Hands, thing: Thing) -> Iterator[None]:
        scene, slab = hands.scene, pieces(hands.scene)[k]
        near_right = scene.position(slab)[1] < -_LEFT
        side = scene.holder(slab) or ("right" if near_right else "left")
        yield from _take_slab(hands, slab, side, np.pi / 2 if side == "right" else -np.pi / 2)
        if scene.holder(slab) != side:
            return
        angle = 2 * np.pi * k / 3
        place = (RIM[0] + 0.026 * np.cos(angle), RIM[1] + 0.026 * np.sin(angle), RIM[2] + 0.01)
        point = at_fixture(scene.layout.fixture, place)
        yield from set_down(hands, slab, point, scene.rotation(slab), over=_OVER, opening=0.07)

    return Step(name=f"piece {k + 1} in juicer", done=done, skill=skill)


def _cover(hands: Hands, thing: Thing) -> Iterator[None]:
    """Take the lid by its knob and lay it on the juicer."""
    yield from lift_lid(hands, LID, "left", lift=0.14)
    if hands.scene.holder(LID) == "left":
        yield from put_lid(hands, LID, at_fixture(hands.scene.layout.fixture, RIM), over=_OVER)


def _turn_knob(hands: Hands, thing: Thing) -> Iterator[None]:
    """Grasp the knob from above and twist it, back to the stop first if need be."""
    scene, side = hands.scene, "left"
    yield from ready(hands, side, LID, 0.06)
    point = at_fixture(scene.layout.fixture, KNOB) + UP * 0.026
    start = scene.angle("knob")

    def gripping(angle: float) -> Pose:
        return point, leaning(0.0, scene.layout.fixture[3] - angle)

    above = (point + 0.10 * UP, gripping(start)[1])
    yield from hands.move(side, [above], 0.4)
    yield from hands.move(side, [gripping(start)], 0.2)
    yield from hands.grip(side, 0.0, 0.4)
    yield from hands.move(side, [gripping(KNOB_FULL)], 0.2)
    yield from hands.grip(side, 0.06, 0.3)
    yield from hands.move(side, [(point + 0.10 * UP, hands.pose(side)[1])], 0.3)


def _wait_for_juice(hands: Hands, thing: Thing) -> Iterator[None]:
    hands.busy = set()
    return hands.wait(0.3)


def _boarded(scene: Scene, thing: Thing) -> bool:
    return cuts(scene) == 2 or on_board(scene) or _cutting(scene)


def _cutting(scene: Scene) -> bool:
    """Whether the fruit is half cut and cannot be carried any more."""
    return cuts(scene) == 1


def _armed(scene: Scene, thing: Thing) -> bool:
    return cuts(scene) == 2 or scene.holder(KNIFE) == "right"


def _knife_down(scene: Scene, thing: Thing) -> bool:
    return scene.holder(KNIFE) is None


def _turned_on(scene: Scene, thing: Thing) -> bool:
    return scene.angle("knob") > KNOB_TURN


JUICE = TaskSpec(
    name="juice",
    time_limit_s=150.0,
    templates=(
        "make {fruit} juice",
        "cut the {fruit} on the board and juice it",
        "cut the {colour} fruit twice and press its juice into the cup",
        "put the pieces of the {fruit} into the juicer and turn it on",
        "a cup of juice from the {colour} fruit, please",
    ),
    things=(*(slab for slabs in FRUITS.values() for slab in slabs), KNIFE, LID, CUP, JUICER),
    furnish=furnish,
    draw=draw,
    subtasks=(
        Subtask(
            name="fruit on board", done=on_board,
            things=tuple(slab.name for slabs in FRUITS.values() for slab in slabs),
            flawed=lambda scene, before: board_yaw(scene) > _YAW_INNER,
        ),
        Subtask(name="first cut", done=lambda scene: cuts(scene) >= 1, things=("knife",)),
        Subtask(name="second cut", done=lambda scene: cuts(scene) == 2, things=("knife",)),
        Subtask(
            name="pieces in juicer", done=all_in_bowl,
            things=tuple(slab.name for slabs in FRUITS.values() for slab in slabs),
        ),
        Subtask(
            name="lid on", done=ready_to_juice, things=("lid",),
            flawed=lambda scene, before: not covered(scene, _LID_INNER),
        ),
        Subtask(name="juiced", done=juiced, things=("knob",), flawed=spilt(JUICER)),
    ),
    needed=needed,
    steps=(
        Step(name="fruit on board", done=_boarded, skill=_lay_on_board),
        Step(name="knife in hand", done=_armed, skill=_take_knife),
        Step(name="first cut", done=lambda s, t: cuts(s) >= 1, skill=_cut_once),
        Step(name="second cut", done=lambda s, t: cuts(s) == 2, skill=_cut_once),
        Step(name="knife down", done=_knife_down, skill=_lay_knife_down),
        *(_piece_step(k) for k in range(3)),
        Step(name="lid on", done=lambda s, t: covered(s), skill=_cover),
        Step(name="knob turned", done=_turned_on, skill=_turn_knob),
        Step(name="juiced", done=lambda s, t: juiced(s), skill=_wait_for_juice),
    ),
    joints=("knob",),
    prepare=hold_together,
    react=react,
    scored=True,
)  # fmt: skip
