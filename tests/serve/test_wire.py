"""openpi's messages: the same bytes as its client, and nothing but numbers in."""

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwd.serve.wire import RequestError, pack, unpack

SAMPLE = bytes.fromhex(
    "81a161" + "84" + "c40b" + b"__ndarray__".hex() + "c3" + "c404" + b"data".hex()
    + "c40c" + np.arange(3, dtype="<f4").tobytes().hex()
    + "c405" + b"dtype".hex() + "a3" + b"<f4".hex() + "c405" + b"shape".hex() + "9103"
)  # fmt: skip
"""What openpi_client.msgpack_numpy packs of {"a": float32 [0, 1, 2]}."""


def test_the_bytes_are_those_of_openpis_client():
    assert pack({"a": np.arange(3, dtype=np.float32)}) == SAMPLE
    assert np.array_equal(unpack(SAMPLE)["a"], [0, 1, 2])


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "<i8", "<f2", "<f4", "<f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_arrays_come_back_as_they_were(dtype, shape):
    array = np.ones(shape, dtype)
    back = unpack(pack({"x": {"y": array}}))["x"]["y"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)


def test_an_array_of_any_order_in_memory_travels():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert np.array_equal(unpack(pack({"x": array}))["x"], array)


def test_scalars_and_texts_travel():
    message = {"n": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "s": "go", "f": 0.25}
    back = unpack(pack(message))
    assert back == message
    assert isinstance(back["n"], np.float32)


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([None]), np.zeros(2, complex), {1}])
def test_what_does_not_travel_is_not_packed(value):
    with pytest.raises(TypeError, match="does not travel"):
        pack({"x": value})


def array(**changes):
    fields = {b"__ndarray__": True, b"data": bytes(12), b"dtype": "<f4", b"shape": [3]}
    fields |= {key.encode(): value for key, value in changes.items()}
    return msgpack.packb({"x": fields})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (SAMPLE[:-3], "no msgpack"),
        (SAMPLE + b"\x00", "no msgpack"),
        (b"\x93\x01\x02\x03", "the message is a list"),
        (msgpack.packb({1: 2}), "names as keys"),
        (msgpack.packb({"x": msgpack.ExtType(5, b"abc")}), "no msgpack"),
        (array(shape=[4]), "12 bytes"),
        (array(shape=[-3]), "12 bytes"),
        (array(shape=[1] * 9), "12 bytes"),
        (array(shape=[2**40, 2**40]), "12 bytes"),
        (array(shape="abc"), "12 bytes"),
        (array(data="text"), "str"),
        (array(dtype="|O"), "dtype"),
        (array(dtype="V12"), "dtype"),
        (array(dtype="<c8"), "dtype"),
        (array(dtype="<f4,<f4"), "dtype"),
        (array(dtype=4), "dtype"),
        (array(dtype="not a dtype"), "dtype"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"dtype": "<i4", b"data": "a"}}), "scalar"),
        (b"\x91" * 100_000, "no msgpack"),
    ],
)  # fmt: skip
def test_hostile_bytes_are_refused_by_name(data, said):
    with pytest.raises(RequestError, match=said):
        unpack(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    with contextlib.suppress(RequestError):
        assert isinstance(unpack(data), dict)


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
def test_a_damaged_byte_is_a_message_or_refused(at, value):
    damaged = bytearray(SAMPLE)
    damaged[at] = value
    with contextlib.suppress(RequestError):
        assert isinstance(unpack(bytes(damaged)), dict)
