"""Which windows a learner update sees, and the batch they make: pure functions of a memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lwd.episode.windows import chunks, windows
from lwd.errors import ConfigError, unknown
from lwd.replay.batch import Batch
from lwd.replay.memory import PARTS, Memory, View

TRIES = 8
"""Ticks that are proposed at once for a row whose odds may not be met."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How ticks are drawn inside each part of a mixture; the parts' shares stay what they are."""

    task_balanced: bool = False
    """Draw a task uniformly from those that the part has, then its ticks; else only ticks."""
    loss_adaptive: float = 0.0
    """How much likelier ticks of episodes with a high TD loss are: an exponent, 0 is not at all.
    See `lwd.replay.priorities`, also for the bias that comes with it."""


EVEN = Sampling()

NStep = int | Mapping[str, int]
"""Chunks in a TD window, for all tasks or by task; tasks that are not named use 1 (-B2)."""


def shares(
    mixture: Mapping[str, float], available: Mapping[str, int], batch: int
) -> dict[str, int]:
    """Rows of each part: its weight times `batch`, rounded so that they add up to `batch`.

    A part without any data (the online buffer, at first) leaves its share to the others. The
    largest remainder is rounded up first, ties in the order of names: every host agrees.
    """
    for part, weight in mixture.items():
        if part not in PARTS:
            raise unknown("replay part", part, PARTS)
        if not weight >= 0:
            raise ConfigError(f"Mixture weight of {part} is {weight}; it must not be negative.")
    weights = {part: mixture[part] for part in sorted(mixture) if available.get(part, 0)}
    total = sum(weights.values())
    if total == 0:
        raise ConfigError(
            f"Nothing to sample: mixture {dict(mixture)}, start ticks in the snapshot "
            f"{dict(available)}. Wait for episodes, or name a part that has some."
        )
    exact = {part: batch * weight / total for part, weight in weights.items()}
    rows = {part: int(share) for part, share in exact.items()}
    by_remainder = sorted(exact, key=lambda part: (rows[part] - exact[part], part))
    for part in by_remainder[: batch - sum(rows.values())]:
        rows[part] += 1
    return rows


def draw(
    memory: Memory,
    view: View,
    mixture: Mapping[str, float],
    batch: int,
    *,
    seed: tuple[int, int],
    task_balanced: bool = False,
    odds: np.ndarray | None = None,
) -> np.ndarray:
    """[batch] start rows for (seed, update): the same for the same view, whenever and wherever.

    Ticks are uniform within a part or, if `task_balanced`, uniform within a task drawn uniformly
    from those that the part has. `odds` [episodes] in (0, 1] make those of some episodes rarer.
    """
    available: dict[str, int] = dict.fromkeys(PARTS, 0)
    for (part, _), ticks in view.ticks.items():
        available[part] += ticks
    random = np.random.default_rng(seed)
    rows = []
    for part, count in shares(mixture, available, batch).items():
        pools = Pools(memory, view, part)
        if odds is None:
            rows.append(pools.rows(*pools.propose(random, task_balanced, (count,))))
        else:
            rows.append(pools.accepted(random, task_balanced, count, odds))
    return random.permutation(np.concatenate(rows))


class Pools:
    """The start ticks of a part, one pool for each of its tasks."""

    def __init__(self, memory: Memory, view: View, part: str) -> None:
        self._memory = memory
        names = sorted(pool for pool in view.ticks if pool[0] == part)
        self._starts = [
            memory.starts(pool, view.ticks[pool], view.holes.get(pool, ())) for pool in names
        ]
        self._sizes = np.array([view.ticks[pool] for pool in names])
        self._ends = np.cumsum(self._sizes)

    def propose(
        self, random: np.random.Generator, task_balanced: bool, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pools, and places in them."""
        if task_balanced:
            pool = random.integers(len(self._sizes), size=shape)
            return pool, random.integers(self._sizes[pool])
        flat = random.integers(self._sizes.sum(), size=shape)
        pool = np.searchsorted(self._ends, flat, side="right")
        return pool, flat - (self._ends - self._sizes)[pool]

    def rows(self, pool: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Start rows of places in pools."""
        rows = np.empty(place.shape, np.int64)
        for number, starts in enumerate(self._starts):
            mine = pool == number
            rows[mine] = starts[place[mine]]
        return rows

    def accepted(
        self, random: np.random.Generator, task_balanced: bool, count: int, odds: np.ndarray
    ) -> np.ndarray:
        """[count] rows, proposed until their odds are met; a row whose task was drawn keeps it."""
        rows, unmet = np.empty(count, np.int64), np.arange(count)
        drawn = self.propose(random, task_balanced, (count,))[0]
        while len(unmet):
            shape = (TRIES, len(unmet))
            if task_balanced:
                pool = np.broadcast_to(drawn[unmet], shape)
                place = random.integers(self._sizes[pool])
            else:
                pool, place = self.propose(random, False, shape)
            proposed = self.rows(pool, place)
            met = random.random(shape) < odds[self._memory.owner.rows[proposed]]
            rows[unmet] = proposed[met.argmax(axis=0), np.arange(len(unmet))]
            unmet = unmet[~met.any(axis=0)]
        return rows


def gather(
    memory: Memory, start: np.ndarray, *, horizon: int, n_step: NStep, discount: float
) -> Batch:
    """The transitions (s_t, a_t, R_t, s_t+nH) of Eq. 19 that start at rows `start`, unseen."""
    owner = memory.owner.rows[start]
    first, last = memory.first.rows[owner], memory.last.rows[owner]
    found = windows(
        start,
        last,
        memory.to_go.rows,
        memory.open_end.rows[owner],
        ticks=horizon * steps(n_step, memory.task.rows[owner]),
        discount=discount,
    )
    action, mask = chunks(memory.action.rows, start, last, horizon)
    return Batch(
        state=memory.state.rows[start],
        instruction=memory.instruction.rows[owner],
        action=action,
        action_mask=mask,
        returns=found.returns,
        discount=found.discount,
        next_state=memory.state.rows[found.end],
        human=memory.human.rows[start],
        episode=memory.episode.rows[owner],
        tick=start - first,
        next_tick=found.end - first,
        window=start,
    )


def steps(n_step: NStep, tasks: np.ndarray) -> np.ndarray | int:
    """Chunks in the window of each row."""
    if isinstance(n_step, int):
        return n_step
    return np.array([n_step.get(task, 1) for task in tasks])
