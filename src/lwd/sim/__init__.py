"""The simulated fleet: a dual-arm robot, its tasks, their experts and the operator (V-A)."""

import ctypes
import os
import sys


def _has_egl() -> bool:
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    return True


if sys.platform == "linux" and "MUJOCO_GL" not in os.environ:
    # Robots and servers have no screen. MuJoCo reads this once, when it is first imported, and told
    # to use EGL it does not import at all where the library is missing: only cameras need it.
    os.environ["MUJOCO_GL"] = "egl" if _has_egl() else "disable"
