"""A pace holds over any stretch of time, and a stop ends the wait."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwd.errors import ServiceError
from lwd.store.pace import BURST_S, SMALLEST_BYTES, Pace


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 500)), min_size=1))
def test_never_more_than_the_pace_and_one_burst(asked) -> None:
    now = 0.0
    pace = Pace(100.0, clock=lambda: now)
    sent: list[tuple[float, int]] = []
    for pause_s, size in asked:
        now += pause_s
        now += pace.reserve_s(size)
        sent.append((now, size))
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            took = sent[last][0] - sent[first][0]
            # What is sent at the end of a reservation was paid for before the stretch began.
            total = sum(size for _, size in sent[first + 1 : last + 1])
            assert total <= 100.0 * (took + BURST_S) + 1e-6


def test_without_a_bound_nothing_waits() -> None:
    assert Pace().reserve_s(1 << 40) == 0.0
    assert Pace().piece_bytes(123) == 123


def test_pieces_are_small_where_the_pace_is_slow() -> None:
    assert Pace(1e9).piece_bytes(2 << 20) == 2 << 20
    assert Pace(300_000.0).piece_bytes(2 << 20) == 300_000
    assert Pace(10.0).piece_bytes(2 << 20) == SMALLEST_BYTES


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    pace = Pace(1.0, stop=stop)
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(ServiceError, match="goes on at the next start"):
        pace.take(1_000_000)
