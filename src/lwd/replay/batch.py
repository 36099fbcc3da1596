"""What a learner update eats."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Chunked transitions (s_t, a_t, R_t, s_{t+nH}) of Eq. 19; one row per sample.

    Values are in the robot's units; the learner normalises. `state` and `next_state` are
    [batch, state] float32, `instruction` [batch] Python strings, `action` [batch, horizon, action]
    float32, `action_mask` [batch, horizon] bool (False where the episode ended inside the chunk),
    `returns` [batch] float32 = sum of discounted rewards in the window, `discount` [batch]
    float32 = gamma^(ticks to the bootstrap), 0 where nothing is bootstrapped. `human` [batch] bool
    says where an operator had taken over at the start. `episode` [batch] ids and `tick` [batch]
    start ticks say where each row came from, and so does `window` [batch], its number in the order
    of the data set, the same in every snapshot and on every host; `next_tick` [batch] is the tick
    of `next_state`. `images` and `next_images` are what the cameras that the reader was asked for
    saw at the two ticks, by camera: [batch, size, size, 3] uint8 RGB of an `image_size`, else
    [batch] arrays of the size that was recorded.
    """

    state: np.ndarray
    instruction: np.ndarray
    action: np.ndarray
    action_mask: np.ndarray
    returns: np.ndarray
    discount: np.ndarray
    next_state: np.ndarray
    human: np.ndarray
    episode: np.ndarray
    tick: np.ndarray
    next_tick: np.ndarray
    window: np.ndarray
    images: Mapping[str, np.ndarray] | None = None
    next_images: Mapping[str, np.ndarray] | None = None


class PartSize(NamedTuple):
    """What the bound snapshot has of a part."""

    episodes: int
    ticks: int
    """Ticks from which a window may start."""
    tasks: dict[str, int]
    """Ticks by task."""


class Chunks(NamedTuple):
    """Windows in robot units: what normalisation statistics are computed from."""

    state: np.ndarray
    """[batch, state] float32."""
    action: np.ndarray
    """[batch, horizon, action] float32, the last action repeated where the episode ended."""
    mask: np.ndarray
    """[batch, horizon] bool, False there."""
