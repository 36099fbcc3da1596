"""Gongfu tea: leaves, rinse, brew, share among three cups, serve the named one (task 5 of V-A).

Wet leaves stay in the gaiwan and a lid that lies on it stays there until it is taken by its knob;
both are welds, switched by `react`. The right arm brews, the left one shares and serves.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from lwd.sim.geometry import UP
from lwd.sim.hands import Hands
from lwd.sim.lids import lid_on, lift_lid, put_lid
from lwd.sim.liquids import Liquids
from lwd.sim.pouring import pour, tip
from lwd.sim.scene import Scene
from lwd.sim.skills import free_spot, pick, place
from lwd.sim.task import TABLE_Z, Step, Subtask, TaskSpec, spilt
from lwd.sim.tasks.tea_set import (
    BOWL,
    CUPS,
    GAIWAN,
    KETTLE,
    LEAVES,
    LID,
    PITCHER,
    SCOOP,
    SNAP,
    THINGS,
    draw,
    furnish,
)
from lwd.sim.things import Thing, Vessel
from lwd.sim.vessels import body_position, contained

_WATER_ML = 190.0
_RINSE_ML, _BREW_ML, _CUP_ML = 40.0, 80.0, 15.0
"""What a rinse, a brew and a cup are at least."""
_RINSE, _BREW = "rinse ml", "brew ml"
"""Facts: the most that the gaiwan held before it was drained, and when it brewed."""
_ENOUGH = 6
"""Leaves."""
_LID_TOLERANCE = 0.015
_TRAY_TOLERANCE = 0.04
_SETTLED = 0.02
_UPRIGHT = 0.95
"""Cosine of the tilt: with so little of it nothing runs out."""
_LEAN = np.deg2rad(55)


def prepare(scene: Scene) -> None:
    """Fill the kettle and the scoop."""
    scene.liquids.fill(KETTLE, _WATER_ML)
    middle = scene.position(SCOOP)
    floor = middle[2] + SCOOP.shape.height / 2 - SCOOP.depth
    for k, leaf in enumerate(LEAVES.bodies):
        angle = 2 * np.pi * k / 4
        spot = middle[:2] + 0.0085 * np.array([np.cos(angle), np.sin(angle)])
        q = scene.model.joint(leaf).qposadr[0]
        scene.data.qpos[q : q + 3] = (*spot, floor + 0.006 + 0.011 * (k // 4))


def react(scene: Scene, seconds: float) -> None:
    """Wet leaves stick, the lid snaps on and comes off by its knob, the most in it is noted."""
    active, ml = scene.data.eq_active, scene.liquids.volume(GAIWAN)
    snap = scene.model.equality(SNAP).id
    leaves = active[snap - LEAVES.count : snap]  # their welds come just before the lid's
    if ml > 10 and not leaves.all():
        leaves[drenched(scene)] = 1
    active[snap] = not scene.touched(LID) and (active[snap] or covered(scene))
    (scene.liquids.covered.add if active[snap] else scene.liquids.covered.discard)(GAIWAN.name)
    for fact, stage in ((_RINSE, 1), (_BREW, 3)):
        if scene.reached in (stage, stage + 1):
            scene.facts[fact] = max(scene.facts.get(fact, 0.0), ml)


def drenched(scene: Scene) -> np.ndarray:
    """[leaves] which leaves are in the gaiwan, where the water is."""
    spots = np.array([body_position(scene, leaf) for leaf in LEAVES.bodies])
    local = (spots - scene.position(GAIWAN)) @ scene.rotation(GAIWAN)
    near = np.hypot(local[:, 0], local[:, 1]) < GAIWAN.mouth_radius
    return near & (np.abs(local[:, 2]) < GAIWAN.shape.height / 2)


def covered(scene: Scene) -> bool:
    """Whether the lid lies on the standing gaiwan."""
    rim = scene.position(GAIWAN) + UP * GAIWAN.shape.height / 2
    return scene.upright(GAIWAN) > 0.98 and lid_on(scene, LID, rim, _LID_TOLERANCE)


def cups(scene: Scene) -> list[Vessel]:
    """The three cups of this episode."""
    present = {item.thing.name for item in scene.layout.items}
    return [cup for cup in CUPS if cup.name in present]


def leaves_in(scene: Scene) -> bool:
    """Whether enough leaves are in the standing gaiwan, at rest."""
    inside = contained(scene, GAIWAN, LEAVES)
    return inside >= _ENOUGH and scene.upright(GAIWAN) > 0.9 and scene.speed(LEAVES) < 0.1


def rinsed(scene: Scene) -> bool:
    """Whether hot water is on the leaves, and no more is running."""
    return scene.liquids.volume(GAIWAN) >= _RINSE_ML and scene.upright(KETTLE) > _UPRIGHT


def drained(scene: Scene) -> bool:
    """Whether the rinse is in the bowl and the leaves are still in the gaiwan."""
    rinse = scene.facts.get(_RINSE, 0.0)
    return (
        scene.upright(GAIWAN) > _UPRIGHT
        and scene.liquids.volume(GAIWAN) <= 0.2 * rinse
        and scene.liquids.poured_ml.get((GAIWAN.name, BOWL.name), 0.0) >= 0.7 * rinse
        and contained(scene, GAIWAN, LEAVES) >= _ENOUGH
    )


def brewing(scene: Scene) -> bool:
    """Whether the gaiwan is full enough, with its lid on."""
    return scene.liquids.volume(GAIWAN) >= _BREW_ML and covered(scene)


def decanted(scene: Scene) -> bool:
    """Whether the tea is in the fairness pitcher, and no more is running."""
    enough = 0.8 * scene.facts.get(_BREW, np.inf)
    return scene.liquids.volume(PITCHER) >= enough and scene.upright(GAIWAN) > _UPRIGHT


def shared(scene: Scene) -> bool:
    """Whether every cup has its fair share, and no more is running."""
    volumes = [scene.liquids.volume(cup) for cup in cups(scene)]
    fair = min(volumes) >= _CUP_ML and max(volumes) < 1.6 * min(volumes)
    return fair and scene.upright(PITCHER) > _UPRIGHT


def served(scene: Scene) -> bool:
    """Whether the named cup stands on the tray with its tea, settled and let go."""
    cup = scene.layout.target
    full = scene.liquids.ml.get(cup.name, 0.0) >= 0.8 * _CUP_ML
    return full and on_tray(scene, cup) < _TRAY_TOLERANCE


def on_tray(scene: Scene, cup: Thing) -> float:
    """Distance of a cup that stands on the tray from its middle, m; infinite for any other."""
    offset = scene.position(cup) - scene.layout.goal - UP * cup.shape.height / 2
    stands = abs(offset[2]) < 0.01 and scene.upright(cup) > _UPRIGHT
    still = scene.speed(cup) < _SETTLED and not scene.touched(cup)
    return float(np.hypot(*offset[:2])) if stands and still else np.inf


def _strewn(scene: Scene, before: Liquids) -> bool:
    """Whether a leaf is neither in the gaiwan nor in the scoop."""
    found = contained(scene, GAIWAN, LEAVES) + contained(scene, SCOOP, LEAVES)
    return found < LEAVES.count - 1


def _lid_askew(scene: Scene, before: Liquids) -> bool:
    offset = scene.position(LID) - scene.position(GAIWAN)
    return bool(np.hypot(*offset[:2]) > 0.01) or spilt(KETTLE)(scene, before)


def _unfair(scene: Scene, before: Liquids) -> bool:
    volumes = [scene.liquids.volume(cup) for cup in cups(scene)]
    return max(volumes) > 1.4 * min(volumes) or spilt(PITCHER)(scene, before)


def _off_middle(scene: Scene, before: Liquids) -> bool:
    return on_tray(scene, scene.layout.target) > 0.025


def needed(scene: Scene) -> list[Thing]:
    """Everything that has work to do still."""
    first = [SCOOP] * (scene.reached < 1) + [LID] * (scene.reached < 4)
    return [*first, GAIWAN, KETTLE, PITCHER, *cups(scene)]


def _done(count: int, scene: Scene, thing: Thing) -> bool:
    return scene.reached >= count


def _put_away(hands: Hands, *but: Thing) -> Iterator[None]:
    """Put what the hands hold, but for some things, back where it stood."""
    for item in hands.scene.layout.items:
        if item.thing not in but and hands.scene.holder(item.thing):
            yield from _put_back(hands, item.thing)


def _put_back(hands: Hands, thing: Thing) -> Iterator[None]:
    """Stand a held thing where it stood at first, or, where that is taken, somewhere free."""
    scene = hands.scene
    side = scene.holder(thing)
    home = next(item.position for item in scene.layout.items if item.thing is thing)
    foot = np.array([home[0], home[1], TABLE_Z])
    others = [i.thing for i in scene.layout.items if i.thing not in (thing, LEAVES)]
    if side and min(np.hypot(*(scene.position(o) - foot)[:2]) for o in others) < 0.08:
        foot = free_spot(scene, side)
    if thing is LID:
        yield from put_lid(hands, thing, foot, over=1.0)
    else:
        yield from place(hands, thing, foot)


def _hold(hands: Hands, thing: Thing, side: str, rise: float = 0.015) -> Iterator[None]:
    """Take a vessel by its side, with nothing else in the hands."""
    yield from _put_away(hands, thing)
    if hands.scene.holder(thing) is None:
        yield from pick(hands, thing, side, lean=_LEAN, rise=rise)


def _scoop(hands: Hands, thing: Thing) -> Iterator[None]:
    """Tip the leaves into the gaiwan."""
    yield from _hold(hands, SCOOP, "right", rise=-0.003)  # leaves would land on the fingers
    scene = hands.scene
    rim = scene.position(GAIWAN)[2] + GAIWAN.shape.height / 2

    def tilt() -> float:
        """Steep until the last leaf has fallen."""
        highest = max(body_position(scene, leaf)[2] for leaf in LEAVES.bodies)
        return np.deg2rad(125) if highest > rim else 0.0

    yield from tip(hands, SCOOP, GAIWAN, tilt)
    yield from _put_away(hands)


def _rinse(hands: Hands, thing: Thing) -> Iterator[None]:
    return _fill(hands, _RINSE_ML + 10)


def _fill(hands: Hands, ml: float) -> Iterator[None]:
    yield from _hold(hands, KETTLE, "right")
    yield from pour(hands, KETTLE, GAIWAN, ml=ml)
    yield from _put_away(hands)


def _drain(hands: Hands, thing: Thing) -> Iterator[None]:
    """Pour the rinse into the bowl; where too much of it missed, rinse again."""
    scene = hands.scene
    if scene.holder(GAIWAN) is None and scene.liquids.volume(GAIWAN) < 5:
        yield from _fill(hands, _RINSE_ML)
    yield from _hold(hands, GAIWAN, "right")
    yield from pour(hands, GAIWAN, BOWL)
    yield from _put_away(hands)


def _brew(hands: Hands, thing: Thing) -> Iterator[None]:
    """Fill up, then put the lid on."""
    scene = hands.scene
    if scene.liquids.volume(GAIWAN) < _BREW_ML + 3:
        yield from _fill(hands, _BREW_ML + 15)
        return
    yield from _put_away(hands, LID)
    if scene.holder(LID) is None:
        yield from lift_lid(hands, LID, "right")
    if scene.holder(LID):
        rim = scene.position(GAIWAN) + UP * GAIWAN.shape.height / 2
        yield from put_lid(hands, LID, rim, over=0.95)


def _decant(hands: Hands, thing: Thing) -> Iterator[None]:
    yield from _hold(hands, GAIWAN, "right")
    yield from pour(hands, GAIWAN, PITCHER)
    yield from _put_away(hands)


def _share(hands: Hands, thing: Thing) -> Iterator[None]:
    """Pour the same into every cup, the nearest to the hand first."""
    scene = hands.scene
    yield from _hold(hands, PITCHER, "left")
    for cup in sorted(cups(scene), key=lambda c: -scene.position(c)[1]):
        if scene.holder(PITCHER) and scene.liquids.volume(cup) < _fair_ml(scene) - 3:
            yield from pour(hands, PITCHER, cup, ml=_fair_ml(scene))
    yield from _put_away(hands)


def _fair_ml(scene: Scene) -> float:
    """A little less than a third of the tea."""
    tea = sum(scene.liquids.volume(v) for v in (PITCHER, *cups(scene)))
    return max(_CUP_ML + 3, min(0.3 * tea, 28.0))


def _serve(hands: Hands, thing: Thing) -> Iterator[None]:
    yield from _hold(hands, thing, "left")
    yield from place(hands, thing, np.array(hands.scene.layout.goal))


_SUBTASKS = (
    Subtask(name="leaves in", done=leaves_in, things=("scoop",), flawed=_strewn),
    Subtask(name="rinsed", done=rinsed, things=("kettle",), flawed=spilt(KETTLE)),
    Subtask(name="drained", done=drained, things=("gaiwan",), flawed=spilt(GAIWAN)),
    Subtask(name="brewing", done=brewing, things=("kettle", "lid"), flawed=_lid_askew),
    Subtask(name="decanted", done=decanted, things=("gaiwan",), flawed=spilt(GAIWAN)),
    Subtask(name="shared", done=shared, things=("pitcher",), flawed=_unfair),
    Subtask(name="served", done=served, things=tuple(c.name for c in CUPS), flawed=_off_middle),
)
_SKILLS = (_scoop, _rinse, _drain, _brew, _decant, _share, _serve)

TEA = TaskSpec(
    name="tea",
    time_limit_s=300.0,
    templates=(
        "brew Gongfu tea and serve the {item} on the tray",
        "make tea for three and put the {item} on the tray",
        "prepare Gongfu tea, then serve it in the {item}",
        "rinse and brew the tea, share it, and serve the {item}",
    ),
    things=THINGS,
    furnish=furnish,
    draw=draw,
    subtasks=_SUBTASKS,
    needed=needed,
    steps=tuple(
        Step(name=subtask.name, done=partial(_done, k + 1), skill=skill)
        for k, (subtask, skill) in enumerate(zip(_SUBTASKS, _SKILLS, strict=True))
    ),
    prepare=prepare,
    react=react,
    scored=True,
)
