"""Whatever comes in over HTTP or as weights: an answer or a clear refusal, never a bug."""

import asyncio
import contextlib
import json
import struct
from collections.abc import Iterator
from dataclasses import asdict

import httpx
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwd.errors import IntegrityError
from lwd.store import weights
from lwd.store.catalog import Catalog
from lwd.store.delta import apply, difference
from lwd.store.rows import LoadRow
from lwd.store.seats import Live, Word
from lwd.store.service import create_app
from sample_rows import row

SOME = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ANY_TEXT = st.text(st.characters(codec=None), max_size=200)
NUMBERS = st.integers() | st.sampled_from([-1, 2**31, 2**63, 10**400]) | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)
EPISODE, LOAD = asdict(row(1)), asdict(LoadRow(robot="arm-1", version=1, loaded_at=1.0))
BEAT = {"robot": "arm-1", "state": "acting", "at": 1.0, "policy_version": 1}
LIVE, WORD = asdict(Live(robot="arm-1", life="first")), asdict(Word(robot="arm-1", seat="tab"))
ROUTES = st.sampled_from(
    [
        ("/episodes", EPISODE),
        ("/loads", LOAD),
        ("/heartbeats", BEAT),
        ("/seats/orders", LIVE),
        ("/seats/words", WORD | {"press": "pause"}),
    ]
)


@pytest.fixture
def app(tmp_path):
    """The service over a catalog."""
    with Catalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        yield create_app(catalog)


@pytest.fixture
def postgres_app(postgres_url):
    """The same on PostgreSQL, which refuses other things than SQLite."""
    with Catalog(postgres_url) as catalog:
        yield create_app(catalog)


def ask(app, method: str, path: str, **arguments) -> httpx.Response:
    """The answer; an exception of the service comes through."""

    async def _ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lwd") as http:
            return await http.request(method, path, **arguments)

    return asyncio.run(_ask())


def said(value: object) -> bytes:
    """JSON, also of what JSON does not have: lone surrogates, NaN, huge numbers."""
    return json.dumps(value).encode()


@SOME
@given(st.data())
def test_a_body_is_taken_or_refused(app, postgres_app, data) -> None:
    path, good = data.draw(ROUTES)
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(good)), JSON, min_size=1))
    body = data.draw(
        st.sampled_from([said(good | changed), said(data.draw(JSON)), data.draw(st.binary())])
    )
    kind = {"Content-Type": "application/json"}
    for one in (app, postgres_app):
        ask(one, "POST", "/seats/orders", content=said(LIVE), headers=kind)
        answer = ask(one, "POST", path, content=body, headers=kind)
        absent = answer.status_code == 503 and "asks for no orders" in answer.text
        assert absent or answer.status_code in (200, 400, 409, 413, 422), answer.text
        assert isinstance(answer.json(), dict)
    assert ask(app, "GET", "/heartbeats").status_code == 200


@SOME
@given(NUMBERS | ANY_TEXT, st.sampled_from(["after", "robot", "wait_s"]))
def test_a_query_is_answered_or_refused(app, value, name) -> None:
    text = str(value).encode(errors="surrogatepass")
    path = f"/weights/latest?{name}={''.join(f'%{byte:02x}' for byte in text)}"
    if name == "wait_s":
        path = path.replace("wait_s=", "wait_s=-")  # a valid one would wait
    assert ask(app, "GET", path).status_code in (204, 422)


@SOME
@given(st.integers() | st.sampled_from([2**31, 2**63, 10**400, "x", "%00"]))
def test_a_version_that_nobody_published_is_not_found(app, version) -> None:
    assert ask(app, "GET", f"/weights/{version}").status_code in (404, 422)


def archive(header: bytes, body: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + body


SPECS = st.dictionaries(
    ANY_TEXT | st.just("__metadata__"),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "BF16", "I64", "U8", "BOOL", "F99"]) | JSON,
            "shape": st.lists(NUMBERS, max_size=4) | JSON,
            "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | JSON,
        }
    )
    | JSON,
    max_size=3,
)


@SOME
@given(st.data())
def test_weights_are_tensors_or_refused(tmp_path, data) -> None:
    path, body = tmp_path / "w", data.draw(st.binary(max_size=64))
    header = data.draw(st.one_of(SPECS.map(said), st.binary(max_size=64)))
    size = data.draw(st.none() | st.integers(0, 2**64 - 1))
    path.write_bytes(data.draw(st.sampled_from([archive(header, body, size), body])))
    try:
        tensors, metadata = weights.load(path)
    except IntegrityError:
        return
    assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())
    assert all(isinstance(value, str) for value in metadata.values())


@SOME
@given(st.data())
def test_damaged_weights_never_pass_for_others(tmp_path, data) -> None:
    good = bytearray(weights.encode({"a": np.arange(8, dtype=np.float32)}, {"k": "v"}))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "w"
    path.write_bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        tensors, _ = weights.load(path)
        weights.check_shapes(tensors, {"a": (8,)})
    except IntegrityError:
        return
    assert tensors["a"].nbytes <= len(good)


def deltas() -> Iterator[st.SearchStrategy[bytes]]:
    yield st.binary(max_size=100)
    planes = st.binary(max_size=200).map(zstandard.ZstdCompressor().compress)
    yield st.tuples(st.sampled_from([b"\x02", b"\x04", b"\x00", b"\xff"]), planes).map(b"".join)
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    yield st.just(b"\x02" + bomb)


@SOME
@given(st.one_of(*deltas()), st.binary(min_size=0, max_size=64))
def test_a_delta_gives_the_same_size_or_is_refused(delta, old) -> None:
    with contextlib.suppress(IntegrityError):
        assert len(apply(old, delta)) == len(old)


@given(st.binary(min_size=4, max_size=64), st.binary(min_size=4, max_size=64))
def test_a_delta_of_any_two_gives_the_newer_one(old, new) -> None:
    size = min(len(old), len(new)) // 4 * 4
    delta = difference(old[:size], new[:size])
    assert delta is not None
    assert apply(old[:size], delta) == new[:size]
