"""Norm stats of recorded episodes, one episode at a time."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lwd.episode.types import Episode
from lwd.episode.windows import chunks
from lwd.errors import EpisodeError
from lwd.models.inputs.format import InputFormat
from lwd.models.inputs.norm_stats import NormStats
from lwd.models.inputs.processor import relative_to
from lwd.models.inputs.running import Running, Spread

BLOCK = 1024
"""Chunks that are in memory at a time."""


class Measured(NamedTuple):
    """Statistics of `state` and `actions`, and of what."""

    stats: dict[str, NormStats]
    spreads: dict[str, Spread]
    episodes: int
    ticks: int
    stride: dict[str, int]
    """Quantiles are those of every so manieth sample; 1 is exact."""


def measure(
    episodes: Iterable[Episode], format: InputFormat, horizon: int, *, limit: int | None = None
) -> Measured:
    """Statistics of what `format` reads and anchors, over the chunks of `horizon` ticks that begin
    at every tick; after the end of its episode a chunk repeats the last action, as in openpi and in
    `Processor.fit`.

    EpisodeError names an episode whose state or action is too short. `limit` as for `Running`.
    """
    running = {"state": Running(limit), "actions": Running(limit)}
    count = ticks = 0
    for episode in episodes:
        _check(episode, format)
        count, ticks = count + 1, ticks + episode.ticks
        for first in range(0, episode.ticks, BLOCK):
            start = np.arange(first, min(first + BLOCK, episode.ticks))
            last = np.full_like(start, episode.ticks)
            state = episode.state[start]
            action, _ = chunks(episode.action, start, last, horizon)
            relative = relative_to(state, action, format.anchors)
            running["state"].add(state[:, list(format.state)])
            running["actions"].add(relative.reshape(-1, relative.shape[-1]))
    return Measured(
        {name: each.stats() for name, each in running.items()},
        {name: each.spread() for name, each in running.items()},
        count,
        ticks,
        {name: each.stride for name, each in running.items()},
    )


def _check(episode: Episode, format: InputFormat) -> None:
    states, actions = episode.state.shape[1], episode.action.shape[1]
    wanted = 1 + max([*format.state, *format.anchors], default=-1)
    if states < wanted or actions != len(format.anchors):
        raise EpisodeError(
            f"episode {episode.header.episode_id} of {episode.header.robot} has {states} state and "
            f"{actions} action dimensions; the input format reads {wanted} (or more) and "
            f"{len(format.anchors)}. Give the format of that robot."
        )
