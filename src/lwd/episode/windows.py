"""Windows of n action chunks: returns and bootstrap points of Eq. 19, without a loop.

An episode of T ticks has states 0 .. T and rewards 0 .. T-1. The window that starts at tick t runs
over m = min(n H, T - t) ticks; because a chunk's reward is itself a discounted sum (III-A), Eq. 19
is one discounted sum over those ticks plus the value of state t + m, unless the episode is over
there. With the discounted rewards-to-go G, the sum is G[t] - gamma^m G[t + m]: constant time for
any n. All functions work on many episodes laid end to end (T + 1 rows each).
"""

from typing import NamedTuple

import numpy as np

from lwd.episode.types import Episode, Header, Outcome


class Windows(NamedTuple):
    """Targets of windows: Eq. 19 is `returns + discount * value(state[end])`."""

    returns: np.ndarray
    """[batch] float32, discounted sum of the rewards inside the window."""
    discount: np.ndarray
    """[batch] float32, gamma^ticks to the bootstrap state; 0 where nothing is bootstrapped."""
    end: np.ndarray
    """[batch] int64, row of the bootstrap state; the episode's last state where it ends before."""


def is_open(header: Header, *, bootstrap_timeouts: bool = False) -> bool:
    """Whether the value of the episode's last state counts.

    Success and failure end the return. So does a time-out in the paper ("remove the bootstrap",
    IV-C; Algorithm 1, line 21); `bootstrap_timeouts` reads it as a mere cut instead. After an
    interruption nobody knows what would have happened: the value there is the best answer.
    """
    if header.outcome is Outcome.INTERRUPTED:
        return True
    return header.truncated and bootstrap_timeouts


def rewards_to_go(reward: np.ndarray, discount: float) -> np.ndarray:
    """[ticks] rewards to [ticks + 1] float64 discounted suffix sums; the last is 0."""
    to_go = np.zeros(len(reward) + 1)
    for tick in range(len(reward) - 1, -1, -1):
        to_go[tick] = reward[tick] + discount * to_go[tick + 1]
    return to_go


def windows(
    start: np.ndarray,
    last: np.ndarray,
    to_go: np.ndarray,
    open_end: np.ndarray,
    *,
    ticks: np.ndarray | int,
    discount: float,
) -> Windows:
    """Windows from rows `start` of `ticks` = n H ticks each (Eq. 19).

    `last` [batch] is the row of the last state of the start's episode, `to_go` [rows] what
    `rewards_to_go` gave, `open_end` [batch] what `is_open` said of the episode.
    """
    end = np.minimum(start + ticks, last)
    factor = discount ** (end - start).astype(np.float64)
    returns = to_go[start] - factor * to_go[end]
    bootstraps = (end < last) | open_end
    return Windows(
        returns=returns.astype(np.float32),
        discount=np.where(bootstraps, factor, 0.0).astype(np.float32),
        end=end,
    )


def chunks(
    rows: np.ndarray, start: np.ndarray, last: np.ndarray, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Action chunks [batch, horizon, action] and their masks [batch, horizon] from rows `start`.

    An episode that ends inside a chunk repeats its last action, masked out. `rows` [rows, action]
    has a row for each state; `last` [batch] is the row of the episode's last state, which has no
    action.
    """
    ticks = start[:, None] + np.arange(horizon)
    mask = ticks < last[:, None]
    return rows[np.minimum(ticks, last[:, None] - 1)], mask


def episode_windows(
    episode: Episode,
    *,
    horizon: int,
    n_step: int,
    discount: float,
    bootstrap_timeouts: bool = False,
) -> Windows:
    """Windows from every tick of one episode; `end` counts its states from 0."""
    start = np.arange(episode.ticks)
    return windows(
        start,
        np.full_like(start, episode.ticks),
        rewards_to_go(episode.reward, discount),
        np.full(len(start), is_open(episode.header, bootstrap_timeouts=bootstrap_timeouts)),
        ticks=n_step * horizon,
        discount=discount,
    )
