"""What a robot must not forget when its process dies: which scenes it has had."""

import fcntl
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np

from lwd.errors import ConflictError
from lwd.store.disk import make_folder, written_aside

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Contents of the ledger."""

    started: int = 0
    """Episodes begun so far; the next one has this number."""
    running: str = ""
    """Kind of the episode under way, empty between episodes."""
    saved: Mapping[str, int] = field(default_factory=dict)
    """Episodes saved of each kind."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """How episodes ended, also those that were not kept; what is missing died with the process."""


def read(folder: Path) -> Entries:
    """Contents of a ledger, also of one that a process holds; empty where there is none."""
    path = folder / "ledger.json"
    return Entries(**json.loads(path.read_bytes())) if path.exists() else Entries()


class Ledger:
    """Counts a robot's episodes on disk; one process at a time may hold it.

    A number is written down before its episode starts, so no scene ever comes twice.
    """

    def __init__(self, folder: Path, robot: str) -> None:
        """ConflictError when another process drives this robot."""
        make_folder(folder)
        self._robot, self._path = robot, folder / "ledger.json"
        self._lock = _locked(folder / "ledger.lock", robot)
        self._entries = read(folder)
        if self._entries.running:
            log.warning(
                "episode cut off robot=%s number=%d kind=%s reason=the process ended inside it",
                *(robot, self._entries.started - 1, self._entries.running),
            )

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the robot."""
        self._lock.close()

    def saved(self, kind: str) -> int:
        """Episodes of a kind saved so far, over all processes."""
        return self._entries.saved.get(kind, 0)

    @property
    def running(self) -> bool:
        """Whether an episode has begun that has not ended, after a kill the one it cut off."""
        return bool(self._entries.running)

    def begin(self, kind: str) -> int:
        """Number of the episode that starts now."""
        number = self._entries.started
        self._write(replace(self._entries, started=number + 1, running=kind))
        return number

    def end(self, *, saved: bool, outcome: str = "") -> None:
        """The episode is over; `saved` if it is in the spool and counts. An `outcome` that is
        empty is one that never came."""
        counts, outcomes = Counter(self._entries.saved), Counter(self._entries.outcomes)
        counts[self._entries.running] += saved
        outcomes[outcome or "none"] += 1
        ended = {"saved": dict(counts), "outcomes": dict(outcomes)}
        self._write(replace(self._entries, running="", **ended))

    def _write(self, entries: Entries) -> None:
        with written_aside(self._path) as file:
            file.write(json.dumps(asdict(entries)).encode())
        self._entries = entries


def scene_seed(fleet_seed: int, index: int, number: int) -> int:
    """Seed of a robot's episode: 53 random bits, so that JSON readers of any language keep it."""
    (word,) = np.random.SeedSequence(fleet_seed, spawn_key=(index, number, 0)).generate_state(
        1, np.uint64
    )
    return int(word) >> 11


def operator_rng(fleet_seed: int, index: int, number: int) -> np.random.Generator:
    """Random draws of the operator in a robot's episode, independent of the scene's."""
    return np.random.default_rng(np.random.SeedSequence(fleet_seed, spawn_key=(index, number, 1)))


def _locked(path: Path, robot: str) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConflictError(
            f"robot {robot!r} is driven by another process, which holds {path}; stop that process "
            "or give this robot another name."
        ) from error
    return file
