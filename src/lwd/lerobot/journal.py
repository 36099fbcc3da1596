"""What an import has done, one line for each episode, safe from kills and power cuts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lwd.store.disk import sync_folder
from lwd.store.lines import Log


class Journal:
    """Append-only file of what is safe. A line that a kill cut short is dropped."""

    def __init__(self, folder: Path) -> None:
        """ConflictError if another process imports the same dataset."""
        busy = f"another process writes {folder}: the same dataset is being imported."
        self._log = Log(folder / "journal.jsonl", busy=busy)
        self.done: dict[str, str] = {entry["key"]: entry["id"] for entry in self._log.before}
        sync_folder(folder)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._log.close()

    def append(self, key: str, episode_id: str, about: Mapping[str, Any]) -> None:
        """The episode is where it belongs: on return that survives a kill and a power cut."""
        self._log.append({"key": key, "id": episode_id, **about})
        self.done[key] = episode_id
