"""Uploads in parts: what is missing is sent, what is there is joined, and only if it is right."""

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwd.errors import IntegrityError, MissingError, ServiceError
from lwd.store import parts
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.parts import INCOMING, Part

DATA = os.urandom(1000)
NAME = sha256_of(DATA)
RANGES = st.builds(Part, st.integers(0, 60), st.integers(1, 30))


@pytest.fixture
def objects() -> Objects:
    return Objects("memory:///")


def keys(objects: Objects) -> set[str]:
    return set(objects.list(INCOMING))


@given(st.lists(RANGES), st.integers(1, 50), st.integers(1, 20))
def test_what_is_missing_and_what_is_there_give_every_byte(there, size, part_bytes) -> None:
    there = [part for part in there if part.offset + part.size <= size]
    wanted = parts.missing(size, there, part_bytes)
    assert all(0 < part.size <= part_bytes for part in wanted)
    reached = [set(range(part.offset, part.offset + part.size)) for part in there]
    sent = [set(range(part.offset, part.offset + part.size)) for part in wanted]
    assert set().union(*reached, *sent) == set(range(size))
    assert sum(map(len, sent)) == size - len(set().union(*reached))
    chosen = parts.cover(size, [*there, *wanted])
    assert chosen[0].offset == 0
    assert max(part.offset + part.size for part in chosen) == size
    assert all(b.offset <= a.offset + a.size for a, b in pairwise(chosen))


def test_a_hole_covers_nothing() -> None:
    assert parts.cover(10, [Part(0, 4), Part(5, 5)]) == []
    assert parts.cover(10, [Part(0, 9)]) == []
    assert parts.cover(10, []) == []


def test_a_payload_arrives_in_parts(objects: Objects) -> None:
    assert parts.send(objects, NAME, DATA, part_bytes=300) == 1000
    assert len(keys(objects)) == 4
    payload = parts.read(objects, NAME, 1000)
    assert payload == DATA
    parts.join(objects, NAME, payload)
    assert objects.get(episode_key(NAME), sha256=NAME) == DATA
    assert keys(objects) == set()


def test_an_upload_goes_on_where_it_broke_off(objects: Objects) -> None:
    sent: list[int] = []

    def breaks(size: int) -> None:
        sent.append(size)
        if len(sent) > 2:
            raise ServiceError("the link is gone")

    with pytest.raises(ServiceError, match="the link is gone"):
        parts.send(objects, NAME, DATA, part_bytes=100, take=breaks)
    there = sum(part.size for part in parts.present(objects, NAME))
    assert 0 < there < 1000
    with pytest.raises(MissingError, match="Not all parts"):
        parts.read(objects, NAME, 1000)
    assert parts.send(objects, NAME, DATA, part_bytes=70) == 1000 - there
    assert parts.read(objects, NAME, 1000) == DATA


def test_a_part_of_another_size_than_its_name_says_is_sent_again(objects: Objects) -> None:
    parts.send(objects, NAME, DATA, part_bytes=500)
    objects.put(f"{INCOMING}/{NAME}/500-500", DATA[500:700])
    objects.put(f"{INCOMING}/{NAME}/stranger", b"?")
    assert parts.send(objects, NAME, DATA, part_bytes=500) == 500
    assert parts.read(objects, NAME, 1000) == DATA


def test_one_bad_read_costs_no_part(objects: Objects, monkeypatch) -> None:
    parts.send(objects, NAME, DATA, part_bytes=500)
    with monkeypatch.context() as bad:
        bad.setattr(objects, "get", lambda key: bytes(500))
        with pytest.raises(IntegrityError, match="other bytes"):
            parts.read(objects, NAME, 1000)
    assert parts.read(objects, NAME, 1000) == DATA


def test_parts_of_a_killed_upload_with_other_bytes_are_sent_again(objects: Objects) -> None:
    parts.send(objects, NAME, DATA, part_bytes=250)
    objects.put(f"{INCOMING}/{NAME}/0-250", bytes(250))
    objects.put(f"{INCOMING}/{NAME}/900-250", DATA[-250:])  # of a longer payload
    parts.discard_damaged(objects, NAME, DATA)
    assert parts.send(objects, NAME, DATA, part_bytes=250) == 250
    assert parts.read(objects, NAME, 1000) == DATA
