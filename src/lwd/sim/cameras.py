"""What the robot's cameras see. Without shadows and multisampling an image costs about 2 ms."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import atexit
import os
import weakref
from collections.abc import Iterable
from functools import cache

import mujoco
import numpy as np

from lwd.errors import ConfigError, unknown
from lwd.sim import INSTALL
from lwd.sim.scene import Scene
from lwd.sim.vessels import draw_liquids

CAMERAS = ("head", "left_wrist", "right_wrist")


def open_renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    """Renderer of square images without shadows; a ConfigError where there is no OpenGL."""
    try:
        renderer = mujoco.Renderer(model, size, size)
    except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
        backend = os.environ.get("MUJOCO_GL", "")
        reason = "it is off, as where there is no EGL library" if backend == "disable" else error
        raise ConfigError(
            f"no OpenGL context for cameras with MUJOCO_GL={backend}: {reason}. {INSTALL}"
        ) from error
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    atexit.register(_close, weakref.ref(renderer))
    return renderer


def require_cameras(names: Iterable[str]) -> None:
    """ConfigError where a camera is unknown or cannot work, before anything is simulated."""
    for name in names:
        if name not in CAMERAS:
            raise unknown("camera", name, CAMERAS)
        check_opengl()


@cache
def check_opengl() -> None:
    """ConfigError where there is no OpenGL; about 0.1 s, once."""
    open_renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 16).close()


def _close(reference: "weakref.ref[mujoco.Renderer]") -> None:
    """Close a renderer that is still in use at exit: its own finaliser would come too late."""
    renderer = reference()
    if renderer is not None:
        renderer.close()


class Cameras:
    """Renderer of some of a scene's cameras, square images."""

    def __init__(self, scene: Scene, names: tuple[str, ...], size: int) -> None:
        require_cameras(names)
        self._scene, self._names = scene, names
        self._renderer = open_renderer(scene.model, size)

    def images(self) -> dict[str, np.ndarray]:
        """Camera name to [size, size, 3] uint8."""
        images = {}
        for name in self._names:
            self._renderer.update_scene(self._scene.data, name)
            draw_liquids(self._renderer.scene, self._scene)
            images[name] = self._renderer.render()
        return images

    def close(self) -> None:
        """Free the graphics context."""
        self._renderer.close()
