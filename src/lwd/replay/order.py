"""The one order of a data set, and how far along it a reader has come."""

from collections import deque
from collections.abc import Iterator, Sequence, Set

from lwd.episode.types import Outcome
from lwd.store.history import Entry
from lwd.store.rows import EpisodeRow

Position = tuple[int, str]
START: Position = (0, "")


def trained_on(row: EpisodeRow) -> bool:
    """Whether an episode takes part in training: no held-out scene and no diverged physics."""
    return not row.held_out and row.outcome != Outcome.INVALID


class Order:
    """Entries by (snapshot version, episode id): a data set is what a prefix of them says."""

    def __init__(self) -> None:
        self.rows: list[EpisodeRow] = []
        """Whose payloads are needed, in this order."""
        self.loaded = 0
        """How many of these have been dealt with."""
        self.version = 0
        """Newest version that is known."""
        self.position = START
        """Of the last entry that has been dealt with."""
        self._entries: list[Entry] = []
        self._done = 0
        self._open: deque[int] = deque()

    def extend(self, version: int, entries: Sequence[Entry], *, floor: int = 0) -> None:
        """Add what happened up to `version`; versions before `floor` can not be had any more."""
        if lost := {entry.row.episode_id for entry in entries if entry.lost}:
            self._entries[self._done :] = without(self._entries[self._done :], lost)
            self.rows[self.loaded :] = _rows(self._entries[self._done :])
        self._entries += entries
        self.rows += _rows(entries)
        self._open.extend(range(max(self.version + 1, floor), version + 1))
        self.version = version

    def next_entry(self) -> Entry | None:
        """The next entry to deal with."""
        return self._entries[self._done] if self._done < len(self._entries) else None

    def advance(self) -> None:
        """The next entry has been dealt with."""
        entry = self._entries[self._done]
        self._done += 1
        self.loaded += entry.present
        self.position = position(entry)

    def completed(self) -> Iterator[int]:
        """Versions that are loaded in full, each once, oldest first."""
        entry = self.next_entry()
        while self._open and (entry is None or entry.version > self._open[0]):
            yield self._open.popleft()


def position(entry: Entry) -> Position:
    """Place of an entry in the order, which is the same for everybody."""
    return (entry.version, entry.row.episode_id)


def without(entries: Sequence[Entry], lost: Set[str]) -> list[Entry]:
    """The entries that do not need a payload which is lost."""
    return [entry for entry in entries if entry.row.episode_id not in lost]


def _rows(entries: Sequence[Entry]) -> list[EpisodeRow]:
    return [entry.row for entry in entries if entry.present]
