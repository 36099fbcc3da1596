"""Meta-World's MT10: ten tasks of one arm, with the scripted experts of the package (MIT).

Yu et al., "Meta-World", CoRL 2019; `metaworld` 3.1, in an environment of its own for its MuJoCo.
"""

# Installed in an environment of its own.
# pyright: reportMissingImports=false

from typing import Any

import gymnasium
import metaworld  # registers the environments
import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from lwd.config import ControlConfig
from lwd.suites.gym import GymTask, Info

CONTROL = ControlConfig(rate_hz=80.0, horizon=10, timestep_s=0.0025)
"""Five physics steps of 2.5 ms to a tick."""
TICKS = 500
"""Limit of an episode, Meta-World's own."""
INSTRUCTIONS = {
    "reach-v3": "move the hand to the goal",
    "push-v3": "push the puck to the goal",
    "pick-place-v3": "pick up the puck and hold it at the goal",
    "door-open-v3": "open the door",
    "drawer-open-v3": "open the drawer",
    "drawer-close-v3": "close the drawer",
    "button-press-topdown-v3": "press the button from above",
    "peg-insert-side-v3": "insert the peg into the hole at the side",
    "window-open-v3": "open the window",
    "window-close-v3": "close the window",
}
"""Meta-World has no language; one sentence for each of MT10."""


class Seeded(gymnasium.Wrapper):
    """Meta-World with starts by the seed of `reset`, which the package ignores."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode from one of the task's fifty goals, drawn from the seed."""
        if seed is not None:
            environment: Any = self.env.unwrapped
            environment.seed(seed)
        return self.env.reset(options=options)


class ScriptedExpert:
    """The package's own policy for one environment."""

    def __init__(self, name: str) -> None:
        self._policy = ENV_POLICY_MAP[name]()

    def act(self, observation: Any, info: Info) -> np.ndarray:
        """[4]: hand displacement and gripper, each in [-1, 1]."""
        return np.clip(self._policy.get_action(observation), -1.0, 1.0)


def tasks(cameras_px: int = 0) -> tuple[GymTask, ...]:
    """MT10; with `cameras_px` the corner camera can be looked at."""
    assert set(INSTRUCTIONS) == set(metaworld.MT10().train_classes), "MT10 has other tasks"
    return tuple(_task(name, words, cameras_px) for name, words in INSTRUCTIONS.items())


def _task(name: str, instruction: str, size: int) -> GymTask:
    look: dict[str, Any] = {}
    if size:
        look = {"render_mode": "rgb_array", "camera_name": "corner2", "width": size, "height": size}

    def make() -> Any:
        goals = {"env_name": name, "seed": 42}  # the same fifty for every robot
        return Seeded(gymnasium.make("Meta-World/MT1", disable_env_checker=True, **goals, **look))

    def images(environment: Any, observation: Any, info: Info) -> dict[str, np.ndarray]:
        return {"corner": np.ascontiguousarray(environment.render()[::-1])}  # upside down

    return GymTask(
        name=f"metaworld-{name.removesuffix('-v3')}",
        instruction=instruction,
        make=make,
        time_limit_s=TICKS / CONTROL.rate_hz,
        images=images,
        expert=lambda environment, rng: ScriptedExpert(name),
    )
