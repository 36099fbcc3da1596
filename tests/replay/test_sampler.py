"""Sampling: the right rows, in the right shares, the same every time."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwd.episode.types import Episode, Kind, Outcome, Source
from lwd.episode.windows import episode_windows
from lwd.errors import ConfigError, EpisodeError
from lwd.replay.memory import Growing, Memory, unmixed
from lwd.replay.sampler import draw, gather, shares
from sample_episodes import make_episode

HORIZON, DISCOUNT = 5, 0.9


def memory_of(*episodes: Episode, **options) -> Memory:
    memory = Memory(horizon=HORIZON, discount=DISCOUNT, **options)
    for episode in episodes:
        memory.append(episode)
    return memory


def fleet() -> list[Episode]:
    """Every kind and outcome, different lengths, three tasks."""
    kinds = [Kind.DEMO, Kind.ROLLOUT, Kind.PLAY, Kind.ONLINE]
    outcomes = list(Outcome)
    return [
        make_episode(
            ticks=3 + 4 * i,
            seed=i,
            kind=kinds[i % 4],
            outcome=outcomes[(i // 2) % 4],
            task=("tea", "juice", "shoes")[i % 3],
        )
        for i in range(12)
    ]


def test_growing_keeps_its_rows() -> None:
    grown = Growing((2,), np.float32)
    parts = [np.full((size, 2), size, np.float32) for size in (1, 1500, 7, 4000)]
    for part in parts:
        grown.extend(part)
    np.testing.assert_array_equal(grown.rows, np.concatenate(parts))
    assert len(grown) == 5508


@pytest.mark.parametrize("n_step", [1, 3, {"tea": 2, "juice": 4}])
def test_every_row_is_the_window_of_its_episode(n_step) -> None:
    """Each field of the batch, against the one-episode functions, for every start there is."""
    episodes = {e.header.episode_id: e for e in fleet()}
    memory = memory_of(*episodes.values())
    starts = [memory.starts(p, n) for p, n in memory.view().ticks.items() if p[0] != "human"]
    batch = gather(
        memory, np.concatenate(starts), horizon=HORIZON, n_step=n_step, discount=DISCOUNT
    )
    assert set(batch.episode) == set(episodes)
    for i, (episode_id, t) in enumerate(zip(batch.episode, batch.tick, strict=True)):
        episode = episodes[episode_id]
        task = episode.header.task
        n = n_step if isinstance(n_step, int) else n_step.get(task, 1)
        found = episode_windows(episode, horizon=HORIZON, n_step=n, discount=DISCOUNT)
        assert batch.returns[i] == pytest.approx(found.returns[t])
        assert batch.discount[i] == pytest.approx(found.discount[t])
        np.testing.assert_array_equal(batch.state[i], episode.state[t])
        np.testing.assert_array_equal(batch.next_state[i], episode.state[found.end[t]])
        assert batch.next_tick[i] == found.end[t]
        ticks = range(t, t + HORIZON)
        expected = [episode.action[min(k, episode.ticks - 1)] for k in ticks]
        np.testing.assert_array_equal(batch.action[i], expected)
        np.testing.assert_array_equal(batch.action_mask[i], [k < episode.ticks for k in ticks])
        assert batch.instruction[i] == episode.header.instruction


def test_batch_has_the_promised_types() -> None:
    memory = memory_of(*fleet())
    start = draw(memory, memory.view(), {"online": 1.0}, 16, seed=(0, 0))
    batch = gather(memory, start, horizon=HORIZON, n_step=1, discount=DISCOUNT)
    assert batch.state.shape == (16, 6)
    assert batch.action.shape == (16, HORIZON, 4)
    assert batch.action_mask.dtype == np.bool_
    for array in (batch.state, batch.action, batch.returns, batch.discount, batch.next_state):
        assert array.dtype == np.float32
    assert all(isinstance(text, str) for text in batch.instruction)


def parts_of(memory: Memory, starts: np.ndarray, episodes: list[Episode]) -> list[str]:
    kinds = {e.header.episode_id: str(e.header.kind) for e in episodes}
    return [kinds[i] for i in memory.episode.rows[memory.owner.rows[starts]]]


def test_mixture_is_exact_and_shuffled() -> None:
    episodes = fleet()
    memory = memory_of(*episodes)
    starts = draw(memory, memory.view(), {"offline": 1.0, "online": 1.0}, 256, seed=(3, 7))
    parts = parts_of(memory, starts, episodes)
    assert parts.count("online") == 128
    assert {"demo", "rollout", "play"} <= set(parts)
    assert 40 < parts[:128].count("online") < 88


def test_empty_part_leaves_its_share() -> None:
    episodes = [e for e in fleet() if e.header.kind is not Kind.ONLINE]
    memory = memory_of(*episodes)
    starts = draw(memory, memory.view(), {"offline": 1.0, "online": 1.0}, 32, seed=(0, 0))
    assert len(starts) == 32
    with pytest.raises(ConfigError, match="Nothing to sample"):
        draw(memory, memory.view(), {"online": 1.0}, 32, seed=(0, 0))


def test_shares_by_hand() -> None:
    full = {"demo": 9, "online": 9, "play": 9}
    assert shares({"demo": 1.0, "online": 1.0, "play": 1.0}, full, 8) == {
        "demo": 3,
        "online": 3,
        "play": 2,
    }
    assert shares({"demo": 0.7, "online": 0.3}, full, 10) == {"demo": 7, "online": 3}
    largest_remainder = {"demo": 2, "online": 1, "play": 1}  # of 2, 1.2 and 0.8
    assert shares({"demo": 0.5, "online": 0.3, "play": 0.2}, full, 4) == largest_remainder
    assert shares({"demo": 1.0, "online": 3.0}, {"demo": 9}, 4) == {"demo": 4}
    with pytest.raises(ConfigError, match=r"'onlin' is unknown\. Did you mean 'online'"):
        shares({"onlin": 1.0}, full, 4)
    with pytest.raises(ConfigError, match="must not be negative"):
        shares({"demo": -1.0}, full, 4)


@given(
    weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=4),
    batch=st.integers(1, 300),
)
@settings(max_examples=60, deadline=None)
def test_shares_add_up_and_are_near(weights: list[float], batch: int) -> None:
    mixture = dict(zip(("demo", "play", "online", "human"), weights, strict=False))
    given_shares = shares(mixture, dict.fromkeys(mixture, 1), batch)
    assert sum(given_shares.values()) == batch
    for part, weight in mixture.items():
        assert abs(given_shares[part] - batch * weight / sum(weights)) < 1


def test_same_seed_and_update_give_the_same_rows() -> None:
    memory = memory_of(*fleet())
    draws = [
        draw(memory, memory.view(), {"offline": 1.0, "online": 1.0}, 64, seed=seed).tolist()
        for seed in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert draws[0] == draws[1]
    assert len({tuple(rows) for rows in draws}) == 3


def test_earlier_view_is_not_changed_by_later_episodes() -> None:
    episodes = fleet()
    memory = memory_of(*episodes[:6])
    view = memory.view()
    before = draw(memory, view, {"offline": 1.0, "online": 1.0}, 64, seed=(0, 0))
    for episode in episodes[6:]:
        memory.append(episode)
    after = draw(memory, view, {"offline": 1.0, "online": 1.0}, 64, seed=(0, 0))
    np.testing.assert_array_equal(before, after)
    assert memory.owner.rows[after].max() < 6


def test_ticks_are_uniform_or_tasks_are() -> None:
    short = make_episode(ticks=10, task="tea")
    long = make_episode(ticks=990, task="juice")
    memory = memory_of(short, long)
    for balanced, expected in ((False, 0.01), (True, 0.5)):
        starts = draw(
            memory, memory.view(), {"online": 1.0}, 4000, seed=(0, 0), task_balanced=balanced
        )
        share = np.mean(memory.owner.rows[starts] == 0)
        assert share == pytest.approx(expected, abs=0.03)
        assert len(np.unique(starts[memory.owner.rows[starts] == 0])) == 10


def test_every_tick_can_start_a_window_and_the_last_state_cannot() -> None:
    episode = make_episode(ticks=12)
    memory = memory_of(episode, make_episode(ticks=3))
    starts = draw(memory, memory.view(), {"online": 1.0}, 2000, seed=(0, 0))
    assert sorted(set(starts.tolist())) == [*range(12), 13, 14, 15]


def test_human_part_is_what_the_operator_did() -> None:
    episode = make_episode(ticks=20)
    source = np.zeros(20, np.uint8)
    source[[4, 5, 11]] = Source.HUMAN
    memory = memory_of(replace(episode, source=source))
    starts = draw(memory, memory.view(), {"human": 1.0}, 100, seed=(0, 0))
    assert set(starts.tolist()) == {4, 5, 11}


def test_unmixed_by_hand() -> None:
    human = np.array([0, 0, 0, 1, 1, 0, 0, 1], bool)
    expected = [True, True, False, True, False, True, False, True]
    np.testing.assert_array_equal(unmixed(human, 2), expected)


def test_single_source_leaves_out_mixed_chunks() -> None:
    episode = make_episode(ticks=20)
    source = np.zeros(20, np.uint8)
    source[10:17] = Source.HUMAN
    memory = memory_of(replace(episode, source=source), single_source=True)
    assert [tick for _, tick in selected(memory, "online")] == [*range(6), 10, 11, 12, 17, 18, 19]
    assert [tick for _, tick in selected(memory, "human")] == [10, 11, 12]


def test_other_layouts_are_refused_whole() -> None:
    memory = memory_of(make_episode(ticks=5))
    with pytest.raises(EpisodeError, match="has 7 state and 4 action numbers; the data set has 6"):
        memory.append(make_episode(ticks=5, state=7))
    assert len(memory) == 1
    assert len(memory.owner) == len(memory.action) == 6


def test_slips_of_a_demonstrator_are_not_shown_but_count_as_experience() -> None:
    episode = make_episode(20, kind=Kind.DEMO)
    source = episode.source.copy()
    source[8:10] = Source.PLAY
    memory = Memory(horizon=5, discount=0.99)
    memory.append(replace(episode, source=source))
    view = memory.view()
    shown = memory.starts(("demo", "restocking"), view.ticks["demo", "restocking"])
    assert shown.tolist() == [0, 1, 2, 3, *range(10, 20)]
    assert view.ticks["offline", "restocking"] == 20
    assert view.counts["demo", "restocking"] == 1


def test_a_demonstration_that_is_all_slips_still_counts_as_an_episode() -> None:
    episode = make_episode(6, kind=Kind.DEMO)
    memory = Memory(horizon=5, discount=0.99)
    memory.append(replace(episode, source=np.full(6, Source.PLAY, np.uint8)))
    assert memory.view().counts["demo", "restocking"] == 1
    assert ("demo", "restocking") not in memory.view().ticks


def acted(outcome: Outcome, taken_over: list[int], *, seed: int, kind=Kind.ONLINE) -> Episode:
    episode = make_episode(10, kind=kind, outcome=outcome, seed=seed)
    source = np.zeros(10, np.uint8)
    source[taken_over] = Source.HUMAN
    return replace(episode, source=source)


def selected(memory: Memory, part: str) -> list[tuple[int, int]]:
    """(episode, tick) of all start ticks of a part."""
    rows = memory.starts((part, "restocking"), memory.view().ticks.get((part, "restocking"), 0))
    owner = memory.owner.rows[rows]
    return list(zip(owner.tolist(), (rows - memory.first.rows[owner]).tolist(), strict=True))


def test_starts_follow_episodes_that_come_again_as_long_as_before() -> None:
    first, second = acted(Outcome.SUCCESS, [], seed=0), acted(Outcome.SUCCESS, [], seed=1)
    memory, pool = memory_of(first, second), ("online", "restocking")
    for episode, left in ((first, {1, 2}), (second, {2, 3})):
        memory.append(episode)
        view = memory.view()
        rows = memory.starts(pool, view.ticks[pool], view.holes[pool])
        assert len(rows) == 20
        assert set(memory.owner.rows[rows].tolist()) == left


def test_what_of_deployment_is_worth_imitating() -> None:
    memory = memory_of(
        acted(Outcome.SUCCESS, [], seed=0),
        acted(Outcome.FAILURE, [3, 4], seed=1),
        acted(Outcome.SUCCESS, [7], seed=2),
        acted(Outcome.TIMEOUT, [], seed=3),
        acted(Outcome.SUCCESS, [], seed=4, kind=Kind.ROLLOUT),
    )
    whole = [[(episode, tick) for tick in range(10)] for episode in range(5)]
    assert selected(memory, "success") == whole[0] + whole[2]
    assert selected(memory, "human") == [(1, 3), (1, 4), (2, 7)]
    assert selected(memory, "corrected") == [*whole[0], (1, 3), (1, 4), *whole[2]]
    # Every online episode counts: the learner's pace follows the fleet, not its successes.
    counts = memory.view().counts
    assert counts["success", "restocking"] == counts["corrected", "restocking"] == 4


def test_experience_is_everything_but_play() -> None:
    kinds = [Kind.DEMO, Kind.ROLLOUT, Kind.PLAY, Kind.ONLINE]
    memory = memory_of(*[make_episode(4, kind=kind, seed=i) for i, kind in enumerate(kinds)])
    assert {episode for episode, _ in selected(memory, "experience")} == {0, 1, 3}
    assert memory.view().counts["experience", "restocking"] == 3


def test_a_batch_says_where_an_operator_had_taken_over() -> None:
    expert = np.full(10, Source.EXPERT, np.uint8)  # who demonstrates has taken nothing over
    memory = memory_of(
        acted(Outcome.FAILURE, [3, 4], seed=1),
        acted(Outcome.SUCCESS, [9], seed=2),
        replace(make_episode(10, kind=Kind.DEMO), source=expert),
    )
    start = np.array([2, 3, 4, 5, 11 + 8, 11 + 9, 22])
    batch = gather(memory, start, horizon=HORIZON, n_step=1, discount=DISCOUNT)
    assert batch.human.tolist() == [False, True, True, False, False, True, False]
    assert batch.window.tolist() == start.tolist()


def test_a_window_of_a_million_chunks_has_the_monte_carlo_return() -> None:
    memory = memory_of(
        acted(Outcome.SUCCESS, [], seed=0),
        acted(Outcome.TIMEOUT, [], seed=1),
        acted(Outcome.INTERRUPTED, [], seed=2),
    )
    start = np.array([0, 7, 11 + 0, 22 + 4])
    batch = gather(memory, start, horizon=HORIZON, n_step=1_000_000, discount=DISCOUNT)
    np.testing.assert_allclose(batch.returns, [DISCOUNT**9, DISCOUNT**2, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(batch.discount, [0, 0, 0, DISCOUNT**6], rtol=1e-6)


def test_with_cameras_a_window_starts_only_where_it_finds_its_images() -> None:
    """The first episode has an image every five ticks, the second none where it was cut off."""
    cut = {"outcome": Outcome.INTERRUPTED, "terminated": False, "truncated": True}
    seen = make_episode(ticks=20, kind=Kind.DEMO)
    blind = make_episode(ticks=18, kind=Kind.DEMO, **cut)
    memory = memory_of(seen, blind, cameras=("head",))
    starts = memory.starts(("demo", "restocking"), 4)
    assert memory.view().ticks["demo", "restocking"] == 4
    batch = gather(memory, starts, horizon=HORIZON, n_step=2, discount=DISCOUNT)
    assert batch.tick.tolist() == [0, 5, 10, 15]
    assert batch.next_tick.tolist() == [10, 15, 20, 20]
    assert memory_of(seen).view().ticks["demo", "restocking"] == 20


def test_a_camera_that_nobody_has_leaves_nothing_to_sample() -> None:
    memory = memory_of(make_episode(ticks=20, kind=Kind.DEMO), cameras=("head", "left_wrist"))
    with pytest.raises(ConfigError, match="Nothing to sample"):
        draw(memory, memory.view(), {"demo": 1.0}, 2, seed=(0, 0))
