"""Keeps time for what happens in ticks."""

import time
from collections.abc import Callable


class Metronome:
    """Ticks a period apart, whatever each of them takes.

    Who is late catches up, unless by more than `patience` ticks: then time counts from now on, so
    that nothing races after it stood still.
    """

    def __init__(
        self,
        period_s: float,
        patience: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._period_s, self._patience_s = period_s, patience * period_s
        self._clock, self._sleep = clock, sleep
        self._due = clock()

    def start(self) -> None:
        """The first tick ends a period from now."""
        self._due = self._clock()

    def wait(self) -> None:
        """Sleep until this tick is over."""
        now = self._clock()
        self._due += self._period_s
        if now - self._due > self._patience_s:
            self._due = now
        self._sleep(max(0.0, self._due - now))
