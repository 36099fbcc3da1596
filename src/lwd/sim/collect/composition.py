"""Table IV: how many hours of what the offline buffer has, and how far a buffer has come."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lwd.episode.types import Kind, Outcome
from lwd.errors import unknown
from lwd.sim.collect.journal import Entry

CELLS = ("demo", "success", "failure", "play")
"""Columns of the table: demonstrations, rollouts by outcome, play."""
TABLE_IV: Mapping[str, tuple[float, float, float, float]] = {
    "restocking": (14.5, 10.7, 1.7, 7.5),
    "correction": (12.7, 10.8, 1.7, 9.7),
    "freezer": (10.8, 7.7, 4.6, 3.3),
    "cooler": (11.1, 13.7, 1.3, 0.8),
    "tea": (102.3, 12.4, 4.4, 43.6),
    "juice": (100.5, 17.4, 14.7, 47.1),
    "cocktail": (47.3, 4.4, 7.4, 28.0),
    "shoes": (37.3, 11.7, 3.3, 48.0),
}
"""Hours of each cell."""
SOURCES: Mapping[Kind, tuple[str, ...]] = {
    Kind.DEMO: ("demo",),
    Kind.ROLLOUT: ("success", "failure"),
    Kind.PLAY: ("play",),
}
"""Cells that the episodes of a kind fill."""
_LEAST_ATTEMPTS = 10


def wanted_s(task: str, scale: float) -> dict[str, float]:
    """Robot seconds of each cell of a task."""
    if task not in TABLE_IV:
        raise unknown("task of Table IV", task, TABLE_IV)
    return {cell: h * 3600 * scale for cell, h in zip(CELLS, TABLE_IV[task], strict=True)}


def cell_of(kind: Kind, outcome: Outcome) -> str | None:
    """Cell that an episode belongs to: demonstrations succeed, play explores failures; None for
    one that the buffer has no use for."""
    if not outcome.judged:
        return None
    succeeded = outcome is Outcome.SUCCESS
    if kind is Kind.ROLLOUT:
        return "success" if succeeded else "failure"
    return str(kind) if succeeded == (kind is Kind.DEMO) else None


@dataclass
class Stream:
    """The attempts of one kind at one task, in the order of their numbers."""

    task: str
    kind: Kind
    wanted: Mapping[str, float]
    """Robot seconds of each cell that it fills."""
    effort: float

    def __post_init__(self) -> None:
        self.attempts = 0
        self.spent_s = 0.0
        self.made: dict[str, float] = dict.fromkeys(self.wanted, 0.0)
        self.episodes: dict[str, int] = dict.fromkeys(self.wanted, 0)

    def add(self, entry: Entry) -> None:
        """Count the next attempt."""
        self.attempts += 1
        self.spent_s += entry.seconds
        if entry.cell:
            self.made[entry.cell] += entry.seconds
            self.episodes[entry.cell] += 1

    def needs(self, cell: str | None) -> bool:
        """Whether a cell is still to be filled."""
        return cell is not None and self.made[cell] < self.wanted[cell]

    @property
    def filled(self) -> bool:
        """Whether nothing is missing."""
        return not any(map(self.needs, self.wanted))

    @property
    def given_up(self) -> bool:
        """Whether what is missing has had its share of attempts."""
        spent = self.spent_s >= self.effort * sum(self.wanted.values())
        return not self.filled and spent and self.attempts >= _LEAST_ATTEMPTS

    @property
    def progress(self) -> float:
        """Part of the wanted time that is made, 0 to 1."""
        made = sum(min(self.made[cell], self.wanted[cell]) for cell in self.wanted)
        return made / sum(self.wanted.values())


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """What has been made so far, next to what was wanted."""

    scale: float
    streams: tuple[Stream, ...]
    entries: tuple[Entry, ...]
    policies: int = 0
    """How many policies there are for rollouts."""

    @property
    def tasks(self) -> list[str]:
        """In the order of the table."""
        return list(dict.fromkeys(stream.task for stream in self.streams))

    def seconds(self) -> dict[tuple[str, str], tuple[float, float]]:
        """(task, cell) to (made, wanted) robot seconds; none of a kind that is not to be made."""
        none = {(task, cell): (0.0, 0.0) for task in self.tasks for cell in CELLS}
        return none | {
            (stream.task, cell): (stream.made[cell], wanted)
            for stream in self.streams
            for cell, wanted in stream.wanted.items()
        }

    def invalid(self) -> dict[str, int]:
        """Attempts of each task whose physics diverged."""
        counts: dict[str, int] = defaultdict(int)
        for entry in self.entries:
            counts[entry.task] += entry.outcome == Outcome.INVALID
        return counts


def streams(
    tasks: Iterable[str], scale: float, effort: float, kinds: Iterable[str] = tuple(SOURCES)
) -> list[Stream]:
    """Streams of some tasks and kinds, in the order of the table."""
    needs, found = {task: wanted_s(task, scale) for task in tasks}, []
    for task in sorted(needs, key=list(TABLE_IV).index):
        seconds = needs[task]
        for kind in (kind for kind in SOURCES if kind in kinds):
            cells = SOURCES[kind]
            wanted = {cell: seconds[cell] for cell in cells}
            found.append(Stream(task, kind, wanted, effort))
    return found
