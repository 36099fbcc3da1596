"""What the robot's cameras see. Without shadows and multisampling an image costs about 2 ms."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

from lwd.errors import unknown
from lwd.sim.scene import Scene

CAMERAS = ("head", "left_wrist", "right_wrist")


class Cameras:
    """Renderer of some of a scene's cameras, square images."""

    def __init__(self, scene: Scene, names: tuple[str, ...], size: int) -> None:
        for name in names:
            if name not in CAMERAS:
                raise unknown("camera", name, CAMERAS)
        self._scene, self._names = scene, names
        self._renderer = mujoco.Renderer(scene.model, size, size)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False

    def images(self) -> dict[str, np.ndarray]:
        """Camera name to [size, size, 3] uint8."""
        images = {}
        for name in self._names:
            self._renderer.update_scene(self._scene.data, name)
            images[name] = self._renderer.render()
        return images

    def close(self) -> None:
        """Free the graphics context."""
        self._renderer.close()
