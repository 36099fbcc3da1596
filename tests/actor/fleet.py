"""The metadata service and the object store in memory, with faults."""

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np

from lwd.actor.policy import Polling
from lwd.errors import ServiceError
from lwd.store.backoff import Backoff
from lwd.store.rows import LoadRow, WeightsRow

FAST = Polling(wait_s=0.05, backoff=Backoff(first_s=0.01, limit_s=0.02), attempts=3)
DEADLINE_S = 60.0


@dataclass
class Fleet:
    """The service and the object store in memory, with faults."""

    rows: list[WeightsRow] = field(default_factory=list)
    tensors: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    metadata: dict[int, dict[str, str]] = field(default_factory=dict)
    reported: list[LoadRow] = field(default_factory=list)
    fails: dict[int, list[Exception]] = field(default_factory=dict)
    """Errors that the next downloads of a version raise."""
    chain: str = ""
    """Where the chain of published versions ends."""
    down: bool = False
    asked: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def publish(
        self, gain: float, *, robot: str = "point", size: int = 1, extra: int = 0, chain: str = ""
    ) -> int:
        """`extra` is the size of a tensor that only some ways of acting need; `chain` is what the
        next version is chained to in place of this one."""
        with self.changed:
            version = len(self.rows) + 1
            self.tensors[version] = {"gain": np.full(size, gain, np.float32)}
            if extra:
                self.tensors[version]["extra/editor/w"] = np.zeros(extra, np.float32)
            self.metadata[version] = {"robot": robot}
            row = WeightsRow(
                version=version,
                sha256=f"{version:064x}",
                size_bytes=4,
                snapshot=1,
                stage="online",
                update=version,
            )
            self.rows.append(replace(row, chain=row.chained(self.chain)))
            self.chain = chain or self.rows[-1].chain
            self.changed.notify_all()
            return version

    def latest_weights(self, after: int, wait_s: float) -> WeightsRow | None:
        with self.changed:
            self.asked += 1
            if self.down:
                raise ServiceError("connection refused")
            if not self.changed.wait_for(lambda: len(self.rows) > after, wait_s):
                return None
            return self.rows[-1]

    def report_load(self, row: LoadRow) -> None:
        if self.down:
            raise ServiceError("connection refused")
        self.reported.append(row)

    def download(self, row: WeightsRow):
        if self.fails.get(row.version):
            raise self.fails[row.version].pop()
        return self.tensors[row.version], self.metadata[row.version]


def until(condition) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true in time"
        time.sleep(0.005)
