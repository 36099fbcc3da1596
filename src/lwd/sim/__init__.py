"""The simulated fleet: a dual-arm robot, its tasks, their experts and the operator (V-A)."""

import os
import sys

if sys.platform == "linux":
    # Robots and servers have no screen. MuJoCo reads this once, when it is first imported.
    os.environ.setdefault("MUJOCO_GL", "egl")
