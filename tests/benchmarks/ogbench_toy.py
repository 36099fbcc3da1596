"""Random transitions, small agents and an environment for the tests of benchmarks/ogbench."""

from pathlib import Path

import numpy as np
from benchmarks.ogbench.agent import AgentConfig
from benchmarks.ogbench.cell import Cell, Pace

OBSERVATION, ACTION = 3, 2


def dataset(rng: np.random.Generator, episodes: int = 3, steps: int = 12) -> dict[str, np.ndarray]:
    """Transitions as the package loads them; the second episode has a success in the middle."""
    frames = episodes * steps
    states = rng.normal(size=(episodes, steps + 1, OBSERVATION)).astype(np.float32)
    terminals = np.zeros((episodes, steps), np.float32)
    terminals[:, -1] = 1
    rewards = -rng.integers(1, 3, size=frames).astype(np.float32)
    masks = np.ones(frames, np.float32)
    rewards[steps + 5], masks[steps + 5] = 0.0, 0.0
    return {
        "observations": states[:, :-1].reshape(frames, OBSERVATION),
        "next_observations": states[:, 1:].reshape(frames, OBSERVATION),
        "actions": rng.uniform(-1, 1, size=(frames, ACTION)).astype(np.float32),
        "rewards": rewards,
        "masks": masks,
        "terminals": terminals.reshape(frames),
    }


def config(critic: str = "qam_td", extractor: str = "bridge", **changes) -> AgentConfig:
    small = {"observation": OBSERVATION, "action": ACTION, "horizon": 4, "hidden": (16, 16)}
    small |= {"flow_steps": 3, "batch": 8, "atoms": 11, "candidates": 3, "td_candidates": 2}
    return AgentConfig(critic=critic, extractor=extractor, **(small | changes))  # pyright: ignore


class Line:
    """An environment of three frames that succeeds where the last action is positive."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        self.left = 3
        self.state = np.full(OBSERVATION, seed % 7, np.float64)
        return self.state, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.broken:
            raise KeyboardInterrupt
        self.left -= 1
        done = self.left == 0
        return self.state, 0.0, done, False, {"success": bool(action[0] > 0)}


PACE = Pace(evaluate=4, checkpoint=2, dispatch=1, episodes=5)


def task(folder: Path, seeds: tuple[int, ...] = (0,)) -> Cell:
    return Cell(folder=folder, config=config(), seeds=seeds, facts={"agent": "lwd"})
