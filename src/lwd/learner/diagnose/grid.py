"""The states of held-out episodes at which chunks begin, with what really came of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from lwd.episode.types import Episode, Outcome
from lwd.episode.windows import Windows, chunks, episode_windows, rewards_to_go
from lwd.errors import ConfigError
from lwd.learner.diagnose.trained import inputs, seen_rows
from lwd.models.fns import Inputs
from lwd.models.inputs.preparation import Preparation
from lwd.replay.sampler import NStep


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every `horizon`-th state of some episodes, in network units; arrays of [states]."""

    inputs: Inputs
    action: np.ndarray
    """[states, horizon, action] what was executed."""
    whole: np.ndarray
    """Whether the episode went on to the chunk's end."""
    to_go: np.ndarray
    """Discounted return to the end of the episode: the Monte-Carlo value."""
    returns: np.ndarray
    """Discounted reward in the window of Eq. 19."""
    discount: np.ndarray
    """gamma^(ticks to the bootstrap), 0 where nothing is bootstrapped."""
    next_inputs: Inputs
    episode: np.ndarray
    """Number of the episode."""
    task: np.ndarray
    """Name of its task."""
    success: np.ndarray
    """Whether it succeeded."""

    def __len__(self) -> int:
        return len(self.to_go)

    def groups(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, mask) of all states and, where there are several tasks, of each task's."""
        yield "all", np.ones(len(self), bool)
        tasks = sorted(set(self.task))
        for task in tasks if len(tasks) > 1 else ():
            yield task, self.task == task


def finished(episodes: Sequence[Episode]) -> list[Episode]:
    """Episodes whose return is known; ConfigError if there are fewer than two."""
    found = [e for e in episodes if e.header.outcome.judged]
    if len(found) < 2:
        raise ConfigError(
            f"{len(found)} finished episodes of {len(episodes)}; a diagnosis needs at least 2 and "
            f"says little below 30. Ask for more."
        )
    return found


def grid(
    episodes: Sequence[Episode],
    normaliser: Preparation,
    *,
    horizon: int,
    discount: float,
    n_step: NStep,
    cameras: Sequence[str] = (),
    bootstrap_timeouts: bool = False,
) -> Grid:
    """Lay the chunk starts of `finished` episodes end to end.

    Where networks see, these are the starts at which all of `cameras` have an image and at the end
    of whose window V can be asked, as in training.
    """

    def windows(episode: Episode) -> Windows:
        return episode_windows(
            episode,
            horizon=horizon,
            n_step=n_step if isinstance(n_step, int) else n_step.get(episode.header.task, 1),
            discount=discount,
            bootstrap_timeouts=bootstrap_timeouts,
        )

    parts = [
        _rows(episode, number, windows(episode), normaliser, horizon, discount, cameras)
        for number, episode in enumerate(episodes)
    ]
    return Grid(
        **{
            name: jax.tree.map(lambda *x: np.concatenate(x), *(part[name] for part in parts))
            for name in parts[0]
        }
    )


def _rows(
    episode: Episode,
    number: int,
    found: Windows,
    normaliser: Preparation,
    horizon: int,
    discount: float,
    cameras: Sequence[str],
) -> dict:
    seen = np.isin(np.arange(episode.ticks + 1), seen_rows(episode, cameras))
    # Nobody asks V where nothing is bootstrapped: the first state stands for one that is not seen.
    ahead = np.where(seen[found.end] | (found.discount > 0), found.end, 0)
    start = np.arange(0, episode.ticks, horizon)
    start = start[seen[start] & seen[ahead[start]]]
    last = np.full(len(start), episode.ticks)
    action, mask = chunks(episode.action, start, last, horizon)
    return {
        "inputs": inputs(episode, start, normaliser),
        "action": normaliser.action(episode.state[start], action),
        "whole": mask.all(1),
        "to_go": rewards_to_go(episode.reward, discount)[start],
        "returns": found.returns[start],
        "discount": found.discount[start],
        "next_inputs": inputs(episode, ahead[start], normaliser),
        "episode": np.full(len(start), number),
        "task": np.full(len(start), episode.header.task, object),
        "success": np.full(len(start), episode.header.outcome is Outcome.SUCCESS),
    }
