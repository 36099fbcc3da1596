"""Deltas: lossless for any bytes, small for small changes, and damage is found before use."""

import ml_dtypes
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lwd.errors import IntegrityError
from lwd.store.delta import apply, difference


@given(st.binary(max_size=400), st.randoms(use_true_random=False))
def test_any_two_artifacts_of_one_size_come_back(old, random):
    old = old[: len(old) // 4 * 4]
    new = random.randbytes(len(old))
    delta = difference(old, new)
    assert delta is not None
    assert apply(old, delta) == new


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
def test_a_small_step_makes_a_small_delta(dtype):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=20_000).astype(np.float32)
    step = weights * (1 + 1e-4 * rng.normal(size=weights.shape).astype(np.float32))
    old, new = weights.astype(dtype).tobytes(), step.astype(dtype).tobytes()
    delta = difference(old, new)
    assert delta is not None
    assert len(delta) < 0.75 * len(zstandard.compress(new))
    assert apply(old, delta) == new


def test_artifacts_of_different_sizes_have_no_delta():
    assert difference(b"1234", b"12345678") is None
    assert difference(b"12345", b"54321") is None, "no whole numbers"


@pytest.mark.parametrize("damage", ["empty", "width", "frame", "size", "cut"])
def test_a_damaged_delta_is_refused(damage):
    old, new = bytes(range(64)), bytes(range(64, 128))
    delta = difference(old, new)
    assert delta is not None
    damaged = {
        "empty": b"",
        "width": b"\x07" + delta[1:],
        "frame": delta[:1] + b"nothing like zstd",
        "size": delta[:1] + zstandard.compress(bytes(1 << 20)),
        "cut": delta[:-3],
    }[damage]
    with pytest.raises(IntegrityError, match="delta"):
        apply(old, damaged)


def test_the_wrong_base_makes_something_else():
    old, new = bytes(range(64)), bytes(range(64, 128))
    delta = difference(old, new)
    assert delta is not None
    assert apply(bytes(64), delta) != new
