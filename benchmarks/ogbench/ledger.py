"""What is kept of a cell: one JSON with its evaluations, written whole or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from benchmarks.record import commit


def replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write aside, flush to the disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with aside.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


class Ledger:
    """Evaluations of one cell, in the order of its updates."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Continue the file if it is there. Raises ValueError if that was another cell."""
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self.facts = json.loads(json.dumps(facts))
        if not path.exists():
            return
        found = json.loads(path.read_text())
        self.entries = found.pop("evaluations")
        other = {k: found.get(k) for k in self.facts if found.get(k) != self.facts[k]}
        if other:
            asked = {key: self.facts[key] for key in other}
            raise ValueError(f"{path} is of another cell: it has {other}, asked is {asked}.")

    def evaluated(self, updates: int) -> bool:
        """Whether there is an evaluation after so many updates."""
        return any(entry["updates"] == updates for entry in self.entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Append an evaluation, with the commit that made it, and write the file."""
        self.entries.append(entry | {"commit": commit()})
        text = json.dumps(self.facts | {"evaluations": self.entries}, indent=1)
        replace(self.path, lambda file: file.write(text.encode()))
