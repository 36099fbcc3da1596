"""Where a run stands, read from what its processes leave behind: catalog, spools, metrics."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lwd.config import PlaneConfig
from lwd.edge.spool import STATES
from lwd.episode.types import Kind, Outcome
from lwd.store.catalog import Catalog
from lwd.store.lines import Tail
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow


@dataclass
class Progress:
    """A run as an observer sees it."""

    phase: str = "starting"
    produced: int = 0
    """Episodes that robots saved."""
    acknowledged: int = 0
    """Episodes in the catalog."""
    snapshot: int = 0
    """Version of the newest dataset snapshot."""
    episodes: list[EpisodeRow] = field(default_factory=list)
    """Episodes in it."""
    available: dict[str, float] = field(default_factory=dict)
    """When the learner could first sample an episode."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """The learner's reports."""
    weights: list[WeightsRow] = field(default_factory=list)
    loads: list[LoadRow] = field(default_factory=list)

    def of(self, *kinds: Kind) -> list[EpisodeRow]:
        """Episodes of these kinds in the snapshot."""
        return [row for row in self.episodes if row.kind in kinds]

    def published(self, stage: str) -> WeightsRow | None:
        """Newest weights of a stage."""
        return next((row for row in reversed(self.weights) if row.stage == stage), None)


class Observer:
    """Keeps a `Progress` up to date; reading costs only what is new."""

    def __init__(self, plane: PlaneConfig, catalog: Catalog) -> None:
        self.progress = Progress()
        self._plane, self._catalog = plane, catalog
        self._metrics = Tail(plane.root / "learner.jsonl")

    def look(self) -> Progress:
        """Read once more."""
        now, catalog = self.progress, self._catalog
        now.produced = len(produced(self._plane.root))
        now.acknowledged = catalog.count_episodes()
        version = catalog.snapshot_version()
        now.episodes += catalog.snapshot_episodes(version, after=now.snapshot)
        now.snapshot = version
        now.available = catalog.availability()
        now.weights, now.loads = catalog.list_weights(), catalog.loads()
        now.metrics += map(json.loads, self._metrics.look())
        return now


def produced(root: Path) -> set[str]:
    """Ids of all episodes that robots saved, whatever became of them."""
    spools = root / "spool"
    return {path.stem for state in STATES for path in spools.glob(f"*/{state}/*.arrow")}


def waiting(root: Path) -> int:
    """Episodes that no catalog has acknowledged yet."""
    return sum(1 for _ in (root / "spool").glob("*/pending/*.arrow"))


def episode_latencies(now: Progress) -> list[float]:
    """Seconds from the end of an online episode to the learner being able to sample it."""
    return [
        now.available[row.episode_id] - row.produced_at
        for row in now.of(Kind.ONLINE)
        if row.episode_id in now.available
    ]


def model_latencies(now: Progress) -> list[float]:
    """Seconds from publishing online weights to a running robot acting with them.

    A robot that was in an episode when two versions came loads only the later one.
    """
    published = {row.version: row.published_at for row in now.weights if row.stage == "online"}
    return [
        load.loaded_at - published[load.version] for load in now.loads if load.version in published
    ]


def percentiles(seconds: Iterable[float]) -> dict[str, float | int | None]:
    """P50, P99 and count; None where nothing was measured."""
    values = sorted(seconds)
    p50, p99 = (float(np.percentile(values, p)) if values else None for p in (50, 99))
    return {"p50": p50, "p99": p99, "count": len(values)}


def success_by_robot(rows: Iterable[EpisodeRow]) -> dict[str, Counter[str]]:
    """Episodes and successes of every robot."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.robot]["episodes"] += 1
        counts[row.robot]["successes"] += row.outcome == Outcome.SUCCESS
        counts[row.robot]["human"] += row.interventions > 0
    return counts
