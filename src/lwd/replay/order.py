"""The one order of a data set, and how far along it a reader has come."""

from collections.abc import Iterator, Sequence

from lwd.episode.types import Outcome
from lwd.store.rows import EpisodeRow


def trained_on(row: EpisodeRow) -> bool:
    """Whether an episode takes part in training: no held-out scene and no diverged physics."""
    return not row.held_out and row.outcome != Outcome.INVALID


class Order:
    """Rows by (snapshot version, episode id): the data set of a version is a prefix."""

    def __init__(self) -> None:
        self.rows: list[EpisodeRow] = []
        self.loaded = 0
        """How many rows have been dealt with."""
        self.version = 0
        """Newest version whose rows are known."""
        self._borders: list[tuple[int, int]] = []

    def extend(self, sizes: Sequence[tuple[int, int]], rows: Sequence[EpisodeRow]) -> None:
        """Add later versions: (version, episodes that joined in it), and the episodes."""
        end = len(self.rows)
        for version, added in sizes:
            end += added
            self._borders.append((version, end))
            self.version = version
        self.rows += rows
        if end != len(self.rows):
            raise AssertionError(f"Versions {list(sizes)} with {len(rows)} episodes.")

    def next_row(self) -> EpisodeRow | None:
        """The next row to deal with."""
        return self.rows[self.loaded] if self.loaded < len(self.rows) else None

    def completed(self) -> Iterator[int]:
        """Versions that are loaded in full, each once, oldest first."""
        while self._borders and self._borders[0][1] <= self.loaded:
            yield self._borders.pop(0)[0]
