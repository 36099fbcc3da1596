"""OGBench's scene (drawer, window, buttons, cube) and its cube alone, with the package's oracles.

Park et al., "OGBench", ICLR 2025; `ogbench` 1.2 (MIT), in an environment of its own.
"""

# Installed in an environment of its own.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
import ogbench.manipspace  # noqa: F401  registers the environments
from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle

from lwd.config import ControlConfig
from lwd.suites.gym import GymTask, Info

CONTROL = ControlConfig(rate_hz=20.0, horizon=10, timestep_s=0.002)
TICKS = {"scene": 750, "cube-single": 200}
"""Limits of an episode, the package's own."""
INSTRUCTIONS = {
    "scene": (
        "open the drawer and the window",
        "close the drawer and the window and lock both",
        "open the drawer, close the window and move the cube to the left",
        "put the cube into the drawer and close it",
        "put the cube into the drawer, open the window and lock both",
    ),
    "cube-single": (
        "move the cube to the right",
        "move the cube away from the robot",
        "move the cube towards the robot",
        "move the cube to the far left",
        "move the cube to the far right",
    ),
}
"""OGBench has no language; one sentence for each of its goals."""
NEAR_M = 0.04
"""Within this OGBench calls a cube, the drawer or the window right."""
DRAWER_OPEN_M, DRAWER_ENTRY_M = -0.16, -0.12
UNLOCKED = 1
"""State of the button of a drawer or window that can move."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What is to be put right next."""

    oracle: str
    """`cube`, `button`, `drawer` or `window`."""
    button: int = 0
    position: Any = None
    """Of the cube [3] in m, or of the slide in m."""


class Oracles:
    """Plans over the package's oracles: what is wrong, and which of them puts it right.

    The package's oracles follow targets that only its data collection draws; here the targets come
    from the goal of the task. Subclasses say what is wrong.
    """

    def __init__(self, environment: Any, rng: np.random.Generator) -> None:
        self.env = environment.unwrapped
        np.random.seed(int(rng.integers(2**32)))  # the oracles draw from it
        self._oracles = {
            "cube": CubeMarkovOracle(env=environment),
            "button": ButtonMarkovOracle(env=environment),
            "drawer": DrawerMarkovOracle(env=environment),
            "window": WindowMarkovOracle(env=environment),
        }
        self._aim: Aim | None = None

    def act(self, observation: Any, info: Info) -> np.ndarray:
        """[5]: hand displacement, yaw and gripper, each in [-1, 1]."""
        if self._aim is None or self._oracles[self._aim.oracle].done:
            self._aim = self.wrong()
            if self._aim is None:
                return np.zeros(5)
            self._oracles[self._aim.oracle].reset(observation, info)
        targets = self._targets(self._aim)
        return self._oracles[self._aim.oracle].select_action(observation, {**info, **targets})

    def wrong(self) -> Aim | None:
        """What to put right next; None if the goal is reached."""
        raise NotImplementedError

    def cube_goal(self) -> np.ndarray:
        """[3] m."""
        return self.env._data.mocap_pos[self.env._cube_target_mocap_ids[0]].copy()

    def cube(self) -> np.ndarray:
        """[3] m."""
        return self.env._data.joint("object_joint_0").qpos[:3].copy()

    def _targets(self, aim: Aim) -> dict[str, Any]:
        """What the package's data collection adds to the info."""
        if aim.oracle == "cube":
            return {
                "privileged/target_block": 0,
                "privileged/target_block_pos": aim.position,
                "privileged/target_block_yaw": np.zeros(1),
            }
        if aim.oracle == "button":
            return {
                "privileged/target_button": aim.button,
                "privileged/target_button_state": 1 - aim.position,
                "privileged/target_button_top_pos": self.env._data.site_xpos[
                    self.env._button_site_ids[aim.button]
                ].copy(),
            }
        # As the package does where it draws a target: the site shows where the handle will be.
        axis = {"drawer": 1, "window": 0}[aim.oracle]
        self.env._model.site(f"{aim.oracle}_handle_center_target").pos[axis] = aim.position
        mujoco.mj_kinematics(self.env._model, self.env._data)
        handle = self.env._data.site(f"{aim.oracle}_handle_center_target").xpos.copy()
        return {f"privileged/target_{aim.oracle}_handle_pos": handle}


class CubeExpert(Oracles):
    """Brings the cube to its goal."""

    def wrong(self) -> Aim | None:
        """The cube."""
        return Aim(oracle="cube", position=self.cube_goal())


class SceneExpert(Oracles):
    """Unlocks, moves and locks what the goal asks for."""

    def wrong(self) -> Aim | None:
        """Cube first, for which the drawer must be open; then slides, then their locks."""
        env, goal = self.env, self.cube_goal()
        drawer = env._data.joint("drawer_slide").qpos[0]
        stowed = goal[1] < env._drawer_center[1]
        right = (
            env._is_in_drawer(self.cube())
            if stowed
            else np.linalg.norm(self.cube() - goal) < NEAR_M
        )
        if not right and stowed:
            if drawer > DRAWER_ENTRY_M:
                return self._slide("drawer", DRAWER_OPEN_M)
            return Aim(oracle="cube", position=env._drawer_center.copy())
        if not right:
            return Aim(oracle="cube", position=goal)
        if abs(drawer - env._target_drawer_pos) > NEAR_M / 2:
            return self._slide("drawer", env._target_drawer_pos)
        if abs(env._data.joint("window_slide").qpos[0] - env._target_window_pos) > NEAR_M / 2:
            return self._slide("window", env._target_window_pos)
        for button, state in enumerate(env._cur_button_states):
            if state != env._target_button_states[button]:
                return Aim(oracle="button", button=button, position=int(state))
        return None

    def _slide(self, name: str, position: float) -> Aim:
        """Move drawer or window, which must be unlocked first."""
        button = ("drawer", "window").index(name)
        if (state := int(self.env._cur_button_states[button])) != UNLOCKED:
            return Aim(oracle="button", button=button, position=state)
        return Aim(oracle=name, position=position)


def tasks(cameras_px: int = 0) -> tuple[GymTask, ...]:
    """The five goals of the scene and of the cube."""
    return tuple(
        _task(name, number, words, cameras_px)
        for name, goals in INSTRUCTIONS.items()
        for number, words in enumerate(goals, start=1)
    )


def _task(name: str, number: int, instruction: str, size: int) -> GymTask:
    look: dict[str, Any] = {"render_mode": "rgb_array", "width": size, "height": size}

    def make() -> Any:
        found = f"{name}-singletask-task{number}-v0"
        return gymnasium.make(found, disable_env_checker=True, **(look if size else {}))

    def images(environment: Any, observation: Any, info: Info) -> dict[str, np.ndarray]:
        return {"front": environment.render()}

    return GymTask(
        name=f"ogbench-{name}-{number}",
        instruction=instruction,
        body=name,
        make=make,
        time_limit_s=TICKS[name] / CONTROL.rate_hz,
        images=images,
        expert={"scene": SceneExpert, "cube-single": CubeExpert}[name],
    )
