"""Inverse kinematics of one arm, on a model of that arm alone.

Solving on the whole world would be five times slower, and with sleeping islands the kinematics
of a second `MjData` would silently skip the trees that sleep.
"""

import mink
import numpy as np

from lwd.sim.body import HOME, arm_model

_ITERATIONS = 3


class ArmKinematics:
    """Forward and inverse kinematics of one arm."""

    def __init__(self, side: str) -> None:
        model = arm_model(side)
        self._site = f"{side}_tcp"
        self._configuration = mink.Configuration(model)
        self._reach = mink.FrameTask(
            frame_name=self._site, frame_type="site",
            position_cost=1.0, orientation_cost=0.3, lm_damping=1e-4,
        )  # fmt: skip
        self._posture = mink.PostureTask(model, cost=1e-3)
        self._posture.set_target(HOME)
        self._limits: list[mink.Limit] = [mink.ConfigurationLimit(model)]

    def pose(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position and rotation matrix of the tool centre point at [7] joint angles."""
        self._configuration.update(joints)
        frame = self._configuration.get_transform_frame_to_world(self._site, "site")
        return frame.translation(), frame.rotation().as_matrix()

    def solve(self, joints: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """[7] joint angles near `joints` that bring the tool centre point to a pose."""
        self._configuration.update(joints)
        self._reach.set_target(
            mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), position)
        )
        for _ in range(_ITERATIONS):
            velocity = mink.solve_ik(
                self._configuration, [self._reach, self._posture], 1.0, "daqp",
                limits=self._limits, damping=1e-3,
            )  # fmt: skip
            self._configuration.integrate_inplace(velocity, 1.0)
        return self._configuration.q.copy()
