"""Which snapshot each draw of a run saw, so that a run that goes on sees the same once more.

Batches depend on the bound snapshot, and when a new one is bound depends on the clock. A learner
that died after its last checkpoint therefore leaves a line for each look at the catalog; the one
that goes on from the checkpoint binds the same versions before the same draws, until it is past
what was seen. So it makes the same updates again, and publishes the same policies.
"""

import logging
import math
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

from lwd.replay.reader import Reader
from lwd.store.lines import append, entries

log = logging.getLogger(__name__)


class _Bound(NamedTuple):
    """A look at the catalog."""

    draw: int
    """The next draw."""
    version: int
    """What was bound for it."""


_CONTENT = 2
"""Looks at one draw of a run that does not wait."""


class Bindings:
    """The looks of a run in a file that all hosts see; `keep` is true on the one that writes."""

    def __init__(self, reader: Reader, path: Path, *, keep: bool) -> None:
        self._reader, self._path, self._keep = reader, path, keep
        self._seen = _read(path)
        self._asked = (-1, 0)
        """The last draw that was answered, and how often in a row."""

    def forget(self) -> None:
        """A new run begins: what another one saw there does not count."""
        self._seen = []
        if self._keep:
            self._path.unlink(missing_ok=True)

    def sync(self, draw: int, *, within_s: float = math.inf) -> bool:
        """Bind what is to be seen from `draw` on; False while its payloads are still on the way.

        `within_s` is as in `Reader.sync`. All hosts must call this equally often. Once each for the
        end of a stage and the start of the next is all that a run asks at one draw, unless it waits
        for more than was there: then it sees what is newest, if nobody has come further before.
        """
        asked, times = self._asked
        times = times if asked == draw else 0
        if times >= _CONTENT and self._seen and draw >= self._seen[-1].draw:
            self._seen = []
        wanted = self._wanted(draw)
        version = self._reader.sync(at_most=wanted, within_s=within_s)
        if wanted is not None and version < wanted:
            return False
        self._asked = (draw, times + 1)
        if wanted is None:
            self._note(_Bound(draw, version))
        return True

    def _wanted(self, draw: int) -> int | None:
        """What was bound for a draw; None if nobody has come so far."""
        if not self._seen or draw > self._seen[-1].draw:
            return None
        last = bisect_right(self._seen, draw, key=lambda bound: bound.draw) - 1
        return self._seen[last].version if last >= 0 else None

    def _note(self, bound: _Bound) -> None:
        if not self._keep:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            append(file.fileno(), bound._asdict())


def _read(path: Path) -> list[_Bound]:
    """All whole lines; a kill may have torn some."""
    seen: list[_Bound] = []
    for found in entries(path):
        try:
            seen.append(_Bound(int(found["draw"]), int(found["version"])))
        except (ValueError, KeyError, TypeError):
            log.warning("line left out path=%s line=%.80s", path, found)
    return sorted(seen, key=lambda bound: bound.draw)
