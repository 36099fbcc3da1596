"""What became of every episode that a robot has made: nothing is dropped without a line about it.

Waiting, delivered and refused episodes are files; what has no file any more, or never had one, is
a line of <spool>/account.jsonl, appended whole by one call. A line about a deletion is written
before it, so that a kill in between leaves a file too many and never an episode without a trace.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lwd.store.lines import append, entries

NAME = "account.jsonl"


class Fate(StrEnum):
    """Why an episode is not in the spool."""

    EVICTED = "evicted"
    """Delivered; its copy made room under the quota."""
    FULL = "full"
    """Never saved: the quota or the disk was full until the robot had to stop."""
    POLICY = "policy"
    """Never saved: it is of a kind that is not kept, such as a demonstration that failed."""
    INVALID = "invalid"
    """Never saved: it breaks a rule of the payload."""
    DISCARDED = "discarded"
    """A kill cut it off inside, and the policy is to discard what was cut off."""
    RECOVERED = "recovered"
    """A kill cut it off inside; what there was of it was saved as truncated."""
    TORN = "torn"
    """A kill cut off its saving, or left no usable piece of it."""


KEPT = (Fate.EVICTED, Fate.RECOVERED)
"""Fates of episodes that are not lost to the fleet."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where a robot's episodes are."""

    robot: str
    waiting: int
    waiting_bytes: int
    delivered: int
    """Acknowledged, also those whose copy is gone."""
    refused: Mapping[str, str]
    """Episode to why the fleet will never take it; the payload is kept."""
    fates: Mapping[Fate, int]
    dropped: tuple[tuple[str, str], ...]
    """Episodes that were dropped, each with the reason, oldest first."""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"fates": {str(k): n for k, n in self.fates.items()}}


def note(spool: Path, fate: Fate, episode_id: str, reason: str = "") -> None:
    """Append a line; OSError where not even that can be written."""
    line = {"at": round(time.time(), 3), "fate": str(fate), "episode": episode_id, "reason": reason}
    descriptor = os.open(spool / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        append(descriptor, line)
    finally:
        os.close(descriptor)


def account(spool: Path) -> Account:
    """The account of one robot's spool."""
    lines = {line["episode"]: line for line in _lines(spool / NAME)}
    waiting = list((spool / "pending").glob("*.arrow"))
    done = {path.stem for path in (spool / "done").glob("*.arrow")}
    evicted = [e for e, line in lines.items() if line["fate"] == Fate.EVICTED and e not in done]
    gone = [line for line in lines.values() if Fate(line["fate"]) not in KEPT]
    notes = (spool / "rejected").glob("*.reason.txt")
    return Account(
        robot=spool.name,
        waiting=len(waiting),
        waiting_bytes=sum(path.stat().st_size for path in waiting if path.exists()),
        delivered=len(done) + len(evicted),
        refused={path.name.partition(".")[0]: path.read_text().strip() for path in sorted(notes)},
        fates=Counter(Fate(line["fate"]) for line in lines.values()),
        dropped=tuple((line["episode"], f"{line['fate']}: {line['reason']}") for line in gone),
    )


def _lines(path: Path) -> Iterator[dict[str, str]]:
    """Whole lines; a kill may have cut off one."""
    for found in entries(path):
        try:
            names = ("fate", "episode", "reason")
            yield {name: str(found[name]) for name in names} | {"fate": Fate(found["fate"])}
        except (ValueError, TypeError, KeyError):
            continue
