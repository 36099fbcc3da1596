"""What `lwd sim collect` has done, one line for each attempt, safe from kills and power cuts."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lwd.errors import ConfigError, ConflictError
from lwd.store.disk import make_folder, sync_folder


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
        self._path = make_folder(folder) / "journal.jsonl"
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConflictError(
                f"another process collects into {folder}; stop it first."
            ) from error
        self.entries: list[Entry] = []
        lines = self._whole_lines()
        if not lines:
            self._append(dict(settings))
            sync_folder(folder)
            return
        given = json.loads(lines[0])
        if given != dict(settings):
            self._file.close()
            different = sorted(k for k in settings if given.get(k) != settings[k])
            raise ConfigError(
                f"{folder} holds a buffer of other settings ("
                + ", ".join(f"{k} was {given.get(k)}, now {settings[k]}" for k in different)
                + "). Give the same ones to go on, or another --root."
            )
        self.entries = [Entry(**json.loads(line)) for line in lines[1:]]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def append(self, entry: Entry) -> None:
        """Write an attempt down: on return it survives a kill and a power cut."""
        self._append(asdict(entry))
        self.entries.append(entry)

    def _append(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(values).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _whole_lines(self) -> list[bytes]:
        """Lines of the file, after cutting off an unfinished one."""
        text = self._path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            with self._path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        return text[:whole].splitlines()
