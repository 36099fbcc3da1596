"""Cocktail: two named bottles into the shaker, ice, shake, into the glass, a cherry (task 7).

The right arm pours and shakes, the left arm serves ice, lid and cherry.
"""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import math
from collections.abc import Iterator

import mujoco
import numpy as np

from lwd.sim.bar import (
    BOTTLE_ML,
    BOTTLES,
    CHERRY,
    COLOUR_OF,
    DISH,
    FLOOR,
    GLASS,
    ICE,
    LID,
    SHAKER,
    TUB,
    add_bar,
    caught,
    feel_shaking,
    ice_in,
    shaken,
    work_catch,
)
from lwd.sim.geometry import UP, yawed
from lwd.sim.grasps import from_front, pinching
from lwd.sim.hands import Hands
from lwd.sim.lids import lift_lid, put_lid
from lwd.sim.liquids import Liquids
from lwd.sim.pinching import (
    at_fixture,
    pinch,
    set_down,
    yaw_of,
)
from lwd.sim.pouring import pour
from lwd.sim.scene import Scene
from lwd.sim.skills import heading, pick, place
from lwd.sim.task import TABLE_Z, Layout, Placement, Step, Subtask, TaskSpec, spilt
from lwd.sim.things import Thing, Vessel
from lwd.sim.vessels import contained

FIRST_ML, SECOND_ML = 30.0, 20.0
_TOLERANCE_ML, _INNER_ML = 8.0, 5.0
_SPOTS = ((0.02, -0.24), (0.02, -0.36), (0.02, -0.48))
"""Where bottles stand, in the bar's frame: origin on the table before the robot."""
_SHAKER, _GLASS = (0.02, 0.01), (0.03, 0.17)
_TUB, _DISH, _LID = (-0.02, 0.32, 0.0), (0.07, 0.43, 0.0), (-0.09, 0.45)
_PITCH = 0.042
"""Distance of ice cubes in the tub, m."""
_OVER = TABLE_Z + 0.22
"""Height at which small things travel: above the glass."""
_LIFT = 0.18
_SHAKE_HZ, _SHAKE_M = 1.25, 0.075


def furnish(spec: mujoco.MjSpec, fixture: mujoco.MjsBody) -> None:
    """Add bottles, shaker, glass, ice, cherry, and tub and dish under `fixture`."""
    add_bar(spec, fixture, _TUB, _DISH)


def held_out(first: str, second: str, spot: int) -> bool:
    """Whether two bottles, in their order, with the first at a spot are kept for evaluation."""
    names = list(BOTTLES)
    return (names.index(first) + 2 * names.index(second) + spot) % 4 == 0


def draw(rng: np.random.Generator, evaluation: bool) -> Layout:
    """Draw the two bottles, a third one, their spots, and the bar's pose."""
    choices = [
        (a, b, s)
        for a in BOTTLES
        for b in BOTTLES
        for s in range(len(_SPOTS))
        if a != b and held_out(a, b, s) == evaluation
    ]
    first, second, spot = choices[rng.integers(len(choices))]
    others = [name for name in BOTTLES if name not in (first, second)]
    third = others[rng.integers(len(others))]
    free = [s for s in range(len(_SPOTS)) if s != spot]
    if rng.random() < 0.5:
        free.reverse()
    x, y, yaw = 0.50 + rng.uniform(-0.01, 0.01), rng.uniform(-0.02, 0.02), rng.uniform(-0.05, 0.05)
    fixture = (x, y, TABLE_Z, yaw)
    items = [
        _standing(rng, fixture, BOTTLES[name], _SPOTS[s], 0.012)
        for name, s in zip((first, second, third), (spot, *free), strict=True)
    ]
    items += [
        _standing(rng, fixture, thing, point, spread)
        for thing, point, spread in (
            (SHAKER, _SHAKER, 0.01), (GLASS, _GLASS, 0.01), (LID, _LID, 0.02),
            (TUB, _TUB[:2], 0.0), (DISH, _DISH[:2], 0.0), (CHERRY, _DISH[:2], 0.004),
            *((cube, (_TUB[0] + k * _PITCH, _TUB[1]), 0.006) for k, cube in enumerate(ICE, -1)),
        )
    ]  # fmt: skip
    goal = at_fixture(fixture, (*_GLASS, 0.0))
    return Layout(
        target=BOTTLES[first], items=tuple(items), fixture=fixture,
        goal=(goal[0], goal[1], goal[2]),
        words={
            "first": first, "second": second,
            "first_colour": COLOUR_OF[first], "second_colour": COLOUR_OF[second],
        },
    )  # fmt: skip


def _standing(
    rng: np.random.Generator,
    fixture: tuple[float, float, float, float],
    thing: Thing,
    point: tuple[float, float],
    spread: float,
) -> Placement:
    """Stand a thing near a point of the bar; what is small lies in tub or dish."""
    x, y = np.array(point) + rng.uniform(-spread, spread, 2)
    floor = FLOOR if thing is CHERRY or thing in ICE else 0.0
    at = at_fixture(fixture, (x, y, floor + thing.shape.height / 2 + 0.001))
    return Placement(
        thing=thing, position=(at[0], at[1], at[2]), yaw=fixture[3] + rng.uniform(-0.3, 0.3)
    )


def prepare(scene: Scene) -> None:
    """Fill the bottles that are there."""
    for item in scene.layout.items:
        if item.thing in BOTTLES.values():
            scene.liquids.fill(BOTTLES[item.thing.name], BOTTLE_ML)


def react(scene: Scene, seconds: float) -> None:
    """The lid's catch, and what counts as shaking."""
    work_catch(scene)
    feel_shaking(scene)


def bottles(scene: Scene) -> tuple[Vessel, Vessel]:
    """The two named bottles, in their order."""
    return BOTTLES[scene.layout.words["first"]], BOTTLES[scene.layout.words["second"]]


def measured(scene: Scene, k: int) -> float:
    """What came from named bottle `k`, 0 or 1, into the shaker, ml."""
    return scene.liquids.poured_ml.get((bottles(scene)[k].name, SHAKER.name), 0.0)


def off_by(scene: Scene, k: int) -> float:
    """How far that is from the recipe, ml."""
    return abs(measured(scene, k) - (FIRST_ML, SECOND_ML)[k])


def standing(scene: Scene, thing: Thing) -> bool:
    """Whether a thing stands upright, settled and let go."""
    still = scene.speed(thing) < 0.02 and not scene.touched(thing)
    return bool(still and scene.upright(thing) > 0.95)


def poured(scene: Scene, k: int) -> bool:
    """Whether the right amount came from named bottle `k`, which stands again."""
    return off_by(scene, k) <= _TOLERANCE_ML and standing(scene, bottles(scene)[k])


def _pour_flawed(scene: Scene, before: Liquids, k: int) -> bool:
    return off_by(scene, k) > _INNER_ML or spilt(bottles(scene)[k])(scene, before)


def lid_off(scene: Scene) -> bool:
    """Whether the lid is no longer on the shaker."""
    apart = scene.position(LID)[:2] - scene.position(SHAKER)[:2]
    return bool(not caught(scene) and np.linalg.norm(apart) > 0.05)


def served(scene: Scene) -> bool:
    """Whether at least 80 % of what was poured into the shaker is in the glass."""
    mixed = measured(scene, 0) + measured(scene, 1)
    return mixed > 0 and scene.liquids.volume(GLASS) >= 0.8 * mixed


def garnished(scene: Scene) -> bool:
    """Whether the cherry is in the standing glass, let go."""
    inside = contained(scene, GLASS, CHERRY) == 1 and not scene.touched(CHERRY)
    return inside and scene.upright(GLASS) > 0.95


def needed(scene: Scene) -> list[Thing]:
    """Shaker, lid, glass and cherry; a bottle until it was poured, and ice until it is in."""
    ice = sorted(ICE, key=lambda cube: -scene.position(cube)[2])[1:2] if scene.reached < 3 else []
    return [*bottles(scene)[scene.reached :], SHAKER, LID, GLASS, CHERRY, *ice]


def _take(hands: Hands, thing: Thing, below: float = 0.0) -> Iterator[None]:
    """Take a bottle or the shaker with the right hand, high enough to pass over the others."""
    scene = hands.scene
    return pinch(
        hands, thing, "right", lambda: from_front(scene, thing, "right", below), lift=_LIFT
    )


def _put_back(hands: Hands, thing: Thing) -> Iterator[None]:
    """Stand a thing where it stood at first."""
    scene = hands.scene
    item = next(item for item in scene.layout.items if item.thing is thing)
    hand = scene.hand("right")[1]
    lean = heading("right", np.array(item.position)) - math.atan2(hand[1, 2], hand[0, 2])
    turn = yawed(yaw_of(scene.rotation(thing)) + lean)
    return set_down(hands, thing, np.array(item.position), turn, over=TABLE_Z + 0.26)


def _toppled(scene: Scene) -> list[Thing]:
    """What lies on the table and should stand."""
    tall = (*bottles(scene)[scene.reached :], SHAKER, GLASS)
    return [t for t in tall if scene.upright(t) < 0.7 and scene.holder(t) is None]


def _all_upright(scene: Scene, thing: Thing) -> bool:
    return not _toppled(scene)


def _set_upright(hands: Hands, thing: Thing) -> Iterator[None]:
    """Pick up what lies and stand it where it stood at first."""
    scene = hands.scene
    lying = _toppled(scene)[0]
    item = next(item for item in scene.layout.items if item.thing is lying)
    yield from pick(hands, lying)
    foot = np.array(item.position) - UP * lying.shape.height / 2
    yield from place(hands, lying, foot)


def _bottle_steps(k: int) -> tuple[Step, Step, Step]:
    """Take named bottle `k`, pour, put it back."""

    def done(scene: Scene, thing: Thing) -> bool:
        return scene.reached > k

    def enough(scene: Scene, thing: Thing) -> bool:
        return done(scene, thing) or measured(scene, k) >= (FIRST_ML, SECOND_ML)[k] - _INNER_ML

    def in_hand(scene: Scene, thing: Thing) -> bool:
        return enough(scene, thing) or scene.holder(bottles(scene)[k]) == "right"

    def take(hands: Hands, thing: Thing) -> Iterator[None]:
        return _take(hands, bottles(hands.scene)[k])

    def measure(hands: Hands, thing: Thing) -> Iterator[None]:
        scene = hands.scene
        missing = (FIRST_ML, SECOND_ML)[k] - measured(scene, k)
        ml = scene.liquids.volume(SHAKER) + missing
        yield from pour(hands, bottles(scene)[k], SHAKER, ml=ml)

    def put(hands: Hands, thing: Thing) -> Iterator[None]:
        return _put_back(hands, bottles(hands.scene)[k])

    name = ("first", "second")[k]
    return (
        Step(name=f"{name} bottle in hand", done=in_hand, skill=take),
        Step(name=f"{name} poured", done=enough, skill=measure),
        Step(name=f"{name} bottle back", done=done, skill=put),
    )


def _drop_in(hands: Hands, thing: Thing, into: Vessel) -> Iterator[None]:
    """Take something small with the left hand and let it fall into a vessel."""
    scene, side = hands.scene, "left"
    yield from pinch(
        hands, thing, side, lambda: pinching(scene, thing, side), opening=0.045, lift=0.14
    )
    if scene.holder(thing) != side:
        return
    mouth = scene.position(into) + UP * into.shape.height / 2
    point = mouth + 0.022 * UP
    yield from set_down(hands, thing, point, scene.rotation(thing), over=_OVER, opening=0.045)


def _add_ice(hands: Hands, thing: Thing) -> Iterator[None]:
    scene = hands.scene
    outside = [cube for cube in ICE if contained(scene, SHAKER, cube) == 0]
    near = scene.position(TUB)
    cube = min(outside, key=lambda c: float(np.linalg.norm(scene.position(c) - near)))
    return _drop_in(hands, cube, SHAKER)


def _close(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put the lid on the shaker."""
    scene = hands.scene
    yield from lift_lid(hands, LID, "left", lift=0.14)
    if scene.holder(LID) == "left":
        rim = scene.position(SHAKER) + UP * SHAKER.shape.height / 2
        yield from put_lid(hands, LID, rim, over=_OVER)


def _shake(hands: Hands, thing: Thing) -> Iterator[None]:
    """Lift the closed shaker and shake it up and down until that counts."""
    scene, side = hands.scene, "right"
    yield from _take(hands, SHAKER, 0.01)
    if scene.holder(SHAKER) != side:
        return
    position, rotation = hands.pose(side)
    middle = np.array([position[0] - 0.03, position[1] - 0.05, 0.95])
    yield from hands.move(side, [(middle, rotation)], 0.3)
    for k in range(1, round(8 * hands.rate_hz)):
        if shaken(scene) or scene.holder(SHAKER) != side:
            break
        phase = 2 * math.pi * _SHAKE_HZ * k / hands.rate_hz
        hands.reach(side, middle + UP * _SHAKE_M * math.sin(phase), rotation)
        yield
    yield from hands.move(side, [(middle, rotation)], 0.3)


def _open(hands: Hands, thing: Thing) -> Iterator[None]:
    """Take the lid off the shaker."""
    yield from lift_lid(hands, LID, "left", lift=0.10)
    yield from _lay_lid(hands, thing)


def _lay_lid(hands: Hands, thing: Thing) -> Iterator[None]:
    """Lay a held lid where it lay at first."""
    if hands.scene.holder(LID) == "left":
        point = at_fixture(hands.scene.layout.fixture, (*_LID, 0.0))
        yield from put_lid(hands, LID, point, over=_OVER)


def _serve(hands: Hands, thing: Thing) -> Iterator[None]:
    return pour(hands, SHAKER, GLASS)


def _shaker_down(scene: Scene, thing: Thing) -> bool:
    return scene.reached >= 6 or scene.holder(SHAKER) is None


def _shaker_in_hand(scene: Scene, thing: Thing) -> bool:
    return scene.reached >= 7 or scene.holder(SHAKER) == "right"


COCKTAIL = TaskSpec(
    name="cocktail",
    time_limit_s=240.0,
    templates=(
        "shake 30 ml {first} and 20 ml {second} on ice, add a cherry",
        "make a cocktail: three parts {first}, two parts {second}, ice and a cherry",
        "shake from the {first_colour} bottle and less from the {second_colour} one, with a cherry",
        "a shaken {first} and {second} in the stemmed glass, please, with a cherry",
    ),
    things=(*BOTTLES.values(), SHAKER, LID, GLASS, *ICE, CHERRY, TUB, DISH),
    furnish=furnish,
    draw=draw,
    subtasks=(
        Subtask(
            name="first poured", done=lambda s: poured(s, 0), things=tuple(BOTTLES),
            flawed=lambda s, before: _pour_flawed(s, before, 0),
        ),
        Subtask(
            name="second poured", done=lambda s: poured(s, 1), things=tuple(BOTTLES),
            flawed=lambda s, before: _pour_flawed(s, before, 1),
        ),
        Subtask(name="ice in", done=lambda s: ice_in(s) >= 2, things=tuple(c.name for c in ICE)),
        Subtask(name="lid on", done=caught, things=("lid",)),
        Subtask(name="shaken", done=shaken, things=("shaker",)),
        Subtask(name="lid off", done=lid_off, things=("lid",)),
        Subtask(name="in the glass", done=served, things=("shaker",), flawed=spilt(SHAKER)),
        Subtask(name="cherry in the glass", done=garnished, things=("cherry",)),
    ),
    needed=needed,
    steps=(
        Step(name="all upright", done=_all_upright, skill=_set_upright),
        *_bottle_steps(0),
        *_bottle_steps(1),
        Step(name="ice", done=lambda s, t: s.reached >= 3 or ice_in(s) >= 1, skill=_add_ice),
        Step(name="more ice", done=lambda s, t: s.reached >= 3, skill=_add_ice),
        Step(name="lid on", done=lambda s, t: s.reached >= 5 or caught(s), skill=_close),
        Step(name="shaken", done=lambda s, t: s.reached >= 5, skill=_shake),
        Step(name="shaker down", done=_shaker_down, skill=lambda h, t: _put_back(h, SHAKER)),
        Step(name="lid off", done=lambda s, t: s.reached >= 6, skill=_open),
        Step(name="lid down", done=lambda s, t: s.holder(LID) is None, skill=_lay_lid),
        Step(name="shaker in hand", done=_shaker_in_hand, skill=lambda h, t: _take(h, SHAKER)),
        Step(name="in the glass", done=lambda s, t: s.reached >= 7, skill=_serve),
        Step(
            name="shaker back",
            done=lambda s, t: s.holder(SHAKER) is None,
            skill=lambda h, t: _put_back(h, SHAKER),
        ),
        Step(
            name="cherry in the glass",
            done=lambda s, t: s.reached >= 8,
            skill=lambda h, t: _drop_in(h, CHERRY, GLASS),
        ),
    ),
    prepare=prepare,
    react=react,
    scored=True,
)  # fmt: skip
