"""The shaped link's arithmetic: pace, delay, loss and a buffer that overflows."""

import random

from benchmarks.latency.link import BUFFER_S, Shape, Way

PACKET = bytes(1250)
"""10,000 bits: 1 ms at 10 Mbit/s."""


def arrivals(shape: Shape, sent: list[float]) -> list[float]:
    """When packets that are sent at these times arrive."""
    way, found = Way(shape, random.Random(0)), []
    for now in sent:
        way.enter(PACKET, now)
    while way.next_s < float("inf"):
        now = way.next_s
        found += [now for _ in way.leave(now)]
    return found


def test_packets_are_paced_and_delayed():
    found = arrivals(Shape(mbit_s=10, delay_s=0.02, loss=0.0), [0.0, 0.0, 0.0, 1.0])
    assert [round(at, 6) for at in found] == [0.021, 0.022, 0.023, 1.021]


def test_some_are_lost():
    found = arrivals(Shape(mbit_s=1000, delay_s=0.0, loss=0.1), [0.01 * k for k in range(2000)])
    assert 0.85 < len(found) / 2000 < 0.95


def test_a_burst_beyond_the_buffer_is_dropped():
    found = arrivals(Shape(mbit_s=10, delay_s=0.0, loss=0.0), [0.0] * 500)
    assert abs(len(found) - BUFFER_S / 0.001) <= 1
