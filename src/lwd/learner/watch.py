"""What the updates said, read while the next ones are computed."""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lwd.errors import NonFiniteError
from lwd.learner.loss import ROW_LOSS, Metrics
from lwd.replay.batch import Batch

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """Metrics of one update, still on the device, and the rows it used."""

    metrics: Metrics
    rows: Batch
    draw: int


class Watch:
    """Collects metrics without waiting for the device, and counts skipped updates in a row.

    `feedback` is given the draw and the TD losses [batch] of every applied update that says them.
    """

    def __init__(
        self, max_skipped: int, feedback: Callable[[int, np.ndarray], None] | None = None
    ) -> None:
        self.max_skipped, self.skipped, self._feedback = max_skipped, 0, feedback
        self._pending: list[Seen] = []
        self._read: list[dict[str, float]] = []

    def add(self, metrics: Metrics, rows: Batch, draw: int = 0) -> None:
        """Note an update that was dispatched; look at the one before it, which has finished."""
        self._pending.append(Seen(metrics, rows, draw))
        self._look(self._pending[:-1])
        self._pending = self._pending[-1:]

    def settle(self) -> None:
        """Wait for the update that was dispatched last, and look at it."""
        self._look(self._pending)
        self._pending = []

    def means(self) -> dict[str, float]:
        """Mean of every metric over the applied updates since the last call."""
        self.settle()
        read, self._read = self._read, []
        names = dict.fromkeys(name for metrics in read for name in metrics)
        return {name: float(np.mean([m[name] for m in read if name in m])) for name in names}

    def _look(self, seen: Iterable[Seen]) -> None:
        for metrics, rows, draw in seen:
            values = {name: float(v) for name, v in metrics.items() if name != ROW_LOSS}
            if values.pop("finite"):
                self.skipped = 0
                self._read.append(values)
                if self._feedback and ROW_LOSS in metrics:
                    self._feedback(draw, np.asarray(metrics[ROW_LOSS]))
                continue
            self.skipped += 1
            bad = sorted(name for name, value in values.items() if not np.isfinite(value))
            bad = bad or ["parameters or moments of an optimiser"]
            episodes = sorted(set(rows.episode.tolist()))
            log.error(
                "update skipped: not finite: %s episodes=%s", ",".join(bad), ",".join(episodes)
            )
            if self.skipped > self.max_skipped:
                raise NonFiniteError(
                    f"{self.skipped} updates in a row were not finite in {', '.join(bad)}; none "
                    f"was applied. The last batch came from episodes {', '.join(episodes[:8])}. "
                    f"Lower the learning rate or inv_temp, or look at those episodes."
                )
