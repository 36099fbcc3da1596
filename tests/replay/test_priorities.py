"""Loss-adaptive draws: likelier where the loss is high, the same after a resume, on all hosts."""

import numpy as np
import pytest

from lwd.errors import ConfigError
from lwd.replay.memory import Memory
from lwd.replay.priorities import LAG, LIMIT, RATE, Priorities
from lwd.replay.sampler import Sampling, draw
from sample_episodes import make_episode

ONLINE = {"online": 1.0}
BOTH = {"offline": 0.5, "online": 0.5}
ADAPTIVE = Sampling(loss_adaptive=1.0)


def memory_of(*ticks: int, **header) -> Memory:
    memory = Memory(horizon=5, discount=0.9)
    for seed, length in enumerate(ticks):
        memory.append(make_episode(length, seed=seed, **header))
    return memory


def told(memory: Memory, *losses: float) -> Priorities:
    """One loss for each episode, in effect from update `LAG` on."""
    priorities = Priorities(memory)
    priorities.note(0, np.arange(len(losses)), np.array(losses))
    return priorities


def odds(priorities: Priorities, memory: Memory, *, update: int = 99, strength: float = 1.0):
    return priorities.odds(update, memory.view(), strength)


def test_odds_by_hand() -> None:
    """Mean 3: ratios 1/3, 1 and 5/3; the fourth episode was not drawn yet."""
    memory = memory_of(5, 5, 5, 5)
    priorities = told(memory, 1.0, 3.0, 5.0)
    np.testing.assert_allclose(odds(priorities, memory), [1 / 12, 1 / 4, 5 / 12, 1])
    half = odds(priorities, memory, strength=0.5)
    np.testing.assert_allclose(half, np.sqrt([1 / 12, 1 / 4, 5 / 12, 1]))
    assert odds(priorities, memory, strength=0.0) is None
    memory.remove(memory.episode.rows[2])  # mean 2
    np.testing.assert_allclose(odds(priorities, memory)[:2], [1 / 8, 3 / 8])


def test_odds_stay_in_their_bounds() -> None:
    memory = memory_of(5, 5, 5)
    found = odds(told(memory, 0.0, 1e9, 1.0), memory)
    assert found.min() == LIMIT**-2
    assert found.max() < 1
    assert odds(told(memory, 0.0, 0.0, 0.0), memory) is None
    assert odds(Priorities(memory), memory) is None


def test_a_loss_counts_two_updates_later_and_moves_slowly() -> None:
    memory = memory_of(5, 5)
    priorities = told(memory, 1.0, 1.0)
    priorities.note(1, np.array([0, 0]), np.array([2.0, 4.0]))
    assert odds(priorities, memory, update=LAG - 1) is None
    before, after = (odds(priorities, memory, update=LAG + n) for n in (0, 1))
    np.testing.assert_allclose(before, [1 / LIMIT, 1 / LIMIT])
    moved = 1 + RATE * (3 - 1)
    expected = np.array([moved, 1.0]) / np.mean([moved, 1.0]) / LIMIT
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_as_many_losses_as_rows_are_needed() -> None:
    with pytest.raises(ConfigError, match="one for each row of the global batch"):
        Priorities(memory_of(5)).note(0, np.zeros(4, int), np.zeros(2))


def shares_of(memory: Memory, given: np.ndarray, **options) -> np.ndarray:
    """Share of the draws by episode."""
    rows = draw(memory, memory.view(), ONLINE, 40_000, seed=(0, 0), odds=given, **options)
    return np.bincount(memory.owner.rows[rows], minlength=len(memory)) / len(rows)


def test_draws_are_in_proportion_to_ticks_and_odds() -> None:
    memory = memory_of(10, 20, 30)
    found = shares_of(memory, np.array([1.0, 0.5, 1 / 16]))
    wanted = np.array([10, 10, 30 / 16])
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=0.01)


def test_ticks_of_an_episode_stay_even() -> None:
    memory = memory_of(10, 10)
    rows = draw(memory, memory.view(), ONLINE, 20_000, seed=(0, 0), odds=np.array([1.0, 0.2]))
    counts = np.bincount(rows, minlength=22)[:10]
    assert counts.min() > 0.9 * counts.mean()


def test_tasks_and_parts_keep_their_shares() -> None:
    """The odds of one task, and of one part, are low throughout."""
    memory = Memory(horizon=5, discount=0.9)
    for seed, (kind, task) in enumerate(
        [("demo", "tea"), ("online", "tea"), ("online", "juice"), ("online", "juice")]
    ):
        memory.append(make_episode(20 + 50 * seed, seed=seed, kind=kind, task=task))
    given = np.array([1 / 16, 1 / 16, 1.0, 0.5])
    rows = draw(memory, memory.view(), BOTH, 4000, seed=(0, 0), task_balanced=True, odds=given)
    found = np.bincount(memory.owner.rows[rows]) / len(rows)
    assert found[0] == 0.5
    assert found[1] == pytest.approx(0.25, abs=0.02)
    assert found[2] / found[3] == pytest.approx(2 * 120 / 170, rel=0.1)


def test_episodes_that_left_are_not_drawn_whatever_their_odds() -> None:
    """Nor is one of the snapshot after, and a view stays what it was."""
    memory = memory_of(10, 20, 30, 40)
    before, names = memory.view(), memory.episode.rows.tolist()
    memory.remove(names[0])
    memory.remove(names[2])
    view, given = memory.view(), np.array([1.0, 0.5, 1.0, 0.25, 1.0])
    memory.append(make_episode(50, seed=9))
    for of, left in ((before, {0, 1, 2, 3}), (view, {1, 3})):
        for balanced in (False, True):
            rows = draw(memory, of, ONLINE, 4000, seed=(0, 0), task_balanced=balanced, odds=given)
            counts = np.bincount(memory.owner.rows[rows], minlength=5)
            assert set(np.flatnonzero(counts).tolist()) == left
            ends = memory.first.rows[memory.owner.rows[rows]]
            assert (rows - ends < memory.last.rows[memory.owner.rows[rows]] - ends).all()
    assert counts[3] / counts[1] == pytest.approx(1.0, rel=0.15)


def test_equal_odds_are_even_draws() -> None:
    memory = memory_of(10, 30)
    np.testing.assert_allclose(shares_of(memory, np.full(2, 0.25)), [0.25, 0.75], atol=0.01)


def feed(reader, updates: range, loss_of) -> list[list[int]]:
    """Draws and feeds losses back as the learner does: each one after the next draw."""
    windows = []
    for update in updates:
        batch = reader.sample(update, BOTH, 32, sampling=ADAPTIVE)
        windows.append(batch.window.tolist())
        if update > updates[0]:
            reader.feedback(update - 1, loss_of(update - 1))
    reader.feedback(updates[-1], loss_of(updates[-1]))
    return windows


def losses(update: int) -> np.ndarray:
    return np.random.default_rng(update).exponential(size=32).astype(np.float32) ** 2


def opened(read, cache: str = "cache"):
    reader = read(cache, seed=3)
    reader.sync()
    return reader


def test_a_resumed_reader_draws_what_the_first_one_would_have(plane, read, fleet) -> None:
    plane.commit(*fleet)
    whole = opened(read)
    expected = feed(whole, range(20), losses)
    assert expected != feed(opened(read, "even"), range(20), lambda update: np.ones(32))
    for stopped_at in (1, 2, 7):
        first = opened(read, f"first {stopped_at}")
        feed(first, range(stopped_at), losses)
        saved = first.priorities()
        resumed = opened(read, f"second {stopped_at}")
        resumed.restore_priorities(saved)
        assert feed(resumed, range(stopped_at, 20), losses) == expected[stopped_at:]


def test_priorities_follow_episodes_that_leave_and_come_again(plane, read, fleet) -> None:
    """A relabelled episode is a new one to the learner; what is saved is by id all the same."""
    plane.commit(*fleet)
    first = opened(read)
    feed(first, range(5), losses)
    plane.catalog.amend(
        fleet[0].header.episode_id, "outcome", '"failure"', author="me", reason="seen"
    )
    plane.snapshot()
    first.sync()
    for start in (5, 10):  # at first losses of its old self have not taken effect yet
        resumed = opened(read, f"resumed {start}")
        resumed.restore_priorities(first.priorities())
        numbers = range(start, start + 5)
        assert feed(resumed, numbers, losses) == feed(first, numbers, losses)


def test_hosts_together_draw_the_one_host_batch(plane, read, fleet) -> None:
    plane.commit(*fleet)
    alone = opened(read)
    pair = [read(f"cache-{host}", host=host, hosts=2, seed=3) for host in range(2)]
    for reader in pair:
        reader.sync()
    whole = feed(alone, range(8), losses)
    halves = [feed(reader, range(8), losses) for reader in pair]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


def test_losses_of_a_draw_that_was_not_made_are_an_error(plane, read, fleet) -> None:
    plane.commit(*fleet)
    with pytest.raises(ConfigError, match="Update 3 was not drawn"):
        opened(read).feedback(3, np.zeros(32))


def test_a_surprising_episode_is_drawn_more(plane, read, fleet) -> None:
    plane.commit(*fleet)
    reader = opened(read)
    surprising, counts = fleet[3].header.episode_id, []
    for update in range(300):
        batch = reader.sample(update, ONLINE, 32, sampling=ADAPTIVE)
        mine = batch.episode == surprising
        counts.append(mine.mean())
        reader.feedback(update, np.where(mine, 10.0, 0.1))
    even = fleet[3].ticks / sum(e.ticks for e in fleet if e.header.kind == "online")
    assert np.mean(counts[:LAG]) == pytest.approx(even, abs=0.15)
    assert np.mean(counts[50:]) > 1.5 * even
