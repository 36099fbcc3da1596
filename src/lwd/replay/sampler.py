"""Which windows a learner update sees, and the batch they make: pure functions of a memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lwd.episode.windows import chunks, windows
from lwd.errors import ConfigError, unknown
from lwd.replay.batch import Batch
from lwd.replay.memory import PARTS, Blocks, Memory, Pool, View


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
        if odds is None:
            pools = sorted(pool for pool in view.ticks if pool[0] == part)
            rows.append(_even(memory, view, pools, random, count, task_balanced=task_balanced))
        else:
            blocks = memory.blocks(part, view)
            rows.append(_weighted(blocks, odds, random, count, task_balanced=task_balanced))
    return random.permutation(np.concatenate(rows))


def _even(
    memory: Memory,
    view: View,
    pools: Sequence[Pool],
    random: np.random.Generator,
    count: int,
    *,
    task_balanced: bool,
) -> np.ndarray:
    """[count] start rows, each tick as likely as any other of the part, or of its task."""
    sizes = np.array([view.ticks[pool] for pool in pools])
    if task_balanced:
        pool = random.integers(len(pools), size=count)
        place = random.integers(sizes[pool])
    else:
        ends = np.cumsum(sizes)
        flat = random.integers(ends[-1], size=count)
        pool = np.searchsorted(ends, flat, side="right")
        place = flat - (ends - sizes)[pool]
    holes = [view.holes.get(name, ()) for name in pools]
    starts = [memory.starts(*of) for of in zip(pools, sizes.tolist(), holes, strict=True)]
    return _rows(starts, pool, place)


def _weighted(
    blocks: Blocks,
    odds: np.ndarray,
    random: np.random.Generator,
    count: int,
    *,
    task_balanced: bool,
) -> np.ndarray:
    """[count] start rows, each tick as likely as the odds [episodes] of its episode say.

    One number for each row finds its block where the sums of weights pass it, and its tick by how
    far into the block it is.
    """
    odd = odds[blocks.episode]
    weight = blocks.ticks * odd
    sums = np.cumsum(weight)
    high = sums[blocks.last] if task_balanced else sums[-1:]
    low = np.concatenate([[0.0], high[:-1]])
    pool = random.integers(len(high), size=count)
    aim = low[pool] + random.random(count) * (high - low)[pool]
    aim = np.minimum(aim, np.nextafter(high, 0.0)[pool])
    block = np.searchsorted(sums, aim, side="right")
    into = (aim - (sums - weight)[block]) / odd[block]
    place = blocks.first[block] + into.clip(0, blocks.ticks[block] - 1).astype(np.int64)
    return _rows(blocks.starts, np.searchsorted(blocks.last, block), place)


def _rows(starts: Sequence[np.ndarray], pool: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Rows at places in pools."""
    rows = np.empty(place.shape, np.int64)
    for number, of_pool in enumerate(starts):
        mine = pool == number
        rows[mine] = of_pool[place[mine]]
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
