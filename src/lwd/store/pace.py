"""A bound on the bytes per second that a process sends: a token bucket shared by its threads."""

import threading
import time
from collections.abc import Callable

from lwd.errors import ServiceError

BURST_S = 1.0
"""What was not used of this time may be sent at once."""
SMALLEST_BYTES = 64 << 10


class Pace:
    """At most `bytes_per_s` on average; 0 is unlimited."""

    def __init__(
        self,
        bytes_per_s: float = 0.0,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`stop` ends every wait: what is not sent then can be sent later."""
        self.bytes_per_s = bytes_per_s
        self._stop = stop or threading.Event()
        self._clock = clock
        self._free_at = clock() - BURST_S
        self._lock = threading.Lock()

    def reserve_s(self, size: int) -> float:
        """Seconds after which these bytes may be sent; whoever asks next comes after them."""
        if not self.bytes_per_s:
            return 0.0
        with self._lock:
            now = self._clock()
            start = max(self._free_at, now - BURST_S)
            self._free_at = start + size / self.bytes_per_s
            return max(0.0, self._free_at - now)

    def take(self, size: int) -> None:
        """Wait until these bytes may be sent; ServiceError if `stop` is set meanwhile."""
        if self._stop.wait(self.reserve_s(size)):
            raise ServiceError("The upload stops here, and goes on at the next start.")

    def piece_bytes(self, most: int) -> int:
        """Size of the pieces in which to send, so that a slow pace has no bursts."""
        if not self.bytes_per_s:
            return most
        return int(min(most, max(SMALLEST_BYTES, self.bytes_per_s * BURST_S)))
