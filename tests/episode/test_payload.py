"""Payloads: what goes in comes out, and whatever is wrong is refused with its reason."""

import hashlib
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwd.episode.check import Limits
from lwd.episode.payload import decode, encode, header, new_id
from lwd.episode.types import Episode, Outcome
from lwd.errors import EpisodeError, PayloadError
from sample_episodes import make_episode, make_header


@pytest.fixture(scope="module")
def episode() -> Episode:
    return make_episode(ticks=25)


@pytest.fixture(scope="module")
def payload(episode: Episode) -> bytes:
    return encode(episode)


def assert_same(given: Episode, expected: Episode) -> None:
    assert given.header == expected.header
    assert given.events == expected.events
    assert given.images == expected.images
    for name in ("time", "state", "action", "action_policy", "source"):
        np.testing.assert_array_equal(getattr(given, name), getattr(expected, name), err_msg=name)
        assert getattr(given, name).dtype == getattr(expected, name).dtype


def test_what_goes_in_comes_out(episode: Episode, payload: bytes) -> None:
    assert_same(decode(payload), episode)


@given(ticks=st.integers(1, 40), state=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_any_size_round_trips(ticks: int, state: int, seed: int) -> None:
    given = make_episode(ticks=ticks, state=state, seed=seed)
    assert_same(decode(encode(given)), given)


def test_same_episode_gives_same_bytes(episode: Episode, payload: bytes) -> None:
    again = encode(decode(payload))
    assert hashlib.sha256(again).digest() == hashlib.sha256(payload).digest()


def test_file_is_mapped_and_outlives_its_name(tmp_path, episode: Episode, payload: bytes) -> None:
    path = tmp_path / "one.arrow"
    path.write_bytes(payload)
    given = decode(path)
    path.unlink()
    assert_same(given, episode)
    assert not given.state.flags.writeable  # a view of the map, not a copy


def test_images_can_be_skipped(payload: bytes) -> None:
    assert decode(payload, images=False).images == {}


def test_header_needs_only_the_first_part(episode: Episode, payload: bytes) -> None:
    assert header(payload) == episode.header
    assert header(payload[:6000]) == episode.header
    with pytest.raises(PayloadError):
        header(payload[:600])


def test_any_arrow_library_reads_it(payload: bytes, episode: Episode) -> None:
    table = pa.ipc.open_file(payload).read_all()
    assert table.num_rows == 26
    assert table["action"][25].as_py() is None
    assert table["action_policy"][0].as_py() is None
    assert table["state"][3].as_py() == pytest.approx(episode.state[3])


def test_new_ids_are_valid_and_differ() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(i) == 32 and int(i, 16) >= 0 for i in ids)


@pytest.mark.parametrize("field", ["state", "action"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e7])
def test_absurd_numbers_are_refused(episode: Episode, field: str, value: float) -> None:
    array = getattr(episode, field).copy()
    array[4, 1] = value
    with pytest.raises(EpisodeError, match=f"{field} is not finite or above 1000000.0 at tick 4"):
        encode(replace(episode, **{field: array}))


def test_nan_written_by_somebody_else_is_refused(episode: Episode, payload: bytes) -> None:
    poison = payload.replace(episode.state[4].tobytes(), np.full(6, np.nan, np.float32).tobytes())
    assert poison != payload
    with pytest.raises(PayloadError, match=r"state is not finite or above 1000000\.0 at tick 4"):
        decode(poison)


def test_half_asked_policy_is_refused(episode: Episode) -> None:
    wanted = episode.action_policy.copy()
    wanted[20, 0] = np.nan
    with pytest.raises(EpisodeError, match="neither finite nor all NaN at tick 20"):
        encode(replace(episode, action_policy=wanted))


@pytest.mark.parametrize("step", [0.0, -0.5])
def test_time_must_increase(episode: Episode, step: float) -> None:
    times = episode.time.copy()
    times[7] = times[6] + step
    with pytest.raises(EpisodeError, match="time does not increase at tick 7"):
        encode(replace(episode, time=times))


def test_unknown_source_is_refused(episode: Episode) -> None:
    source = episode.source.copy()
    source[9] = 4
    with pytest.raises(EpisodeError, match=r"source is none of \[0, 1, 2, 3\] at tick 9"):
        encode(replace(episode, source=source))


def test_wrong_lengths_are_refused(episode: Episode) -> None:
    with pytest.raises(EpisodeError, match=r"state has shape \(25, 6\); expected \(26, 6\)"):
        encode(replace(episode, state=episode.state[:-1]))
    with pytest.raises(EpisodeError, match="0 ticks"):
        encode(replace(episode, action=episode.action[:0]))
    with pytest.raises(EpisodeError, match="camera head has 3 frames"):
        encode(replace(episode, images={"head": (None,) * 3}))
    with pytest.raises(EpisodeError, match="image/head is not a JPEG at tick 0"):
        encode(replace(episode, images={"head": (b"GIF89a",) + (None,) * 25}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"episode_id": "../../etc/passwd"}, "episode_id is"),
        ({"episode_id": "A" * 32}, "episode_id is"),
        ({"robot": "../r"}, "not a plain name"),
        ({"task": ""}, "not a plain name"),
        ({"instruction": "x" * 1001}, "instruction has 1001 characters"),
        ({"started_at": 5.0, "ended_at": 4.0}, "not in order"),
        ({"started_at": float("nan")}, "not in order"),
        ({"rate_hz": 0.0}, "rate_hz is 0.0"),
        ({"horizon": 0}, "horizon is 0"),
        ({"substeps": (1.5,)}, "outside"),
        ({"terminated": False}, "outcome success with terminated=False"),
        ({"outcome": Outcome.TIMEOUT, "terminated": True}, "outcome timeout with terminated=True"),
        ({"tokenizer_hash": "short"}, "tokenizer_hash is not a sha256"),
    ],
)
def test_header_rules(episode: Episode, change: dict, reason: str) -> None:
    with pytest.raises(EpisodeError, match=reason):
        encode(replace(episode, header=make_header(**change)))


def rewritten(payload: bytes, *, metadata: dict | None = None, options=None, batches=1) -> bytes:
    """The payload written again by a less careful writer."""
    table = pa.ipc.open_file(payload).read_all()
    schema = table.schema.with_metadata({**table.schema.metadata, **(metadata or {})})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        for _ in range(batches):
            writer.write_batch(table.replace_schema_metadata(schema.metadata).to_batches()[0])
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "header is not JSON"),
        (b"[" * 50_000, "header is not JSON"),
        (b"[]", "header is a list"),
        (b"{}", "lacks the field 'episode_id'"),
        (b'{"extra": 1}', "unknown field 'extra'"),
    ],
)
def test_bad_header_text(payload: bytes, text: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        decode(rewritten(payload, metadata={b"lwd.header": text}))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"seed": 11', b'"seed": true', "'seed' is True; expected an integer"),
        (b'"seed": 11', b'"seed": 1e2', "'seed' is 100.0; expected an integer"),
        (b'"rate_hz": 10.0', b'"rate_hz": NaN', "NaN is not a number"),
        (b'"rate_hz": 10.0', b'"rate_hz": "10"', "'rate_hz' is '10'; expected a number"),
        (b'"held_out": false', b'"held_out": 0', "'held_out' is 0; expected true or false"),
        (b'"kind": "online"', b'"kind": "dream"', "'kind' is 'dream'; expected one of demo"),
        (b'"kind": "online"', b'"kind": ["a"]', r"'kind' is \['a'\]; expected one of demo"),
        (b'"substeps": [1.0', b'"substeps": ["x"', "expected numbers"),
        (b'"robot": "robot-3"', b'"robot": 3', "'robot' is 3; expected a string"),
    ],
)
def test_mistyped_header(payload: bytes, old: bytes, new: bytes, reason: str) -> None:
    text = pa.ipc.open_file(payload).schema.metadata[b"lwd.header"]
    assert old in text
    with pytest.raises(PayloadError, match=reason):
        decode(rewritten(payload, metadata={b"lwd.header": text.replace(old, new)}))


def test_other_format_version_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="its format is '2'; this version reads '1'"):
        decode(rewritten(payload, metadata={b"lwd.format": b"2"}))


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compression_bomb_is_refused_before_it_is_inflated(codec: str) -> None:
    ticks = 100_000
    calm = make_episode(ticks=1)
    big = replace(
        calm,
        time=1.0 + np.arange(ticks + 1),
        state=np.zeros((ticks + 1, 256), np.float32),
        action=np.zeros((ticks, 4), np.float32),
        action_policy=np.full((ticks, 4), np.nan, np.float32),
        source=np.zeros(ticks, np.uint8),
        events=((),) * ticks,
        images={},
    )
    bomb = rewritten(encode(big), options=pa.ipc.IpcWriteOptions(compression=codec))
    assert len(bomb) < 2_000_000
    before = pa.total_allocated_bytes()
    with pytest.raises(PayloadError, match="its buffers are compressed"):
        decode(bomb)
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_two_batches_are_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="2 record batches"):
        decode(rewritten(payload, batches=2))


def test_wrong_schema_is_refused(payload: bytes) -> None:
    table = pa.ipc.open_file(payload).read_all()
    narrow = table.set_column(1, "time", table["time"].cast(pa.float32()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, narrow.schema) as writer:
        writer.write_batch(narrow.to_batches()[0])
    with pytest.raises(PayloadError, match="time: float"):
        decode(sink.getvalue().to_pybytes())


def test_foreign_bytes_are_refused(tmp_path) -> None:
    for data in (b"", b"ARROW1", b"x" * 5000, b"ARROW1\0\0" + b"\xff" * 4000 + b"ARROW1"):
        with pytest.raises(PayloadError):
            decode(data)
        path = tmp_path / "file"
        path.write_bytes(data)
        with pytest.raises(PayloadError):
            decode(path)
    with pytest.raises(PayloadError, match="FileNotFoundError"):
        decode(tmp_path / "absent")


def test_limits_hold(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="bytes are more than the limit of 1000"):
        decode(payload, limits=Limits(bytes=1000))
    with pytest.raises(PayloadError, match="it has 26 rows"):
        decode(payload, limits=Limits(ticks=24))
    with pytest.raises(PayloadError, match="image/head has 43 bytes at tick 0"):
        decode(payload, limits=Limits(image_bytes=42))
    with pytest.raises(PayloadError, match="2 events at tick 2"):
        decode(payload, limits=Limits(events_per_tick=1))


def test_every_truncation_is_refused(payload: bytes) -> None:
    for size in [*range(0, len(payload), 97), len(payload) - 1]:
        with pytest.raises(PayloadError):
            decode(payload[:size])


def test_absurd_lengths_are_refused(payload: bytes) -> None:
    """Row counts, buffer offsets and lengths of the metadata, each replaced by absurd values."""
    rows = (26).to_bytes(8, "little")
    at = [i for i in range(len(payload)) if payload[i : i + 8] == rows]
    assert at
    for value in (2**62, 2**31, 27, 1, 0, 2**64 - 1):
        for i in at:
            forged = payload[:i] + value.to_bytes(8, "little") + payload[i + 8 :]
            try:
                assert decode(forged).ticks == 25  # the number was a copy that nobody needs
            except PayloadError:
                continue


def test_fuzzed_payloads_are_refused_or_valid(payload: bytes) -> None:
    """Random damage never provokes anything but PayloadError; what passes is a valid episode."""
    rng = np.random.default_rng(0)
    limit = time.monotonic() + 10.0
    refused = 0
    for _ in range(2000):
        damaged = bytearray(payload)
        for _ in range(rng.integers(1, 5)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            encode(decode(bytes(damaged)))
        except PayloadError:
            refused += 1
        if time.monotonic() > limit:
            break
    assert refused > 100
