"""Episodes laid end to end in growing arrays, and which ticks a window may start from.

Everything is append-only and appended in snapshot order, so the data of any earlier snapshot is a
prefix: a view of it is a handful of lengths. What leaves the data set, or comes again with other
labels, stays where it is and is a hole in later views. Every episode has T + 1 rows, one per state.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lwd.episode.types import Episode, Kind, Outcome, Source
from lwd.episode.windows import is_open, rewards_to_go
from lwd.errors import EpisodeError

PARTS = (
    "demo",
    "rollout",
    "play",
    "offline",
    "online",
    "human",
    "success",
    "corrected",
    "experience",
)
"""What a mixture may name: the kinds; `offline`, which is B_off; `human`, every tick at which an
operator had taken over; and what baselines select. `success` is all of the online episodes that
succeeded, `corrected` these and the `human` ticks of the other ones, `experience` everything but
play. `demo` is what to imitate: chunks without a demonstrator's slips, which `offline` and
`experience` have."""
OFFLINE = (Kind.DEMO, Kind.ROLLOUT, Kind.PLAY)

Pool = tuple[str, str]
"""A part and a task."""
Span = tuple[int, int]


class Blocks(NamedTuple):
    """The starts of a part by episode, pool after pool: those of block k are
    starts[pool][first[k] : first[k] + ticks[k]]."""

    starts: tuple[np.ndarray, ...]
    """Rows of each pool, also those of episodes that have left."""
    last: np.ndarray
    """[pools] the last block of each."""
    episode: np.ndarray
    """[blocks] numbers."""
    first: np.ndarray
    """[blocks]."""
    ticks: np.ndarray
    """[blocks], 0 where the episode has left."""


class Growing:
    """Array that grows at its end in amortised constant time."""

    def __init__(self, shape: tuple[int, ...], dtype: type | np.dtype):
        self._data = np.empty((1024, *shape), dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def rows(self) -> np.ndarray:
        """View of all rows."""
        return self._data[: self._size]

    def extend(self, rows: np.ndarray) -> None:
        """Append rows, all of them or none."""
        size = self._size + len(rows)
        if size > len(self._data):
            data = np.empty(
                (max(size, 2 * len(self._data)), *self._data.shape[1:]), self._data.dtype
            )
            data[: self._size] = self.rows
            self._data = data
        self._data[self._size : size] = rows
        self._size = size


@dataclass(frozen=True, kw_only=True)
class View:
    """How much of a memory belongs to a snapshot."""

    episodes: int
    """All that are loaded, also those without any start tick and those that have left again."""
    ticks: dict[Pool, int]
    """Start ticks of each pool; pools without any are absent."""
    counts: dict[Pool, int]
    """Episodes of each pool."""
    holes: Mapping[Pool, tuple[Span, ...]] = field(default_factory=dict)
    """Parts of a pool's starts that have left, in the order in which they left."""
    gone: frozenset[int] = frozenset()
    """Which of the episodes have left."""


EMPTY = View(episodes=0, ticks={}, counts={})


class Memory:
    """Loaded episodes. `single_source` leaves out chunks that cross the border of an intervention:
    of these only a part is one policy's execution (IV-C). With `cameras` a window starts only where
    all of them have an image, at its start and wherever one of its chunks ends."""

    def __init__(
        self,
        *,
        horizon: int,
        discount: float,
        single_source: bool = False,
        bootstrap_timeouts: bool = False,
        cameras: tuple[str, ...] = (),
    ):
        self._horizon = horizon
        self._discount = discount
        self._single_source = single_source
        self._bootstrap_timeouts = bootstrap_timeouts
        self._starts: dict[Pool, Growing] = defaultdict(lambda: Growing((), np.int64))
        self._counts: dict[Pool, int] = defaultdict(int)
        self._size: tuple[int, int] | None = None
        self._spans: list[dict[Pool, Span]] = []
        self._blocks: dict[Pool, Growing] = defaultdict(lambda: Growing((2,), np.int64))
        self._parts: dict[str, tuple[View, Blocks]] = {}
        self._holes: dict[Pool, tuple[Span, ...]] = {}
        self._gone: frozenset[int] = frozenset()
        self._index: dict[str, int] = {}
        self._live: dict[Pool, tuple[tuple[int, tuple[Span, ...]], np.ndarray]] = {}
        self._cameras = cameras
        self.state = Growing((0,), np.float32)
        self.action = Growing((0,), np.float32)
        self.to_go = Growing((), np.float64)
        self.human = Growing((), np.bool_)
        self.owner = Growing((), np.int32)
        self.first = Growing((), np.int64)
        self.last = Growing((), np.int64)
        self.open_end = Growing((), np.bool_)
        self.episode = Growing((), np.object_)
        self.instruction = Growing((), np.object_)
        self.task = Growing((), np.object_)
        self.policy_version = Growing((), np.int64)
        self.rate_hz = Growing((), np.float64)

    def __len__(self) -> int:
        return len(self.first)

    def append(self, episode: Episode) -> None:
        """Add an episode at the end; EpisodeError if its vectors do not fit those before.

        An older copy of it, with other labels, leaves.
        """
        self._fit(episode)
        self.remove(episode.header.episode_id)
        self._index[episode.header.episode_id] = len(self)
        first, ticks, header = len(self.owner), episode.ticks, episode.header
        self.owner.extend(np.full(ticks + 1, len(self), np.int32))
        self.state.extend(episode.state)
        self.action.extend(episode.action)
        self.action.extend(episode.action[-1:])
        self.human.extend(np.append(episode.source == Source.HUMAN, False))
        self.to_go.extend(rewards_to_go(episode.reward, self._discount))
        self.policy_version.extend(np.array([header.policy_version]))
        self.rate_hz.extend(np.array([header.rate_hz]))
        self.first.extend(np.array([first]))
        self.last.extend(np.array([first + ticks]))
        self.open_end.extend(
            np.array([is_open(header, bootstrap_timeouts=self._bootstrap_timeouts)])
        )
        for column, text in (
            (self.episode, header.episode_id),
            (self.instruction, header.instruction),
            (self.task, header.task),
        ):
            column.extend(np.array([text], np.object_))
        self._add_starts(episode, first)

    def remove(self, episode_id: str) -> None:
        """Let an episode leave the views that are made from now on; a stranger is fine."""
        index = self._index.pop(episode_id, None)
        if index is None:
            return
        self._gone |= {index}
        for pool, (start, end) in self._spans[index].items():
            self._counts[pool] -= 1
            if end > start:
                self._holes[pool] = (*self._holes.get(pool, ()), (start, end))

    def view(self) -> View:
        """All that is loaded now and has not left."""
        live = {pool: len(rows) - _length(self._holes, pool) for pool, rows in self._starts.items()}
        return View(
            episodes=len(self),
            ticks={pool: ticks for pool, ticks in live.items() if ticks},
            counts={pool: count for pool, count in self._counts.items() if count},
            holes=dict(self._holes),
            gone=self._gone,
        )

    def starts(self, pool: Pool, size: int, holes: tuple[Span, ...] = ()) -> np.ndarray:
        """The first `size` rows from which a window of the pool may start, without the holes."""
        if not holes:
            return self._starts[pool].rows[:size]
        key, live = self._live.get(pool, ((0, ()), np.empty(0, np.int64)))
        if key != (size, holes):
            whole = self._starts[pool].rows[: size + _length({pool: holes}, pool)]
            stays = np.ones(len(whole), bool)
            for start, end in holes:
                stays[start:end] = False
            live = whole[stays]
            self._live[pool] = ((size, holes), live)
        return live

    def blocks(self, part: str, view: View) -> Blocks:
        """The starts of a part in a view, by episode; made once for a view."""
        known = self._parts.get(part)
        if known is None or known[0] is not view:
            pools = sorted(pool for pool in view.ticks if pool[0] == part)
            known = self._parts[part] = (view, self._blocks_of(pools, view))
        return known[1]

    def _blocks_of(self, pools: Sequence[Pool], view: View) -> Blocks:
        starts, found = [], []
        for pool in pools:
            size = view.ticks[pool] + _length(view.holes, pool)
            starts.append(self._starts[pool].rows[:size])
            known = self._blocks[pool].rows
            episode, first = known[: np.searchsorted(known[:, 1], size)].T
            ticks = np.diff(first, append=size) * ~np.isin(episode, list(view.gone))
            found.append((episode, first, ticks))
        last = np.cumsum([len(block[0]) for block in found]) - 1
        return Blocks(tuple(starts), last, *map(np.concatenate, zip(*found, strict=True)))

    def _fit(self, episode: Episode) -> None:
        size = (episode.state.shape[1], episode.action.shape[1])
        if self._size is None:
            self._size = size
            self.state = Growing(size[:1], np.float32)
            self.action = Growing(size[1:], np.float32)
        if size != self._size:
            raise EpisodeError(
                f"Episode {episode.header.episode_id} of {episode.header.robot} has {size[0]} "
                f"state and {size[1]} action numbers; the data set has {self._size[0]} and "
                f"{self._size[1]}. Robots that share a learner share one layout."
            )

    def _add_starts(self, episode: Episode, first: int) -> None:
        human = episode.source == Source.HUMAN
        usable = np.ones(episode.ticks, bool)
        if self._single_source:
            usable = unmixed(human, self._horizon)
        if self._cameras:
            usable = usable & self._seen(episode)
        rows, taken_over = first + np.flatnonzero(usable), first + np.flatnonzero(usable & human)
        kind, task = episode.header.kind, episode.header.task
        parts = {str(kind): rows, "human": taken_over}
        if kind is Kind.DEMO:
            slip = episode.source != Source.EXPERT
            parts["demo"] = first + np.flatnonzero(usable & ~slip & unmixed(slip, self._horizon))
        if kind in OFFLINE:
            parts["offline"] = rows
        if kind is Kind.ONLINE:
            succeeded = episode.header.outcome is Outcome.SUCCESS
            parts["success"] = rows if succeeded else rows[:0]
            parts["corrected"] = rows if succeeded else taken_over
        if kind is not Kind.PLAY:
            parts["experience"] = rows
        self._spans.append({})
        for part, starts in parts.items():
            # An episode of a kind counts even if no window may start in it: others wait for it.
            if part == "human" and not len(starts):
                continue
            pool = (part, task)
            self._counts[pool] += 1
            before = len(self._starts[pool])
            self._starts[pool].extend(starts)
            self._spans[-1][pool] = (before, before + len(starts))
            if len(starts):
                self._blocks[pool].extend(np.array([[len(self) - 1, before]]))

    def _seen(self, episode: Episode) -> np.ndarray:
        """[ticks] bool: whether a window from each tick finds an image wherever it needs one."""
        none, ticks = (None,) * (episode.ticks + 1), episode.ticks
        kept = [episode.images.get(camera, none) for camera in self._cameras]
        seen = np.ones(ticks + 1, bool)
        for images in kept:
            seen &= [image is not None for image in images]
        # Nobody asks for the value of a state after the end: recordings of others have no image.
        seen[-1] |= not is_open(episode.header, bootstrap_timeouts=self._bootstrap_timeouts)
        for tick in range(ticks - 1, -1, -1):
            seen[tick] &= seen[min(tick + self._horizon, ticks)]
        return seen[:-1]


def unmixed(human: np.ndarray, horizon: int) -> np.ndarray:
    """[ticks] bool: whether the chunk from each tick is all human or has no human tick at all."""
    until = np.minimum(np.arange(len(human)) + horizon, len(human))
    before = np.concatenate([[0], np.cumsum(human)])
    count = before[until] - before[:-1]
    return (count == 0) | (count == until - np.arange(len(human)))


def _length(holes: Mapping[Pool, tuple[Span, ...]], pool: Pool) -> int:
    """Start ticks of a pool that have left."""
    return sum(end - start for start, end in holes.get(pool, ()))
