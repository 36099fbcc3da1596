"""Which windows a learner update sees, and the batch they make: pure functions of a memory."""

from collections.abc import Mapping

import numpy as np

from lwd.episode.windows import chunks, windows
from lwd.errors import ConfigError, unknown
from lwd.replay.batch import Batch
from lwd.replay.memory import PARTS, Memory, View

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
) -> np.ndarray:
    """[batch] start rows for (seed, update): the same for the same view, whenever and wherever.

    Ticks are uniform within a part or, if `task_balanced`, uniform within a task drawn uniformly
    from those that the part has.
    """
    available: dict[str, int] = dict.fromkeys(PARTS, 0)
    for (part, _), ticks in view.ticks.items():
        available[part] += ticks
    random = np.random.default_rng(seed)
    rows = [
        _draw_part(memory, view, part, count, random, task_balanced)
        for part, count in shares(mixture, available, batch).items()
    ]
    return random.permutation(np.concatenate(rows))


def _draw_part(
    memory: Memory,
    view: View,
    part: str,
    count: int,
    random: np.random.Generator,
    task_balanced: bool,
) -> np.ndarray:
    pools = sorted(pool for pool in view.ticks if pool[0] == part)
    sizes = np.array([view.ticks[pool] for pool in pools])
    if task_balanced:
        pool_of = random.integers(len(pools), size=count)
        index = random.integers(sizes[pool_of])
    else:
        flat = random.integers(sizes.sum(), size=count)
        ends = np.cumsum(sizes)
        pool_of = np.searchsorted(ends, flat, side="right")
        index = flat - (ends - sizes)[pool_of]
    rows = np.empty(count, np.int64)
    for number, pool in enumerate(pools):
        mine = pool_of == number
        rows[mine] = memory.starts(pool, view.ticks[pool], view.holes.get(pool, ()))[index[mine]]
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
