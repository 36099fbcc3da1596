"""How a person moves a simulated robot: the hands in space, not sixteen joints."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import logging
from collections.abc import Sequence

import mujoco
import numpy as np

from lwd.errors import ConfigError
from lwd.sim.body import MAX_OPENING, SIDES
from lwd.sim.cameras import open_renderer
from lwd.sim.hands import SLOT
from lwd.sim.ik import ArmKinematics
from lwd.sim.render import overview
from lwd.sim.robot import SimRobot
from lwd.sim.scene import Scene
from lwd.sim.vessels import draw_liquids

log = logging.getLogger(__name__)

MOTIONS = ("forward", "left", "up", "turn", "tilt", "roll", "open")
"""Of a hand: along x, y, z of the robot's base, about z, y, x of it, and the gripper."""
SPEED_M, TURN_RAD, GRIP_M = 0.25, 1.2, 0.15
"""Fastest per second: a hand, its rotation, a gripper's opening."""
LEASH_M = 0.06
"""How far a hand that is blocked is wanted from where it is: it pushes no harder than that."""
MISS_M = 0.015
"""Error of a solution that is none: the pose is out of reach, and the arm stays as it is."""
SIDE_PX = 240
"""Of each of the two square pictures."""


class HandSteering:
    """Moves the targets of both arms so that the hands go where a person wants them."""

    def __init__(self, robot: SimRobot) -> None:
        self._robot = robot
        self.axes: Sequence[str] = [f"{side} hand: {m}" for side in SIDES for m in MOTIONS]
        self._arms = {side: ArmKinematics(side) for side in SIDES}
        self._wanted: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._given: np.ndarray | None = None
        self._eye: tuple[Scene, mujoco.Renderer] | None = None
        self._blind = False

    def steer(self, target: np.ndarray, speeds: np.ndarray, seconds: float) -> np.ndarray:
        """[action] targets that move each hand along its [axes] speeds for so long."""
        if self._given is None or not np.array_equal(target, self._given):
            self._wanted = {}  # somebody else has moved the arms, or their limits have
        moved = target.astype(np.float64)
        for side, wanted in zip(SIDES, speeds.reshape(len(SIDES), -1), strict=True):
            if wanted.any():
                self._move(side, moved[SLOT[side]], wanted * seconds)
            else:
                self._wanted.pop(side, None)
        self._given = moved.astype(np.float32)
        return self._given

    def facts(self) -> dict[str, str]:
        """Where the hands are, how far the grippers are open, how far the task is."""
        scene, spec = self._robot.scene, self._robot.spec
        found = {}
        for side in SIDES:
            x, y, z = 100 * scene.hand(side)[0]
            across = f"{abs(y):.0f} {'left' if y >= 0 else 'right'}"
            found[f"{side} hand"] = f"{x:.0f} cm forward, {across}, {z:.0f} up"
            things = (item.thing for item in scene.layout.items)
            held = next((t.name for t in things if scene.holder(t) == side), "")
            opening = f"{max(0.0, 1000 * scene.opening(side)):.0f} mm open"
            found[f"{side} gripper"] = f"{opening}, holds {held}" if held else opening
        found["steps done"] = f"{scene.reached} of {len(spec.subtasks)}"
        return found

    def picture(self) -> np.ndarray | None:
        """[SIDE_PX, 2 SIDE_PX, 3] uint8: from beside the table, and from the robot's head."""
        scene = self._robot.scene
        if self._eye is not None and self._eye[0] is not scene:
            self.close()
        if self._eye is None and not self._blind:
            try:
                self._eye = scene, open_renderer(scene.model, SIDE_PX)
            except ConfigError as error:
                self._blind = True
                log.warning("no pictures robot=%s reason=%s", self._robot.robot_id, error)
        return None if self._eye is None else _photographed(*self._eye)

    def close(self) -> None:
        """Free the graphics context."""
        if self._eye is not None:
            self._eye[1].close()
            self._eye = None

    def _move(self, side: str, arm: np.ndarray, by: np.ndarray) -> None:
        """Move one arm's [8] targets in place by [7] motions (m, rad, m)."""
        arms = self._arms[side]
        position, rotation = self._wanted.get(side) or arms.pose(arm[:7])
        measured = self._robot.scene.hand(side)[0]
        ahead = position + SPEED_M * by[:3] - measured
        ahead *= min(1.0, LEASH_M / max(float(np.linalg.norm(ahead)), 1e-9))
        position, rotation = measured + ahead, _rotation(TURN_RAD * by[3:6]) @ rotation
        joints = arms.solve(arm[:7], position, rotation)
        if np.linalg.norm(arms.pose(joints)[0] - position) < MISS_M:
            self._wanted[side] = position, rotation
            arm[:7] = joints
        arm[7] = np.clip(arm[7] + GRIP_M * by[6], 0.0, MAX_OPENING)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix of [3] small angles about z, y and x of the base."""
    (cz, cy, cx), (sz, sy, sx) = np.cos(angles), np.sin(angles)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return about_z @ about_y @ about_x


def _photographed(scene: Scene, renderer: mujoco.Renderer) -> np.ndarray:
    pictures = []
    for camera in (overview(), "head"):
        renderer.update_scene(scene.data, camera)
        draw_liquids(renderer.scene, scene)
        pictures.append(renderer.render().copy())
    return np.concatenate(pictures, axis=1)
