"""What `lwd sim collect` has done, one line for each attempt, safe from kills and power cuts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lwd.errors import ConfigError
from lwd.store.disk import sync_folder
from lwd.store.lines import Log


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One attempt."""

    task: str
    kind: str
    number: int
    episode_id: str
    outcome: str
    seconds: float
    """Robot time."""
    cell: str
    """Cell of Table IV that it helps to fill; empty if it was not kept."""
    policy: str = ""
    """File that acted."""
    cpu_s: float = 0.0
    """Process time; 0 where a kill made us forget."""


class Journal:
    """Append-only file: settings first, then entries. A line that a kill cut short is dropped."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """ConfigError if the folder holds a buffer of other settings; ConflictError if another
        process writes it."""
        settings = json.loads(json.dumps(settings))  # as the file gives them back
        busy = f"another process collects into {folder}; stop it first."
        self._log = Log(folder / "journal.jsonl", busy=busy)
        self.entries: list[Entry] = []
        if not self._log.before:
            self._log.append(settings)
            sync_folder(folder)
            return
        given, *entries = self._log.before
        if given != settings:
            self._log.close()
            different = sorted(k for k in settings if given.get(k) != settings[k])
            raise ConfigError(
                f"{folder} holds a buffer of other settings ("
                + ", ".join(f"{k} was {given.get(k)}, now {settings[k]}" for k in different)
                + "). Give the same ones to go on, or another --root."
            )
        self.entries = [Entry(**entry) for entry in entries]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        self._log.close()

    def append(self, entry: Entry) -> None:
        """Write an attempt down: on return it survives a kill and a power cut."""
        self._log.append(asdict(entry))
        self.entries.append(entry)
