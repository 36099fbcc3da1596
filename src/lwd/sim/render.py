"""Pictures of an episode: an overview and what the robot's cameras see, side by side."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import logging
import struct
import zlib
from collections.abc import Callable, Iterator

import mujoco
import numpy as np

from lwd.actor.robot import Status
from lwd.config import COMPACT, CONTROL, ControlConfig
from lwd.episode.types import Episode
from lwd.errors import ConfigError
from lwd.sim.cameras import CAMERAS, check_opengl, open_renderer
from lwd.sim.expert import Expert
from lwd.sim.hands import NO_NOISE
from lwd.sim.robot import SimRobot
from lwd.sim.vessels import draw_liquids

log = logging.getLogger(__name__)
_ROWS = 45
"""Most rows of a sheet, if nobody says how often to look."""
_SAME = 1e-3
"""Two states that differ by less than this (m, rad) are of one episode."""


def overview() -> mujoco.MjvCamera:
    """A camera beside the table, on the robot's right, that sees both arms and the goods."""
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (0.45, 0.0, 0.85)
    camera.distance, camera.azimuth, camera.elevation = 1.4, 58.0, -28.0
    return camera


def film(
    robot: SimRobot,
    act: Callable[[], np.ndarray | None],
    *,
    every_s: float | None = None,
    size: int = 160,
) -> list[np.ndarray]:
    """Run an episode from where the robot is to its end and photograph it.

    `act` gives the targets of the next tick, None where nobody acts any more. Without `every_s` it
    looks once a second, in a long task more rarely. Each frame is [size, 4 * size, 3] uint8:
    overview, head, left wrist, right wrist. The first is the scene before the first tick, the last
    the end.
    """
    every_s = every_s or max(1.0, robot.spec.time_limit_s / _ROWS)
    renderer = open_renderer(robot.scene.model, size)
    try:
        frames = [_frame(renderer, robot)]
        while robot.status is Status.RUNNING and (target := act()) is not None:
            robot.apply(target[None])
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
    every_s: float | None = None,
    size: int = 160,
) -> bytes:
    """PNG of an episode of the expert, one row per moment, from top to bottom."""
    check_opengl()
    robot = SimRobot(task, control=control, held_out=held_out)
    robot.reset(seed)
    expert = Expert(robot, np.random.default_rng(seed), noise=NO_NOISE)
    return png(np.concatenate(film(robot, expert.act, every_s=every_s, size=size)))


def sheet_of(
    episode: Episode,
    *,
    tasks: tuple[str, ...] = (),
    every_s: float | None = None,
    size: int = 160,
) -> bytes:
    """PNG of a recorded episode: its scene from its seed, its actions once more.

    `tasks` are all tasks that its robot drew from, in their order, if it had several. Raises
    ConfigError where the scene is not the recorded one. What pushed things or jammed a gripper is
    not in the actions: where the states part ways, a warning says when.
    """
    check_opengl()
    held_out = episode.header.held_out
    robot = SimRobot(tasks or episode.header.task, control=_control(episode), held_out=held_out)
    robot.reset(episode.header.seed)
    if robot.spec.name != episode.header.task or _apart(robot, episode.state[0]):
        raise ConfigError(
            f"episode {episode.header.episode_id} does not begin as its seed says with tasks "
            f"{', '.join(tasks) or episode.header.task}; name all tasks of robot "
            f"{episode.header.robot}, in the order that it had them."
        )
    frames = film(robot, _repeated(robot, episode).__next__, every_s=every_s, size=size)
    return png(np.concatenate(frames))


def _control(episode: Episode) -> ControlConfig:
    rate_hz, horizon = episode.header.rate_hz, episode.header.horizon
    for control in CONTROL.values():
        if (control.rate_hz, control.horizon) == (rate_hz, horizon):
            return control
    raise ConfigError(
        f"episode {episode.header.episode_id} has {rate_hz:g} Hz and chunks of {horizon}; the "
        f"simulator's robots have one of {', '.join(CONTROL)}."
    )


def _repeated(robot: SimRobot, episode: Episode) -> Iterator[np.ndarray | None]:
    """The recorded targets, then None."""
    together = True
    for tick, (state, target) in enumerate(zip(episode.state, episode.action, strict=False)):
        if together and _apart(robot, state):
            together = False
            log.warning("not as recorded episode=%s from_tick=%d", episode.header.episode_id, tick)
        yield target
    yield None


def _apart(robot: SimRobot, state: np.ndarray) -> bool:
    now = robot.observe().state
    return now.shape != state.shape or bool((np.abs(now - state) > _SAME).any())


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
