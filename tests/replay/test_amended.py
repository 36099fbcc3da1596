"""The reader follows tombstones and relabels: from their version on, and not before."""

import numpy as np
import pytest

from lwd.errors import ConflictError
from lwd.store.objects import episode_key
from sample_episodes import make_episode


@pytest.fixture
def amend(plane):
    """Changes an episode and commits the snapshot in which that takes effect."""

    def _amend(episode, change: str, value: str = "") -> int:
        plane.catalog.amend(episode.header.episode_id, change, value, author="me", reason="seen")
        return plane.snapshot()

    return _amend


def ids(*episodes) -> set[str]:
    return {episode.header.episode_id for episode in episodes}


def drawn(reader, part: str = "online") -> set[str]:
    return set(reader.sample(0, {part: 1.0}, 512).episode.tolist())


def test_a_tombstone_takes_an_episode_out_and_a_restore_brings_it_back(plane, read, amend):
    one, two = make_episode(seed=1), make_episode(seed=2)
    plane.commit(one, two)
    reader = read()
    assert reader.sync() == 1
    amend(one, "tombstone")
    assert drawn(reader) == ids(one, two)
    assert reader.sync() == 2
    assert drawn(reader) == set(reader.episodes()) == ids(two)
    assert reader.statistics()["online"].episodes == 1
    amend(one, "restore")
    assert reader.sync() == 3
    assert drawn(reader) == ids(one, two)
    three = make_episode(seed=3)
    plane.commit(three)
    assert reader.sync() == 4, "what comes after a tombstone is fetched"
    assert drawn(reader) == ids(one, two, three)


def test_a_relabel_changes_rewards_and_parts_from_its_version_on(plane, read, amend):
    episode = make_episode(20, seed=1)
    plane.commit(episode)
    reader = read()
    reader.sync()
    assert (reader.returns(["online"])[1], reader.statistics()["success"].episodes) == (1.0, 1)
    amend(episode, "outcome", '"failure"')
    assert reader.sync() == 2
    assert (reader.returns(["online"])[1], reader.statistics()["success"].ticks) == (0.0, 0)
    assert reader.statistics()["online"].ticks == 20
    amend(episode, "human", "[[0, 2], [10, 13]]")
    assert reader.sync() == 3
    batch = reader.sample(0, {"human": 1.0}, 256)
    assert set(batch.tick.tolist()) == {0, 1, 10, 11, 12}


@pytest.mark.parametrize("retained", [0, 2])
def test_who_starts_later_draws_the_same_batches(plane, read, amend, retained):
    episodes = [make_episode(seed=n) for n in range(4)]
    plane.commit(*episodes)
    followed = read()
    followed.sync()
    amend(episodes[1], "tombstone")
    followed.sync()
    amend(episodes[2], "outcome", '"timeout"')
    followed.sync()
    if retained:
        plane.catalog.retain_from(retained, author="me", reason="space")
    fresh = read(cache="another")
    assert fresh.sync() == followed.version == 3
    for update in range(3):
        mine, theirs = (r.sample(update, {"online": 1.0}, 64) for r in (fresh, followed))
        np.testing.assert_array_equal(mine.episode, theirs.episode)
        np.testing.assert_array_equal(mine.tick, theirs.tick)
        np.testing.assert_array_equal(mine.returns, theirs.returns)


def test_a_version_that_is_not_retained_is_refused(plane, read, amend):
    one, two = make_episode(seed=1), make_episode(seed=2)
    plane.commit(one, two)
    amend(one, "tombstone")
    plane.catalog.retain_from(2, author="me", reason="space")
    reader = read()
    with pytest.raises(ConflictError, match="oldest that is retained is 2"):
        reader.sync(at_most=1)
    behind = read(cache="another", barrier=lambda version: 1)  # another host still has it
    assert behind.sync() == 0
    assert behind.episodes() == []


def test_a_lost_payload_holds_up_the_reader_only_until_that_is_known(plane, read, amend):
    one, two, three = (make_episode(seed=n) for n in (1, 2, 3))
    plane.commit(one)
    row = plane.put(two)
    plane.snapshot(row)
    plane.commit(three)
    plane.objects.delete(episode_key(row.sha256))
    reader = read()
    assert reader.sync() == 1
    amend(two, "lost")
    assert reader.sync() == 4
    assert drawn(reader) == ids(one, three)
