"""How long to wait before a retry: exponential with jitter, so that a fleet does not stampede."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Delays that double from `first_s` up to `limit_s`, each shortened by up to half at random."""

    first_s: float = 0.5
    limit_s: float = 30.0

    def delay(self, failures: int, draw: float) -> float:
        """Seconds after `failures` >= 1 failures in a row; `draw` is uniform in [0, 1)."""
        full = min(self.limit_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return full * (1.0 - 0.5 * draw)
