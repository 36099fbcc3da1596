"""Tombstones and relabels: from the next snapshot on, never before, with who and why."""

import pytest
from sqlalchemy import Engine, event

from lwd.errors import ConfigError, EpisodeError, MissingError
from lwd.store.catalog import COORDINATOR, Catalog
from sample_rows import Clock, row


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(url, clock):
    with Catalog(url, clock) as opened:
        yield opened


class Fleet:
    """Episodes by number and the coordinator's commits."""

    def __init__(self, catalog: Catalog):
        self.catalog = catalog
        token = catalog.acquire_lease(COORDINATOR, "me", 1e9)
        assert token is not None
        self._token = token

    def commit(self, *numbers: int) -> int:
        """Catalogue these, if they are new, and make a snapshot."""
        for number in numbers:
            self.catalog.insert_episode(row(number))
        ids = [row(number).episode_id for number in numbers]
        return self.catalog.commit_snapshot(ids, token=self._token)

    def amend(self, number: int, change: str, value: str = "") -> None:
        self.catalog.amend(row(number).episode_id, change, value, author="ana", reason="seen")

    def holds(self, version: int) -> dict[int, str]:
        """Number and outcome of each episode in a version."""
        rows = self.catalog.snapshot_episodes(version)
        return {int(r.episode_id, 16): r.outcome for r in rows}

    def log(self, version: int, after: int = 0) -> list[tuple[int, int, bool]]:
        """Version, number and presence of each entry."""
        entries = self.catalog.snapshot_log(version, after=after)
        return [(e.version, int(e.row.episode_id, 16), e.present) for e in entries]


@pytest.fixture
def fleet(catalog) -> Fleet:
    return Fleet(catalog)


def test_an_amendment_waits_for_the_next_snapshot_and_leaves_older_ones_alone(fleet):
    fleet.commit(1, 2)
    fleet.amend(1, "tombstone")
    fleet.amend(2, "outcome", '"failure"')
    assert fleet.holds(1) == {1: "success", 2: "success"}
    assert fleet.catalog.amended()
    assert fleet.commit() == 2
    assert not fleet.catalog.amended()
    assert fleet.commit() == 2
    assert fleet.holds(1) == {1: "success", 2: "success"}
    assert fleet.holds(2) == {2: "failure"}
    assert fleet.log(2) == [(1, 1, True), (1, 2, True), (2, 1, False), (2, 2, True)]
    assert fleet.log(2, after=1) == [(2, 1, False), (2, 2, True)]
    (relabelled,) = fleet.catalog.snapshot_episodes(2)
    assert (relabelled.terminated, relabelled.truncated) == (True, False)


def test_a_restored_episode_comes_back_and_the_trail_names_everybody(fleet, clock):
    fleet.commit(1)
    for change in ("tombstone", "restore"):
        clock.now += 1
        fleet.amend(1, change)
        fleet.commit()
    assert [fleet.holds(v) for v in (1, 2, 3)] == [{1: "success"}, {}, {1: "success"}]
    trail = fleet.catalog.amendments(row(1).episode_id)
    assert [(a.change, a.author, a.reason, a.at, a.version) for a in trail] == [
        ("tombstone", "ana", "seen", 1001.0, 2),
        ("restore", "ana", "seen", 1002.0, 3),
    ]


def test_an_amendment_of_an_episode_that_waits_takes_effect_when_it_joins(fleet):
    fleet.catalog.insert_episode(row(1))
    fleet.amend(1, "human", "[[0, 5], [10, 12]]")
    assert not fleet.catalog.amended()
    fleet.commit(2)
    assert len(fleet.catalog.amendments(pending=True)) == 1
    fleet.commit(1)
    assert {int(r.episode_id, 16): r.interventions for r in fleet.catalog.snapshot_episodes(2)} == {
        1: 7,
        2: 0,
    }


def test_a_difference_names_what_joined_left_and_changed(fleet):
    fleet.commit(1, 2, 3)
    fleet.amend(1, "tombstone")
    fleet.amend(2, "outcome", '"timeout"')
    fleet.amend(3, "substeps", "[1, 0.5]")
    fleet.commit(4)
    found = fleet.catalog.snapshot_difference(1, 2)
    numbers = [[int(r.episode_id, 16) for r in rows] for rows in found[:3]]
    assert numbers == [[4], [1], [2, 3]]
    assert [a.change for a in found.amendments] == ["tombstone", "outcome", "substeps"]
    assert [len(part) for part in fleet.catalog.snapshot_difference(2, 2)] == [0, 0, 0, 0]


def test_what_is_not_retained_is_not_in_the_log_but_every_retained_version_is(fleet):
    fleet.commit(1, 2, 3)
    fleet.amend(1, "tombstone")
    fleet.amend(2, "outcome", '"failure"')
    fleet.commit()
    fleet.amend(3, "tombstone")
    fleet.commit(4)
    assert fleet.catalog.retain_from(2, author="ana", reason="space") == 2
    assert fleet.log(3) == [(1, 3, True), (2, 2, True), (3, 3, False), (3, 4, True)]
    assert fleet.holds(2) == {2: "failure", 3: "success"}
    assert fleet.catalog.retain_from(1, author="ana", reason="back") == 2
    with pytest.raises(ConfigError, match="not one of 1 to 3"):
        fleet.catalog.retain_from(4, author="ana", reason="future")


def test_a_lost_payload_is_asked_for_in_no_version(fleet):
    fleet.commit(1, 2)
    fleet.amend(1, "lost")
    fleet.commit()
    assert fleet.log(2) == [(1, 2, True)]
    assert [(e.present, e.lost) for e in fleet.catalog.snapshot_log(2, after=1)] == [(False, True)]
    fleet.amend(1, "restore")
    fleet.commit()
    assert fleet.log(3)[-1] == (3, 1, True)


@pytest.mark.parametrize(
    ("change", "value", "error"),
    [
        ("burn", "", ConfigError),
        ("outcome", '"splendid"', EpisodeError),
        ("outcome", "success", EpisodeError),
        ("human", "[[5, 3]]", EpisodeError),
        ("human", "[[0, 51]]", EpisodeError),
        ("human", "[[0, 10], [5, 20]]", EpisodeError),
        ("substeps", "[1.5]", EpisodeError),
        ("substeps", "[true]", EpisodeError),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_leaves_no_trace(fleet, change, value, error):
    fleet.commit(1)
    with pytest.raises(error):
        fleet.amend(1, change, value)
    with pytest.raises(MissingError):
        fleet.amend(9, "tombstone")
    with pytest.raises(ConfigError, match="author"):
        fleet.catalog.amend(row(1).episode_id, "tombstone", author="", reason="x")
    assert fleet.catalog.amendments() == []


def test_a_dead_letter_can_wait_again(fleet):
    fleet.catalog.insert_episode(row(1))
    fleet.catalog.dead_letter(row(1).episode_id, "torn", "coordinator")
    fleet.catalog.dead_letter("not an episode", "poison", "coordinator")
    assert fleet.catalog.unsnapshotted(9) == []
    assert fleet.catalog.revive(row(1).episode_id) is True
    assert fleet.catalog.revive(row(1).episode_id) is False
    assert fleet.catalog.revive("not an episode") is False
    assert [r.episode_id for r in fleet.catalog.unsnapshotted(9)] == [row(1).episode_id]


def test_what_waits_can_be_read_in_parts(fleet, clock):
    for number in (2, 1, 3):
        fleet.catalog.insert_episode(row(number))
    clock.now += 1.0
    fleet.catalog.insert_episode(row(0))
    clock.now += 1.0
    fleet.catalog.dead_letter(row(2).episode_id, "torn", "coordinator")
    fleet.catalog.revive(row(2).episode_id)
    found = fleet.catalog.unsnapshotted(1)
    while rest := fleet.catalog.unsnapshotted(1, after=found[-1]):
        found += rest
    assert [int(r.episode_id, 16) for r in found] == [1, 3, 0, 2]
    assert [r.inserted_at for r in found] == [1000.0, 1000.0, 1001.0, 1002.0]


def test_an_episode_from_the_future_waits_for_nobodys_clock(fleet, clock):
    clock.now += 7200  # the service's clock is wrong
    fleet.catalog.insert_episode(row(1))
    clock.now -= 7200
    assert len(fleet.catalog.unsnapshotted(9, older_than_s=3.0)) == 1


def test_a_silent_lease_can_be_taken_whatever_its_end_says(fleet, clock):
    catalog = fleet.catalog
    clock.now += 7200
    token = catalog.acquire_lease("work", "ahead", 10.0)
    clock.now -= 7200
    assert catalog.acquire_lease("work", "me", 10.0) is None
    seen = catalog.lease("work")
    assert catalog.renew_lease("work", "ahead", token, 11.0)
    assert catalog.acquire_lease("work", "me", 10.0, silent=seen) is None
    assert catalog.acquire_lease("work", "me", 10.0, silent=catalog.lease("work")) == token + 1
    assert catalog.lease("nobody's") is None


def test_what_joins_while_members_are_read_joined_later(postgres_url):
    with Catalog(postgres_url) as catalog:
        fleet, joining = Fleet(catalog), [2]
        fleet.commit(1)

        def _join(connection, cursor, statement, *rest) -> None:
            if joining and "JOIN members" in statement:
                fleet.commit(joining.pop())

        event.listen(Engine, "after_cursor_execute", _join)
        try:
            assert [r.episode_id for _, r in catalog.member_versions()] == [row(1).episode_id]
        finally:
            event.remove(Engine, "after_cursor_execute", _join)
        assert [version for version, _ in catalog.member_versions()] == [1, 2]
