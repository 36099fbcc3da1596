"""Which episodes surprise the learner: its TD loss by episode, and the odds that follow from it.

Odds are relative: inside each part of a mixture (and inside each task, if tasks are balanced) a
tick is drawn with a chance in proportion to (loss of its episode / mean loss)^strength, where the
ratio is cut to [1/4, 4]. An episode that was not drawn yet has the highest odds. There are no
importance weights: targets of surprising episodes count more, by a factor of at most 16^strength
between any two ticks. Values lean towards what is still badly predicted, and the less so the better
all of it is; a study that must not be biased leaves the strength at 0.
"""

from collections.abc import Mapping, Set
from typing import NamedTuple

import numpy as np

from lwd.errors import ConfigError
from lwd.replay.memory import Memory, View

LAG = 2
"""A loss counts from the draw two updates later on: the learner draws the next batch before the
last one has been computed, and whether it has must not matter."""
RATE = 0.2
"""Weight of what an episode's loss was now against what it was before."""
LIMIT = 4.0
"""Largest factor above or below the mean loss that counts."""


class _Noted(NamedTuple):
    """Losses that have not taken effect yet."""

    update: int
    episode: np.ndarray
    """[batch] numbers of episodes in the memory."""
    loss: np.ndarray
    """[batch] float32."""


class Priorities:
    """TD loss of each episode of a memory, by its number there."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._loss = np.full(1024, np.nan, np.float32)
        self._noted: list[_Noted] = []

    def note(self, update: int, episode: np.ndarray, loss: np.ndarray) -> None:
        """The losses [batch] of an update, each with the number of the episode it came from."""
        if episode.shape != loss.shape:
            raise ConfigError(
                f"Update {update} drew {episode.shape} rows, but there are losses of {loss.shape}: "
                f"give one for each row of the global batch, in its order."
            )
        self._noted.append(_Noted(update, episode, loss.astype(np.float32)))

    def odds(self, update: int, view: View, strength: float) -> np.ndarray | None:
        """[episodes] float64 in (0, 1], relative odds of a tick of each; None if all are equal."""
        while self._noted and self._noted[0].update <= update - LAG:
            self._apply(self._noted.pop(0))
        loss = self._losses(view)
        known = loss[~np.isnan(loss)]
        if strength == 0 or not len(known) or not (mean := known.mean(dtype=np.float64)) > 0:
            return None
        ratio = np.where(np.isnan(loss), LIMIT, loss / mean).clip(1 / LIMIT, LIMIT)
        return (ratio / LIMIT) ** strength

    def tensors(self, view: View) -> dict[str, np.ndarray]:
        """What a checkpoint keeps: losses by id, and those that have not taken effect yet; empty
        without any."""
        loss = self._losses(view)
        known = np.flatnonzero(~np.isnan(loss))
        # An episode that has left may be back under its id, as a new one without a loss.
        every = [_Noted(-1, known, loss[known]), *(_without(n, view.gone) for n in self._noted)]
        numbers = np.concatenate([noted.episode for noted in every])
        if not len(numbers):
            return {}
        updates = [np.full(len(noted.loss), noted.update, np.int64) for noted in every]
        return {
            "update": np.concatenate(updates),
            "episode": _bytes(self._memory.episode.rows[numbers]),
            "loss": np.concatenate([noted.loss for noted in every]),
        }

    def restore(self, tensors: Mapping[str, np.ndarray], view: View) -> None:
        """Inverse of `tensors` before anything is noted, once the same snapshot is bound."""
        ids = self._memory.episode.rows[: view.episodes].tolist()
        number = {episode: i for i, episode in enumerate(ids)}
        found = [number.get(bytes(row).hex(), -1) for row in tensors["episode"]]
        episode, update = np.array(found, np.int64), tensors["update"]
        here = episode >= 0
        self._reserve(view.episodes)
        applied = here & (update < 0)
        self._loss[episode[applied]] = tensors["loss"][applied]
        self._noted = [
            _Noted(int(n), episode[update == n], tensors["loss"][update == n])
            for n in sorted(set(update[update >= 0].tolist()))
        ]

    def _apply(self, noted: _Noted) -> None:
        """Move each episode's loss towards the mean of its rows; the first time, all the way."""
        episodes, row = np.unique(noted.episode[noted.episode >= 0], return_inverse=True)
        losses = noted.loss[noted.episode >= 0]
        if not len(episodes):
            return
        self._reserve(int(episodes[-1]) + 1)
        mean = np.bincount(row, losses) / np.bincount(row)
        before = self._loss[episodes]
        step = np.where(np.isnan(before), mean, before + RATE * (mean - before))
        self._loss[episodes] = step

    def _losses(self, view: View) -> np.ndarray:
        """[episodes] float32, NaN where none is known or the episode has left."""
        self._reserve(view.episodes)
        loss = self._loss[: view.episodes]
        if view.gone:
            loss = loss.copy()
            loss[[number for number in view.gone if number < view.episodes]] = np.nan
        return loss

    def _reserve(self, episodes: int) -> None:
        if episodes > len(self._loss):
            fresh = np.full(2 * episodes - len(self._loss), np.nan, np.float32)
            self._loss = np.concatenate([self._loss, fresh])


def _without(noted: _Noted, gone: Set[int]) -> _Noted:
    """What was noted of the episodes that have not left."""
    stays = ~np.isin(noted.episode, list(gone))
    return _Noted(noted.update, noted.episode[stays], noted.loss[stays])


def _bytes(ids: np.ndarray) -> np.ndarray:
    """[n] ids of 32 hex digits to [n, 16] uint8."""
    return np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, 16)
