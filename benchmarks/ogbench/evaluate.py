"""Success by the package's own measure: is the task done when the episode ends?"""

from collections.abc import Callable
from typing import Any

import numpy as np

Act = Callable[[np.ndarray, int, int], np.ndarray]
"""Chunk [horizon, action] from an observation, the episode's number and the decision's."""


def successes(env: Any, act: Act, episodes: int, seed: int) -> list[bool]:
    """Whether each episode succeeded; chunks are executed whole, without looking in between.

    Start i of a seed is the same for every agent, up to two random steps that the environment takes
    before it restores positions and velocities, which the package gives no way to seed.
    """
    return [_episode(env, act, number, 10_000 * seed + number) for number in range(episodes)]


def _episode(env: Any, act: Act, number: int, start: int) -> bool:
    observation, info = env.reset(seed=start)
    for decision in range(1_000_000):
        for action in np.asarray(act(observation, number, decision)):
            observation, _, terminated, truncated, info = env.step(np.clip(action, -1, 1))
            if terminated or truncated:
                return bool(info["success"])
    raise RuntimeError("the environment never ends an episode")
