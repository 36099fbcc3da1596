"""Transitions of OGBench as action chunks, in the way of the authors' QAM code."""

from typing import NamedTuple

import numpy as np


class Chunks(NamedTuple):
    """Everything an update may draw, one row per frame; `starts` names the rows to draw from."""

    observations: np.ndarray
    """[frames, observation]"""
    actions: np.ndarray
    """[frames, action], in [-1, 1]"""
    following: np.ndarray
    """[frames, observation], the state after the chunk that begins here."""
    returns: np.ndarray
    """[frames], discounted reward of the chunk."""
    discounts: np.ndarray
    """[frames], gamma^horizon, or 0 where the task is done within the chunk."""
    starts: np.ndarray
    """[chunks] int32, frames from which a whole chunk lies in one episode."""
    lowest_reward: float


def sparse(rewards: np.ndarray) -> np.ndarray:
    """-1 until everything is done; the package's reward counts what is not done."""
    return -(rewards != 0.0).astype(np.float32)


def chunked(dataset: dict[str, np.ndarray], horizon: int, discount: float) -> Chunks:
    """Chunks of a dataset with observations, actions, next_observations, rewards, masks, terminals.

    Rewards after a success within the chunk still count, but nothing is bootstrapped then; chunks
    across the end of an episode are left out (the authors weight them with zero). A cut at the time
    limit is no end: it is bootstrapped from.
    """
    frames = len(dataset["actions"])
    if frames < horizon:
        raise ValueError(f"dataset has {frames} frames; a chunk needs {horizon}.")
    ends = dataset["terminals"] > 0
    inside = np.ones(frames, bool)
    returns = np.zeros(frames, np.float32)
    going_on = np.ones(frames, np.float32)
    for i in range(horizon):
        at = np.minimum(np.arange(frames) + i, frames - 1)
        returns += (discount**i * dataset["rewards"][at]).astype(np.float32)
        going_on = np.minimum(going_on, dataset["masks"][at]).astype(np.float32)
        if i < horizon - 1:
            inside &= ~ends[at]
    inside[frames - horizon + 1 :] = False
    last = np.minimum(np.arange(frames) + horizon - 1, frames - 1)
    return Chunks(
        observations=dataset["observations"],
        actions=dataset["actions"],
        following=dataset["next_observations"][last],
        returns=returns,
        discounts=going_on * np.float32(discount**horizon),
        starts=np.flatnonzero(inside).astype(np.int32),
        lowest_reward=float(dataset["rewards"].min()),
    )
