"""Skills of both arms together: grasp a wide thing by two sides, lead it, let it go.

The hands keep their places in the frame of what they carry, so they are never pulled apart.
"""

from collections.abc import Iterator, Mapping, Sequence

from lwd.sim.body import MAX_OPENING, SIDES
from lwd.sim.geometry import UP, Pose
from lwd.sim.hands import SLOT, Hands
from lwd.sim.scene import FINGERS, Scene
from lwd.sim.skills import make_ready
from lwd.sim.things import Thing

Grips = Mapping[str, Pose]
"""By side: pose of the hand in the frame of a thing."""
_BLINK_S = 0.2
"""A finger that touches nothing for longer has lost its grip."""


def together(hands: Hands, *motions: Iterator[None]) -> Iterator[None]:
    """Run motions of different arms side by side until all have ended."""
    running = list(motions)
    while running := [m for m in running if next(m, StopIteration) is not StopIteration]:
        hands.busy = set(SIDES)
        yield


def carried_by_both(scene: Scene, thing: Thing) -> bool:
    """Whether both hands hold a thing."""
    return scene.touching(thing) >= FINGERS


def grasp_both(hands: Hands, thing: Thing, grips: Grips, opening: float) -> Iterator[None]:
    """Come from above with both hands half open, close them, and stay.

    A hand that is closed already lets go first: another attempt.
    """
    closed = [s for s in SIDES if hands.target[SLOT[s]][7] < opening and not _full(hands, s, thing)]
    yield from together(hands, *(_start_again(hands, side, opening) for side in closed))
    yield from together(hands, *(make_ready(hands, side, thing) for side in SIDES))
    _set_openings(hands, opening)
    yield from together(hands, *(_approach(hands, side, thing, grips[side]) for side in SIDES))
    _set_openings(hands, 0.0)
    yield from hands.wait(0.4)


def lead(
    hands: Hands, thing: Thing, grips: Grips, way: Sequence[Pose], speed: float
) -> Iterator[None]:
    """Move a thing that both hands hold along way points of its frame; stop when it slips off.

    A finger may lose contact for a moment: only a longer while counts.
    """
    scene, patience = hands.scene, max(1, round(_BLINK_S * hands.rate_hz))
    hands.busy = set(SIDES)
    missing = 0
    start = (scene.position(thing), scene.rotation(thing))
    for pose in hands.along(start, way, speed):
        missing = 0 if carried_by_both(scene, thing) else missing + 1
        if missing > patience:
            return
        if pose is not None:
            for side, grip in grips.items():
                hands.reach(side, *in_frame(pose, grip))
        yield
    for _ in range(patience):
        if carried_by_both(scene, thing):
            return
        yield


def held_at(hands: Hands, thing: Thing) -> dict[str, Pose]:
    """Where in a thing's frame the hands are told to be."""
    position, rotation = hands.scene.position(thing), hands.scene.rotation(thing)
    poses = {side: hands.pose(side) for side in SIDES}
    return {s: (rotation.T @ (p - position), rotation.T @ r) for s, (p, r) in poses.items()}


def release_both(hands: Hands, opening: float, rise: float) -> Iterator[None]:
    """Open both hands a little and raise them."""
    yield from together(hands, *(_let_go(hands, side, opening, rise) for side in SIDES))


def in_frame(frame: Pose, pose: Pose) -> Pose:
    """A pose given in a frame, in the robot's."""
    position, rotation = frame
    return position + rotation @ pose[0], rotation @ pose[1]


def _full(hands: Hands, side: str, thing: Thing) -> bool:
    """Whether a hand holds anything but a thing."""
    items = (item.thing for item in hands.scene.layout.items if item.thing is not thing)
    return any(hands.scene.holder(item) == side for item in items)


def _let_go(hands: Hands, side: str, opening: float, rise: float) -> Iterator[None]:
    yield from hands.grip(side, opening, 0.3)
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position + rise * UP, rotation)], 0.25)


def _start_again(hands: Hands, side: str, opening: float) -> Iterator[None]:
    """Let go, and open the hand wide where there is room."""
    yield from _let_go(hands, side, opening, 0.12)
    yield from hands.grip(side, MAX_OPENING, 0.1)


def _approach(hands: Hands, side: str, thing: Thing, grip: Pose) -> Iterator[None]:
    scene = hands.scene
    position, rotation = in_frame((scene.position(thing), scene.rotation(thing)), grip)
    above = position + 0.12 * UP
    yield from hands.move(side, [(above, rotation)], 0.35)
    position, rotation = in_frame((scene.position(thing), scene.rotation(thing)), grip)
    yield from hands.move(side, [(position + hands.miss() * rotation[:, 1], rotation)], 0.18)


def _set_openings(hands: Hands, opening: float) -> None:
    for side in SIDES:
        hands.target[SLOT[side]][7] = opening
