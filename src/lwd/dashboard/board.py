"""What the page shows, kept up to date: one look reads what is new and notes what has changed.

Whoever watches remembers the revision that it has seen and asks for what is newer, so that a slow
browser skips states instead of queueing them.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from lwd.dashboard import records, statistics
from lwd.dashboard.curves import Reports, curves
from lwd.dashboard.records import Brief, Counts, Since
from lwd.dashboard.robots import FRESH_S, RobotRow, overview
from lwd.store.amendments import Amendment
from lwd.store.engine import transact
from lwd.store.handovers import Handover
from lwd.store.heartbeats import Beat
from lwd.store.metrics import LOOK_S
from lwd.store.rows import LoadRow, WeightsRow

log = logging.getLogger(__name__)

SECTIONS = ("numbers", "success", "episodes", "learner", "policies", "audit")
"""Parts of the page that are asked for when they have changed; robots come by themselves."""


Beats = Callable[[], Iterable[Beat]]
"""Where heartbeats come from: the metadata service, as far as it answers."""


class Board:
    """The state of the fleet as the page sees it. `look` is for one thread, reading for any."""

    def __init__(
        self, engine: Engine, root: Path, beats: Beats, clock: Callable[[], float]
    ) -> None:
        self._engine, self._root, self._read_beats, self._clock = engine, root, beats, clock
        self._reports = Reports(root / "learner.jsonl")
        self._lock = threading.Lock()
        self._since = Since()
        self._forget()
        self.revision = 0
        """Grows with every look that found something."""
        self.numbers: dict[str, Any] = {}
        self.changed_at = dict.fromkeys(SECTIONS, 0)
        """Section to the revision of its last change."""
        self._robots: dict[str, tuple[int, RobotRow]] = {}

    def _forget(self) -> None:
        self._since = Since()
        self._briefs: dict[str, Brief] = {}
        self._by_robot: dict[str, list[Brief]] = defaultdict(list)
        self._corrected: list[Brief] = []
        self._left = 0
        """Members that a snapshot has taken out."""
        self._joined: dict[str, float] = {}
        self._available: dict[str, float] = {}
        self._loads: list[LoadRow] = []
        self._last_load: dict[str, LoadRow] = {}
        self.weights: list[WeightsRow] = []
        self.amendments: list[Amendment] = []
        self.handovers: list[Handover] = []

    def look(self) -> bool:
        """Read once more; whether anything has changed."""
        started = time.perf_counter()
        changed = self._look()
        LOOK_S.observe(time.perf_counter() - started)
        return changed

    def _look(self) -> bool:
        news = transact(self._engine, lambda c: records.read(c, self._since), write=False)
        beats = {beat.robot: beat for beat in self._read_beats()}
        with self._lock:
            changed = self._take(news)
            if len(self._briefs) < news.counts.episodes:  # a service's clock was far behind
                self._forget()
                whole = transact(self._engine, lambda c: records.read(c, Since()), write=False)
                changed |= self._take(whole)
            reports = len(self._reports.every)
            changed |= {"learner"} if self._reports.look() != reports else set()
            return self._note(changed, news.counts, beats)

    def robots(self, after: int = 0) -> list[dict[str, Any]]:
        """Lines of robots that have changed after a revision."""
        with self._lock:
            found = [row for revision, row in self._robots.values() if revision > after]
        return [asdict(row) for row in found]

    def success(self, *, unaided: bool = False) -> dict[str, Any]:
        """Success of each task over time."""
        with self._lock:
            episodes = list(self._corrected)
        return statistics.success_over_time(episodes, unaided=unaided)

    def learner(self) -> dict[str, Any]:
        """Curves of the learner."""
        with self._lock:
            return curves(self._reports.every)

    def acting(self) -> dict[str, int]:
        """Robot to the policy that it reported last."""
        with self._lock:
            return {robot: load.version for robot, load in self._last_load.items()}

    def _take(self, news: records.News) -> set[str]:
        """Keep what is new; sections that it changes."""
        changed: set[str] = set()
        new = [brief for brief in news.episodes if brief.episode_id not in self._briefs]
        self._briefs |= {brief.episode_id: brief for brief in new}
        if new or news.amendments != self.amendments:
            changed |= {"success", "episodes"}
            whole = news.amendments != self.amendments
            self._correct(new, news.amendments, whole=whole)
        if news.amendments != self.amendments or news.weights != self.weights:
            changed |= {"audit", "policies"}
        if news.handovers:
            changed |= {"audit"}
        if news.loads:
            changed |= {"policies"}
        if news.counts.snapshot != self._since.snapshot:
            changed |= {"episodes"}
        self.amendments, self.weights = news.amendments, news.weights
        self._loads = (self._loads + news.loads)[-statistics.NEWEST :]
        self._last_load |= {load.robot: load for load in news.loads}
        self.handovers = (self.handovers + news.handovers)[-records.NEWEST :]
        self._joined |= news.joined
        self._available = {**news.available, **self._available}
        self._since = Since(
            inserted_at=max([self._since.inserted_at, *(b.inserted_at for b in new)]),
            snapshot=news.counts.snapshot,
            available_at=max([self._since.available_at, *news.available.values()]),
            load_id=news.load_id,
            handover_id=self.handovers[-1].handover_id if self.handovers else 0,
        )
        return changed

    def _correct(self, new: list[Brief], amendments: list[Amendment], *, whole: bool) -> None:
        """Episodes as people have corrected them; all anew where a correction has come."""
        changes = statistics.corrections(amendments)
        found = statistics.corrected(self._briefs.values() if whole else new, changes)
        if whole:
            applied = statistics.corrections(a for a in amendments if a.version is not None)
            self._left = sum(not change.present for change in applied.values())
            self._corrected = found
            self._by_robot = defaultdict(list)
        else:
            self._corrected += found
        for brief in found:
            self._by_robot[brief.robot].append(brief)

    def _note(self, changed: set[str], counts: Counts, beats: dict[str, Beat]) -> bool:
        """Give everything that differs from the last look the next revision."""
        rows = overview(self._by_robot, self._last_load, beats, self.weights, now=self._clock())
        off = {name for name, row in rows.items() if row.clock_off_s}
        numbers = self._numbers(counts, beats, off)
        moved = {
            name: row
            for name, row in rows.items()
            if name not in self._robots or self._robots[name][1] != row
        }
        if numbers != self.numbers:
            changed = changed | {"numbers"}
        if not moved and not changed:
            return False
        self.revision += 1
        self._robots |= {name: (self.revision, row) for name, row in moved.items()}
        self.changed_at |= dict.fromkeys(changed, self.revision)
        self.numbers = numbers
        return True

    def _numbers(self, counts: Counts, beats: dict[str, Beat], off: set[str]) -> dict[str, Any]:
        """What the whole fleet comes to; the clocks of the robots `off` are wrong."""
        here = sum(1 for _ in (self._root / "spool").glob("*/pending/*.arrow"))
        said = (b.pending for b in beats.values() if self._clock() - b.received_at < FRESH_S)
        pending = max(here, sum(said))
        return {
            "produced": counts.episodes + pending,
            "uploaded": counts.episodes,
            "in_snapshot": counts.members - self._left,
            "sampled": len(self._available),
            "snapshot": counts.snapshot,
            "waiting": counts.waiting,
            "dead_letters": counts.dead_letters,
            "notices": counts.backlog,
            "amendments_waiting": sum(a.version is None for a in self.amendments),
            "policy": self.weights[-1].version if self.weights else None,
            "latency_s": statistics.episode_latencies(
                self._corrected[-statistics.NEWEST :], self._joined, self._available, off=off
            )
            | {"policy to robot": statistics.model_latency(self.weights, self._loads, off=off)},
        }
