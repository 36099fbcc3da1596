"""Collecting: what somebody may ask for is never touched, what nobody may goes in two steps."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes_at_rest import AtRest, at_rest
from lwd.store import parts
from lwd.store.objects import sha256_of
from lwd.store.retention import collect, reachable

GRACE_S = 100.0
LATER = time.time() + 1000.0
"""A time at which everything that is stored now is older than the grace."""


@pytest.fixture
def fleet(tmp_path):
    found = at_rest(tmp_path)
    yield found
    found.catalog.close()


def collected(fleet: AtRest, now: float = LATER, **options):
    return collect(fleet.catalog, fleet.objects, now=now, grace_s=GRACE_S, **options)


def test_a_tombstoned_episode_goes_once_its_versions_are_given_up(fleet):
    for number in (1, 2):
        fleet.put(number)
    fleet.commit(1, 2)
    fleet.amend(1, "tombstone")
    fleet.commit()
    assert collected(fleet).aside == []
    fleet.catalog.retain_from(2, author="ana", reason="space")
    assert collected(fleet, now=time.time()).aside == []
    assert collected(fleet, dry_run=True).aside == [fleet.rows[1].sha256]
    assert fleet.stored() == {1, 2}
    assert collected(fleet).aside == [fleet.rows[1].sha256]
    assert (fleet.stored(), fleet.stored("trash")) == ({2}, {1})
    assert collected(fleet).deleted == [fleet.rows[1].sha256]
    assert (fleet.stored(), fleet.stored("trash")) == ({2}, set())


def test_parts_of_an_upload_that_nobody_ended_go(fleet):
    fleet.put(1)
    begun, waits = sha256_of(b"begun"), fleet.rows[1].sha256
    for sha256 in (begun, waits):
        parts.send(fleet.objects, sha256, b"some bytes", part_bytes=4)
    collected(fleet, now=time.time())
    assert parts.present(fleet.objects, begun) != []
    collected(fleet)
    assert parts.present(fleet.objects, begun) == []
    assert parts.present(fleet.objects, waits) != []


def test_what_is_needed_again_comes_back_from_the_trash(fleet):
    fleet.put(1)
    fleet.commit(1)
    fleet.amend(1, "tombstone")
    fleet.commit()
    fleet.catalog.retain_from(2, author="ana", reason="space")
    collected(fleet)
    fleet.amend(1, "restore")
    assert collected(fleet).restored == [fleet.rows[1].sha256]
    assert fleet.stored() == {1}


def test_an_upload_whose_row_has_not_come_is_kept_through_the_grace(fleet):
    fleet.put(1, row=False)
    assert collected(fleet, now=time.time()).aside == []
    assert collected(fleet).aside == [fleet.rows[1].sha256]
    fleet.catalog.insert_episode(fleet.rows[1])
    assert collected(fleet).restored == [fleet.rows[1].sha256]
    assert fleet.stored() == {1}


def test_a_row_that_comes_while_it_collects_keeps_its_payload(fleet, monkeypatch):
    fleet.put(1, row=False)
    inventory = fleet.objects.inventory

    def _late(prefix: str):
        if prefix == "trash":
            fleet.catalog.insert_episode(fleet.rows[1])
        return inventory(prefix)

    monkeypatch.setattr(fleet.objects, "inventory", _late)
    assert collected(fleet).restored == [fleet.rows[1].sha256]
    assert fleet.stored() == {1}


@pytest.mark.parametrize("after", ["unsnapshotted", "amendments", "snapshot_log"])
def test_what_joins_or_is_restored_while_it_looks_is_needed(fleet, monkeypatch, after):
    fleet.put(1)
    fleet.commit(1)
    fleet.amend(1, "tombstone")
    fleet.commit()
    fleet.catalog.retain_from(2, author="ana", reason="space")
    fleet.amend(1, "restore")
    fleet.put(2)
    read = getattr(fleet.catalog, after)

    def _commit_after(*given, **options):
        found = read(*given, **options)
        fleet.commit(2)
        return found

    monkeypatch.setattr(fleet.catalog, after, _commit_after)
    assert reachable(fleet.catalog) == {fleet.rows[1].sha256, fleet.rows[2].sha256}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "tombstone", "restore", "retain", "collect"]), st.integers(0, 3)
    ),
    max_size=14,
)


@given(steps=STEPS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_history_loses_a_payload_of_a_retained_version(tmp_path_factory, steps):
    fleet = at_rest(Path(tmp_path_factory.mktemp("history")))
    try:
        for step, number in steps:
            play(fleet, step, number)
            newest = fleet.catalog.snapshot_version()
            for version in range(max(fleet.catalog.retained(), 1), newest + 1):
                rows = fleet.catalog.snapshot_episodes(version)
                assert {row.sha256 for row in rows} <= reachable(fleet.catalog)
                assert all(fleet.objects.exists(f"episodes/{row.sha256}") for row in rows)
    finally:
        fleet.catalog.close()


def play(fleet: AtRest, step: str, number: int) -> None:
    if step == "join":
        if number not in fleet.rows:
            fleet.put(number)
            fleet.commit(number)
    elif step == "retain":
        if 0 < number <= fleet.catalog.snapshot_version():
            fleet.catalog.retain_from(number, author="ana", reason="space")
    elif step == "collect":
        collected(fleet)
    elif number in fleet.rows and (step == "tombstone" or number in fleet.stored()):
        fleet.amend(number, step)
        fleet.commit()


def test_ages_are_the_stores(fleet):
    fleet.put(1)
    (stored,) = fleet.objects.inventory("episodes")
    path = Path(fleet.objects.url.removeprefix("file://")) / stored.key
    assert (stored.key, stored.size_bytes) == (fleet.key(1), fleet.rows[1].size_bytes)
    os.utime(path, (5.0, 5.0))
    (stored,) = fleet.objects.inventory("episodes")
    assert stored.modified_at == 5.0
