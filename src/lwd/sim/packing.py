"""Skills for packing shoes: swing the lid by its knob, lay a shoe into the box, set it upright."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from lwd.sim.body import MAX_OPENING
from lwd.sim.footwear import COLLAR, HINGE, INSIDE, KNOB, PAIRS, SHOEBOX
from lwd.sim.geometry import UP, Pose, leaning, smooth, wrap, yawed
from lwd.sim.hands import Hands
from lwd.sim.pinching import across, from_above, pinch, ready, set_down, yaw_of
from lwd.sim.scene import Scene
from lwd.sim.skills import heading, side_of
from lwd.sim.things import Thing

WIDE = math.radians(109)
"""Lid angle to which the expert opens it, near the end of its range."""
_LANE = 0.043
"""y of a shoe in the box, either side of the middle."""
_REACH = 1.7
"""Farther than this a hand does not turn away from straight ahead, rad."""
_SWING_SPEED = 1.1
"""Mean speed of the lid, rad/s."""
_LIGHTLY = 0.021
"""Opening to which a gripper closes on the knob, 32 mm wide: it turns between the fingers with the
lid, where a firm grip would tip the box over, m. From 14 to 28 mm will do; a policy that imitates
the middle may miss it by a few."""
_OVER = 0.90
"""Height of a hand that carries a shoe over the box's rim, m."""
_PINCH = 0.052
"""Opening of a gripper about a shoe's collar or the knob, m."""
_LEAN = (math.radians(10), math.radians(30))
"""Range of the lean at which a shoe that lay on its side is let go, to fall onto its sole; drawn
anew at each attempt."""
_SLIP_OUT = 0.076
"""Opening at which a finger slips out from under the sole, m: the shoe is 66 mm high."""


def pair_of(scene: Scene, thing: Thing) -> tuple[Thing, ...]:
    """The pair that a shoe belongs to; of anything else, the named one."""
    return PAIRS[thing.colour or scene.layout.target.colour]


def box_frame(scene: Scene) -> Pose:
    """Position and rotation of the box."""
    return scene.position(SHOEBOX), scene.rotation(SHOEBOX)


def _in_box_frame(scene: Scene, point: np.ndarray) -> np.ndarray:
    position, rotation = box_frame(scene)
    return rotation.T @ (point - position)


def inside(scene: Scene, shoe: Thing) -> bool:
    """Whether a shoe is in the box on its sole, let go."""
    x, y, z = _in_box_frame(scene, scene.position(shoe))
    within = abs(x) < INSIDE[0] and abs(y) < INSIDE[1] and abs(z) < SHOEBOX.shape.height / 2
    return bool(within and scene.upright(shoe) > 0.9 and not scene.touched(shoe))


def _knob(frame: Pose, angle: float) -> Pose:
    """Pose of a hand on the knob with the lid at an angle: it leans less as the lid rises."""
    position, rotation = frame
    swung = np.array([KNOB * np.cos(angle), 0.0, -KNOB * np.sin(angle)])
    tilt = np.interp(angle, (0.0, WIDE), (math.radians(50), math.radians(10)))
    return position + rotation @ (HINGE + swung), leaning(float(tilt), yaw_of(rotation))


def swing(hands: Hands, goal: float) -> Iterator[None]:
    """Take the knob, lead it around the hinge to an angle, and let go.

    Always with the right hand: the box stands in the middle, and which arm were nearer by a
    millimetre is nothing that an imitator could see.
    """
    scene, frame = hands.scene, box_frame(hands.scene)
    side, start = "right", scene.angle("lid")
    yield from ready(hands, side, SHOEBOX, _PINCH)
    yield from hands.clear(side, frame[0])
    point, rotation = _knob(frame, start)
    hover = point - 0.08 * rotation[:, 2]
    yield from hands.move(side, [(hover + 0.05 * UP, rotation), (hover, rotation)], 0.35)
    yield from hands.move(side, [(point + hands.miss() * rotation[:, 0], rotation)], 0.15)
    yield from hands.grip(side, _LIGHTLY, 0.3)
    ticks = max(2, round(abs(goal - start) / (_SWING_SPEED * hands.pace) * hands.rate_hz))
    for k in range(1, ticks + 1):
        off = scene.hand(side)[0] - _knob(box_frame(scene), scene.angle("lid"))[0]
        if np.linalg.norm(off) > 0.03:
            break
        hands.reach(side, *_knob(frame, start + (goal - start) * smooth(k / ticks)))
        yield
    yield from hands.grip(side, _PINCH, 0.3)
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position - 0.10 * rotation[:, 2], rotation)], 0.3)


def _berth(scene: Scene, shoe: Thing) -> tuple[np.ndarray, float]:
    """Centre and yaw of a shoe in the box: beside the other one of its pair, turned around."""
    position, rotation = box_frame(scene)
    yaw = yaw_of(rotation)
    other = next(s for s in pair_of(scene, shoe) if s is not shoe)
    model = other if inside(scene, other) else shoe
    same = abs(wrap(yaw_of(scene.rotation(model)) - yaw)) < math.pi / 2
    lane = np.sign(_in_box_frame(scene, scene.position(model))[1]) * _LANE
    if model is other:
        same, lane = not same, -lane
    floor = 0.008 - SHOEBOX.shape.height / 2
    centre = position + rotation @ [0.0, lane, floor + shoe.shape.height / 2]
    return centre, yaw if same else wrap(yaw + np.pi)


def pack(hands: Hands, thing: Thing) -> Iterator[None]:
    """Put a shoe of the pair into the box; one that a hand cannot turn so far is turned first."""
    scene = hands.scene
    pair = pair_of(scene, thing)
    shoe = next((shoe for shoe in pair if not inside(scene, shoe)), pair[1])
    centre, yaw = _berth(scene, shoe)
    box = yaw_of(scene.rotation(SHOEBOX))
    side = scene.holder(shoe) or side_of(scene.position(shoe))
    if scene.upright(shoe) < 0.7:
        yield from _raise(hands, shoe, side)
        return
    if abs(wrap(_yaw(scene, shoe) - yaw)) > _REACH:
        yield from _turn_round(hands, shoe, side)
        return
    yield from _grasp_shoe(hands, shoe, side, lambda: box + wrap(_yaw(scene, shoe) - yaw))
    yield from set_down(hands, shoe, centre, yawed(yaw), over=_OVER, opening=_PINCH)


def _yaw(scene: Scene, shoe: Thing) -> float:
    return yaw_of(scene.rotation(shoe))


def _grasp_shoe(hands: Hands, shoe: Thing, side: str, yaw: Callable[[], float]) -> Iterator[None]:
    """Pinch a shoe's collar with the hand at a yaw and lift it."""
    scene = hands.scene

    def pose() -> Pose:
        point = scene.position(shoe) + scene.rotation(shoe) @ [COLLAR[0], 0.0, COLLAR[1]]
        return from_above(point, yaw())

    return pinch(hands, shoe, side, pose, opening=_PINCH)


def _turn_round(hands: Hands, shoe: Thing, side: str) -> Iterator[None]:
    """Put a shoe down where it lay at first, turned as far as the hand turns."""
    start = across(_yaw(hands.scene, shoe), 0.0)
    end = -np.copysign(0.9 * _REACH, start)
    return _put_aside(hands, shoe, side, wrap(_yaw(hands.scene, shoe) + end - start))


def clear_lid(hands: Hands) -> Iterator[None]:
    """Take a shoe off the lid and put it down where it lay at first."""
    shoe = on_lid(hands.scene)
    if shoe is not None:
        side = hands.scene.holder(shoe) or side_of(hands.scene.position(shoe))
        yield from _put_aside(hands, shoe, side, _yaw(hands.scene, shoe))


def on_lid(scene: Scene) -> Thing | None:
    """A shoe that lies on the box."""
    for shoe in (item.thing for item in scene.layout.items if item.thing is not SHOEBOX):
        x, y, z = _in_box_frame(scene, scene.position(shoe))
        if abs(x) < INSIDE[0] and abs(y) < INSIDE[1] and z > SHOEBOX.shape.height / 2:
            return shoe
    return None


def _first_place(scene: Scene, shoe: Thing) -> np.ndarray:
    """[3] where a shoe's centre was at the start."""
    return np.array(next(i.position for i in scene.layout.items if i.thing is shoe))


def _put_aside(hands: Hands, shoe: Thing, side: str, yaw: float) -> Iterator[None]:
    scene = hands.scene
    spot = _first_place(scene, shoe) + 0.002 * UP
    yield from _grasp_shoe(hands, shoe, side, lambda: across(_yaw(scene, shoe), 0.0))
    yield from set_down(hands, shoe, spot, yawed(yaw), over=_OVER, opening=_PINCH)


def _raise(hands: Hands, shoe: Thing, side: str) -> Iterator[None]:
    """Take a shoe that lies on its side between sole and collar, turn it up and let it drop."""
    scene = hands.scene

    def lying() -> Pose:
        rotation = scene.rotation(shoe)
        point = scene.position(shoe) + rotation @ [COLLAR[0], 0.0, 0.0]
        sole = math.atan2(rotation[1, 2], rotation[0, 2])
        return from_above(point, across(sole - math.pi / 2, heading(side, point)))

    yield from pinch(hands, shoe, side, lying, opening=MAX_OPENING)
    if scene.holder(shoe) != side:
        return
    lean = hands.rng.uniform(*_LEAN)
    hand, spot = scene.hand(side)[1], _first_place(scene, shoe) + 0.008 * UP
    ahead = leaning(math.pi / 2 - lean, heading(side, spot))[:, 2]
    up = (UP - ahead[2] * ahead) * np.sign(hand[:, 1] @ scene.rotation(shoe)[:, 2])
    up = up / np.linalg.norm(up)
    upright = np.stack([np.cross(up, ahead), up, ahead], axis=1)
    turn = upright @ hand.T @ scene.rotation(shoe)
    yield from set_down(hands, shoe, spot, turn, over=_OVER, opening=_SLIP_OUT)
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position - 0.06 * rotation[:, 2] + 0.06 * UP, rotation)], 0.2)
