"""Skills of both arms together: grasp a wide thing by two sides, lead it, let it go.

The hands keep their places in the frame of what they carry, so they are never pulled apart.
"""

from collections.abc import Iterator, Mapping, Sequence

from lwd.sim.body import SIDES
from lwd.sim.geometry import UP, Pose
from lwd.sim.hands import SLOT, Hands
from lwd.sim.scene import Scene
from lwd.sim.skills import make_ready
from lwd.sim.things import Thing

Grips = Mapping[str, Pose]
"""By side: pose of the hand in the frame of a thing."""


def together(hands: Hands, *motions: Iterator[None]) -> Iterator[None]:
    """Run motions of different arms side by side until all have ended."""
    running = list(motions)
    while running := [m for m in running if next(m, StopIteration) is not StopIteration]:
        hands.busy = set(SIDES)
        yield


def carried_by_both(scene: Scene, thing: Thing) -> bool:
    """Whether both hands hold a thing."""
    fingers = {f"{side}_{finger}" for side in SIDES for finger in ("fl", "fr")}
    return fingers <= scene.touching(thing)


def grasp_both(hands: Hands, thing: Thing, grips: Grips, opening: float) -> Iterator[None]:
    """Come from above with both hands half open, close them, and stay."""
    yield from together(hands, *(make_ready(hands, side, thing) for side in SIDES))
    _set_openings(hands, opening)
    yield from together(hands, *(_approach(hands, side, thing, grips[side]) for side in SIDES))
    _set_openings(hands, 0.0)
    yield from hands.wait(0.4)


def lead(
    hands: Hands, thing: Thing, grips: Grips, way: Sequence[Pose], speed: float
) -> Iterator[None]:
    """Move a thing that both hands hold along way points of its frame; stop when it slips off."""
    scene = hands.scene
    hands.busy = set(SIDES)
    start = (scene.position(thing), scene.rotation(thing))
    for pose in hands.along(start, way, speed):
        if not carried_by_both(scene, thing):
            return
        if pose is not None:
            for side, grip in grips.items():
                hands.reach(side, *in_frame(pose, grip))
        yield


def held_at(hands: Hands, thing: Thing) -> dict[str, Pose]:
    """Where in a thing's frame the hands are told to be."""
    position, rotation = hands.scene.position(thing), hands.scene.rotation(thing)
    poses = {side: hands.pose(side) for side in SIDES}
    return {s: (rotation.T @ (p - position), rotation.T @ r) for s, (p, r) in poses.items()}


def release_both(hands: Hands, opening: float, rise: float) -> Iterator[None]:
    """Open both hands a little and raise them."""
    hands.busy = set(SIDES)
    _set_openings(hands, opening)
    yield from hands.wait(0.3)
    up = {s: (hands.pose(s)[0] + rise * UP, hands.pose(s)[1]) for s in SIDES}
    yield from together(hands, *(hands.move(s, [up[s]], 0.25) for s in SIDES))


def in_frame(frame: Pose, pose: Pose) -> Pose:
    """A pose given in a frame, in the robot's."""
    position, rotation = frame
    return position + rotation @ pose[0], rotation @ pose[1]


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
