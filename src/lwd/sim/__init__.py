"""The simulated fleet: a dual-arm robot, its tasks, their experts and the operator (V-A)."""

import ctypes
import ctypes.util
import os
import sys

from lwd.errors import ConfigError

INSTALL = (
    "Install libegl1 libegl-mesa0 libgl1-mesa-dri, leave MUJOCO_GL unset and import lwd.sim before "
    "mujoco; or install libosmesa6 and set MUJOCO_GL=osmesa; or simulate without cameras."
)
"""What a machine without a display needs for pictures."""
_BACKENDS = ("egl", "osmesa", "glfw", "disable")


def _has_egl() -> bool:
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    return True


def choose_backend() -> None:
    """Set MUJOCO_GL where nobody did; ConfigError where it asks for what this machine lacks.

    Robots and servers have no screen. MuJoCo reads it once, when it is first imported, and told to
    use a library that is missing it does not import at all, cameras or not.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if not asked:
        os.environ["MUJOCO_GL"] = "egl" if _has_egl() else "disable"
    elif asked not in _BACKENDS:
        raise ConfigError(f"MUJOCO_GL is {asked!r}; allowed: {', '.join(_BACKENDS)}, or unset.")
    elif (asked == "egl" and not _has_egl()) or (
        asked == "osmesa" and ctypes.util.find_library("OSMesa") is None
    ):
        raise ConfigError(f"MUJOCO_GL is {asked}, whose library is not installed here. {INSTALL}")


if sys.platform == "linux":
    choose_backend()
