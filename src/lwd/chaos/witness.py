"""What robots and readers saw, written down where a kill cannot take it back: evidence."""

from pathlib import Path
from typing import Any

from lwd.edge.spool import Spool
from lwd.store.lines import append


class Journal:
    """Lines of JSON, each written by one call; OSError where one is not whole."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, **entry: Any) -> None:
        """Append an entry."""
        append(self._file.fileno(), entry)


class WitnessedSpool(Spool):
    """A spool that writes down what it has been given and what it has promised to keep."""

    def __init__(self, root: Path, quota_bytes: int, journal: Journal):
        super().__init__(root, quota_bytes)
        self._journal = journal

    def save(self, episode_id: str, payload: bytes) -> None:
        """As `Spool.save`: `begun` is written before it, `saved` after it has returned."""
        self._journal.write(begun=episode_id)
        super().save(episode_id, payload)
        self._journal.write(saved=episode_id)
