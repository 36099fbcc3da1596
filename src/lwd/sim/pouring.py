"""Pouring from a held vessel: the hand leads the lip, and the volumes say how far to tilt.

The lip is the point of the rim where the stream leaves. It stays above the receiving mouth while
the vessel turns about the horizontal axis through it, so the stream does not wander.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lwd.sim.body import SHOULDER_Y
from lwd.sim.geometry import UP, Pose, exponential, towards, wrap
from lwd.sim.hands import Hands
from lwd.sim.liquids import lip_angle
from lwd.sim.scene import Scene
from lwd.sim.skills import heading
from lwd.sim.things import Thing, Vessel

_AWAY = 0.06
"""How far the vessel goes back when it has poured, m."""
_TRICKLE, _GUSH = np.deg2rad(4), np.deg2rad(26)
"""Least and greatest tilt beyond the angle at which the vessel runs."""
_LAG_S = 0.25
"""The hand follows its command by about so much."""
_STEEPEST = np.deg2rad(118)


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a vessel is held and turned over another one."""

    above: float = 0.035
    """Height of the lip over the receiving mouth, m."""
    back: float = 0.3
    """How far before the middle of the mouth the lip stays, in radii of the mouth."""
    speed: float = 1.2
    """Fastest turn, rad/s."""
    patience_s: float = 12.0
    """How long to wait for what is to come, besides the time that a whole turn takes."""


STREAM = Manner()
"""For liquids, which fall straight."""
TUMBLE = Manner(above=0.02, back=0.75, speed=0.8, patience_s=6.0)
"""For beads, which fly on as they leave."""


def pour(
    hands: Hands,
    source: Vessel,
    into: Vessel,
    *,
    ml: float | None = None,
    manner: Manner = STREAM,
) -> Iterator[None]:
    """Pour a held vessel out into another until that holds `ml`, or this one is empty.

    Ends with the source upright beside the other vessel; gives up when the source slips out of the
    hand, stands back up where nothing runs any more when its patience ends.
    """
    scene = hands.scene

    def wanted() -> float:
        """What is still to flow, ml."""
        left = scene.liquids.volume(source)
        return left if ml is None else min(left, ml - scene.liquids.volume(into))

    def tilt() -> float:
        """The tilt that lets the rest run out: less and less until it is there."""
        if wanted() <= 0.5 + _afterflow(hands, source, manner):
            return 0.0
        excess = np.clip(wanted() / source.drain_ml_s, _TRICKLE, _GUSH)
        return min(lip_angle(source, scene.liquids.volume(source)) + float(excess), _STEEPEST)

    yield from tip(hands, source, into, tilt, manner)


def tip(
    hands: Hands,
    source: Vessel,
    into: Thing,
    tilt: Callable[[], float],
    manner: Manner = TUMBLE,
) -> Iterator[None]:
    """Hold the lip of a held vessel over another one, tilted as `tilt()` says, until that is 0.

    For beads too, which `tilt` counts. `into` is anything with its mouth at the top.
    """
    scene = hands.scene
    side = scene.holder(source)
    if side is None:
        return
    hands.busy = {side}
    direction = pouring_direction(scene, side, source, into)
    stand = Stand(scene, side, source, direction)

    def over(tilt: float) -> Pose:
        return stand.pose(_over(scene, source, into, direction, tilt, manner), tilt)

    above = over(0.0)
    at, rotation = hands.pose(side)
    if at[2] < above[0][2] - 0.02:  # straight up first: neighbours stand close
        yield from hands.move(side, [(np.append(at[:2], above[0][2]), rotation)], 0.3)
    yield from hands.move(side, [above], 0.3)
    now, step = 0.0, manner.speed * hands.pace / hands.rate_hz
    for _ in range(round(manner.patience_s * hands.rate_hz + _STEEPEST / step)):
        goal = tilt()
        if scene.holder(source) != side or (goal <= 0 and now <= 0):
            break
        now = float(towards(np.array([now]), np.array([goal]), step)[0])
        hands.reach(side, *over(now))
        yield
    while now > 0 and scene.holder(source) == side:
        now = max(0.0, now - step)
        hands.reach(side, *over(now))
        yield
    position, rotation = hands.pose(side)
    yield from hands.move(side, [(position - _AWAY * direction + 0.02 * UP, rotation)], 0.3)


class Stand:
    """The grasp of a vessel as it is now: where the hand must be for the lip to be somewhere."""

    def __init__(self, scene: Scene, side: str, vessel: Vessel, direction: np.ndarray) -> None:
        position, rotation = scene.hand(side)
        turn = scene.rotation(vessel)
        self._hand = turn.T @ rotation
        upright = _righted(turn)
        inwards = 0.0 if vessel.spout or side == "right" else np.pi
        yaw = _yaw(vessel, upright, upright @ self._hand) + inwards
        gap = wrap(float(np.arctan2(direction[1], direction[0])) - yaw)
        upright = exponential(UP * gap) @ upright
        self._axis, self._upright = np.cross(UP, direction), upright
        reach = vessel.mouth_radius + vessel.spout
        lip = upright.T @ (direction * reach + UP * vessel.shape.height / 2)
        self._offset = turn.T @ (position - scene.position(vessel)) - lip

    def pose(self, lip: np.ndarray, tilt: float) -> Pose:
        """Pose of the hand with the lip at a point and the vessel tilted."""
        turn = exponential(self._axis * tilt) @ self._upright
        return lip + turn @ self._offset, turn @ self._hand


def pouring_direction(scene: Scene, side: str, vessel: Vessel, into: Thing) -> np.ndarray:
    """[3] horizontal direction in which a held vessel pours: out of the side of the hand.

    That needs the least of the wrist. A hand that points sideways itself still pours across.
    """
    yaw = heading(side, scene.position(into))
    inwards = -np.sign(SHOULDER_Y[side])
    return np.array([-np.sin(yaw), np.cos(yaw), 0.0]) * inwards


def _over(
    scene: Scene, source: Vessel, into: Thing, direction: np.ndarray, tilt: float, manner: Manner
) -> np.ndarray:
    """Where the lip goes: over the mouth, so high that the foot of the vessel stays above it."""
    radius = into.mouth_radius if isinstance(into, Vessel) else into.shape.radius
    mouth = scene.position(into) + UP * into.shape.height / 2
    height = manner.above + source.shape.height * max(0.0, float(np.cos(tilt)))
    return mouth - direction * (manner.back * radius) + UP * height


def _afterflow(hands: Hands, source: Vessel, manner: Manner) -> float:
    """What still runs while the hand turns back, ml: the mean of now and nothing."""
    scene = hands.scene
    cosine = np.clip(scene.rotation(source)[2, 2], -1, 1)
    excess = float(np.arccos(cosine)) - lip_angle(source, scene.liquids.volume(source))
    if excess <= 0:
        return 0.0
    rate = source.drain_ml_s * excess / np.deg2rad(30)
    return rate * (_LAG_S + excess / (2 * manner.speed * hands.pace))


def _righted(turn: np.ndarray) -> np.ndarray:
    """The nearest rotation whose axis points up."""
    axis = turn[:, 2]
    cross = np.cross(axis, UP)
    angle = np.arccos(np.clip(axis @ UP, -1, 1))
    return exponential(cross / max(float(np.linalg.norm(cross)), 1e-9) * angle) @ turn


def _yaw(vessel: Vessel, turn: np.ndarray, hand: np.ndarray) -> float:
    """Where a vessel's spout points, or else across the hand that holds it, to its left, rad."""
    if vessel.spout:
        return float(np.arctan2(turn[1, 0], turn[0, 0]))
    ahead = hand[:, 2] if np.hypot(*hand[:2, 2]) > 0.3 else -hand[:, 0]
    return float(np.arctan2(ahead[1], ahead[0])) + np.pi / 2
