"""Lineage both ways: which episodes trained a policy, which policies an episode trained."""

from dataclasses import replace

import pytest

from episodes_at_rest import at_rest
from lwd.errors import MissingError
from lwd.store import lineage
from sample_rows import POLICY


@pytest.fixture
def fleet(tmp_path):
    found = at_rest(tmp_path)
    yield found
    found.catalog.close()


def test_a_policy_and_an_episode_name_each_other(fleet):
    for number in (1, 2, 3):
        fleet.put(number, policy_version=0, held_out=number == 3)
    fleet.commit(1, 2, 3)
    first = fleet.catalog.publish_weights(POLICY)
    fleet.put(4, policy_version=first.version)
    fleet.amend(1, "tombstone")
    fleet.commit(4)
    second = fleet.catalog.publish_weights(replace(POLICY, sha256="b" * 64, snapshot=2))
    ids = {number: row.episode_id for number, row in fleet.rows.items()}

    before, after = (lineage.policy(fleet.catalog, v) for v in (first.version, second.version))
    assert {row.episode_id for row in before.trained_on} == {ids[1], ids[2]}
    assert {row.episode_id for row in after.trained_on} == {ids[2], ids[4]}
    assert (before.made, after.made) == (1, 0)

    lives = {number: lineage.episode(fleet.catalog, ids[number]) for number in ids}
    assert {number: life.trained for number, life in lives.items()} == {
        1: [1],
        2: [1, 2],
        3: [],
        4: [2],
    }
    assert (lives[4].acted, lives[4].joined) == (first, 2)
    assert (lives[1].acted, [a.change for a in lives[1].amendments]) == (None, ["tombstone"])


def test_an_episode_says_how_stale_its_policy_was(fleet):
    """One version came later, and one was another robot's: neither could have acted."""
    for number in (1, 2):
        fleet.put(number, policy_version=number - 1)
    ended = fleet.rows[2].produced_at
    offers = [(-50.0, ""), (-20.0, ""), (-10.0, ",arm-2,"), (-5.0, ",arm-1,"), (9.0, "")]
    for number, (at, audience) in enumerate(offers):
        fleet.clock.now = ended + at
        fleet.catalog.publish_weights(replace(POLICY, update=number, audience=audience))
    life = lineage.episode(fleet.catalog, fleet.rows[2].episode_id)
    assert (life.behind, life.age_s) == (2, pytest.approx(50.0))
    life = lineage.episode(fleet.catalog, fleet.rows[1].episode_id)
    assert (life.acted, life.behind, life.age_s) == (None, None, None)


def test_who_is_not_there_is_named(fleet):
    with pytest.raises(MissingError, match="version 9 was never published"):
        lineage.policy(fleet.catalog, 9)
    with pytest.raises(MissingError, match="abc is not in the catalog"):
        lineage.episode(fleet.catalog, "abc")
    fleet.put(1)
    life = lineage.episode(fleet.catalog, fleet.rows[1].episode_id)
    assert (life.joined, life.trained) == (None, [])
