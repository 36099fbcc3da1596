"""Pictures of an episode: an overview and what the robot's cameras see, side by side."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import struct
import zlib
from collections.abc import Callable

import mujoco
import numpy as np

from lwd.actor.robot import Status
from lwd.config import COMPACT, ControlConfig
from lwd.sim.cameras import CAMERAS, open_renderer
from lwd.sim.expert import Expert
from lwd.sim.hands import NO_NOISE
from lwd.sim.robot import SimRobot
from lwd.sim.vessels import draw_liquids


def overview() -> mujoco.MjvCamera:
    """A camera beside the table, on the robot's right, that sees both arms and the goods."""
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (0.45, 0.0, 0.85)
    camera.distance, camera.azimuth, camera.elevation = 1.4, 58.0, -28.0
    return camera


def film(
    robot: SimRobot, act: Callable[[], np.ndarray], *, every_s: float = 1.0, size: int = 160
) -> list[np.ndarray]:
    """Run an episode from where the robot is to its end and photograph it.

    `act` gives the targets of the next tick. Each frame is [size, 4 * size, 3] uint8: overview,
    head, left wrist, right wrist. The first is the scene before the first tick, the last the end.
    """
    renderer = open_renderer(robot.scene.model, size)
    try:
        frames = [_frame(renderer, robot)]
        while robot.status is Status.RUNNING:
            robot.apply(act()[None])
            if robot.elapsed_s >= every_s * len(frames):
                frames.append(_frame(renderer, robot))
        return [*frames, _frame(renderer, robot)]
    finally:
        renderer.close()


def contact_sheet(
    task: str,
    seed: int,
    *,
    control: ControlConfig = COMPACT,
    held_out: bool = False,
    every_s: float = 1.0,
    size: int = 160,
) -> bytes:
    """PNG of an episode of the expert, one row per moment, from top to bottom."""
    robot = SimRobot(task, control=control, held_out=held_out)
    robot.reset(seed)
    expert = Expert(robot, np.random.default_rng(seed), noise=NO_NOISE)
    return png(np.concatenate(film(robot, expert.act, every_s=every_s, size=size)))


def png(image: np.ndarray) -> bytes:
    """Encode [height, width, 3] uint8 as PNG (RFC 2083), filter 0."""
    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _frame(renderer: mujoco.Renderer, robot: SimRobot) -> np.ndarray:
    pictures = []
    for camera in (overview(), *CAMERAS):
        renderer.update_scene(robot.scene.data, camera)
        draw_liquids(renderer.scene, robot.scene)
        pictures.append(renderer.render().copy())
    return np.concatenate(pictures, axis=1)
