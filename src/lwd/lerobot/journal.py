"""What an import has done, one line for each episode, safe from kills and power cuts."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lwd.errors import ConflictError
from lwd.store.disk import make_folder, sync_folder


class Journal:
    """Append-only file of what is safe. A line that a kill cut short is dropped."""

    def __init__(self, folder: Path) -> None:
        """ConflictError if another process imports the same dataset."""
        self._path = make_folder(folder) / "journal.jsonl"
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConflictError(
                f"another process writes {folder}: the same dataset is being imported."
            ) from error
        self.done: dict[str, str] = {}
        for line in self._whole_lines():
            entry = json.loads(line)
            self.done[entry["key"]] = entry["id"]
        sync_folder(folder)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, key: str, episode_id: str, about: Mapping[str, Any]) -> None:
        """The episode is where it belongs: on return that survives a kill and a power cut."""
        line = json.dumps({"key": key, "id": episode_id, **about})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done[key] = episode_id

    def _whole_lines(self) -> list[bytes]:
        """Lines of the file, after cutting off an unfinished one."""
        text = self._path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            with self._path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        return text[:whole].splitlines()
