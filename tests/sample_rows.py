"""Rows of the catalog for tests, and a clock."""

from dataclasses import replace

from lwd.store.rows import EpisodeRow, WeightsRow


class Clock:
    """A clock that moves when told, and where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def row(number: int, **changes) -> EpisodeRow:
    plain = EpisodeRow(
        episode_id=f"{number:032x}",
        sha256=f"{number:064x}",
        size_bytes=100,
        robot="arm-1",
        task="make_tea",
        instruction="Make tea.",
        kind="online",
        policy_version=3,
        outcome="success",
        terminated=True,
        truncated=False,
        ticks=50,
        rate_hz=10.0,
        horizon=10,
        produced_at=999.0,
    )
    return replace(plain, **changes)


POLICY = WeightsRow(
    version=0, sha256="a" * 64, size_bytes=10, snapshot=1, stage="online", update=100
)
