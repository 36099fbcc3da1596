"""What one client may ask of the service: size of a body, requests per second. Pure decisions."""

import math
import threading
import time
from collections.abc import Callable

MAX_BODY_BYTES = 64 * 1024
BURST_S = 2.0
"""Requests of this time may come at once."""
MOST_CLIENTS = 100_000
"""Clients that are remembered; those that have been silent for longest are forgotten."""


class Rates:
    """A token bucket for each client; safe to share between threads."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic):
        """`per_s` requests of each client; 0 is without limit."""
        self._per_s, self._clock = per_s, clock
        self._free_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait_s(self, client: str) -> float:
        """0 if the client may ask now, else seconds until it may; a refusal costs it nothing."""
        if not self._per_s:
            return 0.0
        with self._lock:
            now = self._clock()
            free_at = max(self._free_at.pop(client, -math.inf), now - BURST_S)
            wait_s = max(0.0, free_at + 1.0 / self._per_s - now)
            self._free_at[client] = free_at if wait_s else free_at + 1.0 / self._per_s
            if len(self._free_at) > MOST_CLIENTS:
                del self._free_at[next(iter(self._free_at))]
            return wait_s


def body_fault(method: str, length: str, most: int = MAX_BODY_BYTES) -> tuple[int, str] | None:
    """Status and words for a body that is refused by its Content-Length; None if it is fine."""
    announced = length.isascii() and length.isdigit()
    if method not in ("GET", "HEAD") and not announced:
        return 411, "Send a Content-Length."
    if announced and int(length[:20]) > most:
        return 413, f"The body exceeds {most} bytes."
    return None
