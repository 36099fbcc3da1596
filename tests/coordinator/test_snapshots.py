"""Decisions about episodes: every way in which a payload can be wrong is named."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwd.coordinator.snapshots import (
    COMPARED,
    Fate,
    judge_absent,
    judge_payload,
    judge_size,
    read_notice,
)
from lwd.edge.announce import describe
from lwd.episode.payload import decode, encode
from lwd.store.objects import sha256_of
from sample_episodes import make_episode


@pytest.fixture(scope="module")
def payload() -> bytes:
    return encode(make_episode(12))


def row_of(payload: bytes, **changes):
    row = describe(decode(payload), sha256=sha256_of(payload), size_bytes=len(payload))
    return replace(row, inserted_at=100.0, **changes)


def test_a_whole_payload_that_agrees_with_its_row_joins(payload):
    row = row_of(payload)
    assert judge_size(row, len(payload)) is None
    verdict = judge_payload(row, payload)
    assert (verdict.episode_id, verdict.fate, verdict.reason) == (row.episode_id, Fate.JOIN, "")


def test_the_row_repeats_these_fields_of_the_header():
    assert {"episode_id", "robot", "task", "kind", "outcome", "held_out", "horizon"} <= set(
        COMPARED
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "0" * 64}, "has sha256"),
        ({"task": "make_tea"}, "task 'restocking' against 'make_tea'"),
        ({"held_out": True}, "held_out False against True"),
        ({"ticks": 13}, "ticks 12 against 13"),
    ],
)
def test_a_row_that_lies_is_dead_with_the_reason(payload, change, reason):
    verdict = judge_payload(row_of(payload, **change), payload)
    assert verdict.fate is Fate.DEAD
    assert reason in verdict.reason


def test_bytes_that_are_no_payload_are_dead_although_the_hash_is_right(payload):
    torn = payload[:-200]
    row = row_of(payload, sha256=sha256_of(torn), size_bytes=len(torn))
    verdict = judge_payload(row, torn)
    assert verdict.fate is Fate.DEAD
    assert "payload" in verdict.reason


def test_a_wrong_size_is_dead_before_the_download(payload):
    verdict = judge_size(row_of(payload), len(payload) + 1)
    assert verdict is not None
    assert verdict.fate is Fate.DEAD


def test_an_absent_payload_waits_until_patience_ends(payload):
    row = row_of(payload)
    assert judge_absent(row, now=109.9, patience_s=10.0).fate is Fate.WAIT
    late = judge_absent(row, now=110.0, patience_s=10.0)
    assert late.fate is Fate.DEAD
    assert row.sha256 in late.reason


def test_a_notice_names_an_episode():
    assert read_notice(b'{"episode_id": "ab", "sha256": "cd"}') == "ab"


HOSTILE = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"3",
    b"{}",
    b'{"episode_id": 7}',
    b"[" * 100_000,
    b'{"episode_id": "\\u0000"}',
    b'{"episode_id": "\\ud800"}',
    b'{"episode_id": "' + b"a" * 129 + b'"}',
]


@given(st.binary() | st.text().map(lambda text: json.dumps({"episode_id": text}).encode()))
def test_a_notice_is_an_id_that_a_catalog_can_be_asked_for_or_none(data):
    try:
        episode_id = read_notice(data)
    except ValueError:
        return
    assert len(episode_id) <= 128
    assert episode_id.encode().find(0) == -1


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_other_bytes_are_not_a_notice(data):
    with pytest.raises(ValueError, match="Not a notice"):
        read_notice(data)
