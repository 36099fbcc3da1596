"""The episode that is being recorded, on disk piece by piece, so that a kill leaves most of it.

<spool>/drafts/<id>/<number>.arrow, each the payload of the ticks since the piece before. Pieces
survive the kill of the process; they are not synced, so that a power cut may cost the last seconds.
"""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from lwd.edge.account import Fate, note
from lwd.edge.spool import Spool
from lwd.episode.payload import decode, encode, header
from lwd.episode.types import Episode, Header, Outcome
from lwd.errors import EpisodeError, PayloadError

log = logging.getLogger(__name__)


class Drafts:
    """Pieces of the running episode of one robot; its spool's writer owns them."""

    def __init__(self, spool: Spool):
        self._spool = spool
        self._root = spool.root / "drafts"

    def add(self, number: int, piece: Episode) -> None:
        """Keep a piece. A disk that is full, or a piece that is no valid episode, costs the draft
        only: whether the episode is kept is decided at its end."""
        folder = self._root / piece.header.episode_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside = folder / f".{number}.part"
            aside.write_bytes(encode(piece))
            aside.rename(folder / f"{number:06d}.arrow")
        except (OSError, EpisodeError) as error:
            log.debug("draft incomplete episode=%s reason=%s", folder.name, error)

    def ended(self, episode_id: str) -> None:
        """The episode is about to be saved: from here on a kill leaves its name, even where it was
        too short for a piece."""
        with suppress(OSError):
            (self._root / episode_id).mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """The running episode is over: saved, or dropped with its own line in the account."""
        shutil.rmtree(self._root, ignore_errors=True)

    def recover(self, *, keep: bool, why: str) -> Header | None:
        """What is left of an episode that was cut off: saved as truncated if `keep`, or discarded;
        either way with a line in the account. One that the spool has already is left as it is.

        The header of what the spool has of it; None if there was nothing, or nothing was kept.
        ServiceError if the spool is full: the draft stays for the next start.
        """
        saved = None
        for folder in sorted(self._root.glob("*")):
            saved = self._recover(folder, keep, why) or saved
        self.clear()
        return saved

    def _recover(self, folder: Path, keep: bool, why: str) -> Header | None:
        episode_id = folder.name
        if found := self._spool.find(episode_id):
            with suppress(PayloadError):  # one that rots on the disk is the uploader's matter
                return header(found[1])
            return None
        pieces = _whole(folder)
        if not pieces:
            note(self._spool.root, Fate.TORN, episode_id, f"{why}, and no piece of it is usable")
            log.warning("interrupted episode lost episode=%s %s", episode_id, why)
            return None
        episode = joined(pieces)
        ticks = f"{why}, after {episode.ticks} recorded ticks"
        if not keep:
            note(self._spool.root, Fate.DISCARDED, episode_id, ticks)
            log.warning("interrupted episode discarded episode=%s %s", episode_id, ticks)
            return None
        try:
            payload = encode(episode)
        except EpisodeError as error:
            note(self._spool.root, Fate.INVALID, episode_id, f"{ticks}: {error}")
            return None
        self._spool.save(episode_id, payload)
        note(self._spool.root, Fate.RECOVERED, episode_id, ticks)
        log.warning("interrupted episode recovered as truncated episode=%s %s", episode_id, ticks)
        return episode.header


def joined(pieces: Sequence[Episode]) -> Episode:
    """One episode of consecutive pieces, cut off after the last: truncated, without a verdict."""
    last = pieces[-1]
    cut = replace(
        last.header,
        outcome=Outcome.INTERRUPTED,
        terminated=False,
        truncated=True,
        started_at=pieces[0].header.started_at,
    )
    cameras = sorted(set().union(*(piece.images for piece in pieces)))
    return Episode(
        header=cut,
        time=_states([piece.time for piece in pieces]),
        state=_states([piece.state for piece in pieces]),
        action=np.concatenate([piece.action for piece in pieces]),
        action_policy=np.concatenate([piece.action_policy for piece in pieces]),
        source=np.concatenate([piece.source for piece in pieces]),
        events=tuple(events for piece in pieces for events in piece.events),
        images={camera: _images(pieces, camera) for camera in cameras},
    )


def _states(parts: Sequence[np.ndarray]) -> np.ndarray:
    """[T+1, ...]: the last row of a piece is the first of the next one."""
    return np.concatenate([*(part[:-1] for part in parts), parts[-1][-1:]])


def _images(pieces: Sequence[Episode], camera: str) -> tuple[bytes | None, ...]:
    rows: list[bytes | None] = []
    for piece in pieces:
        rows += piece.images.get(camera, (None,) * (piece.ticks + 1))[:-1]
    return (*rows, pieces[-1].images.get(camera, (None,))[-1])


def _whole(folder: Path) -> list[Episode]:
    """Pieces from the first on, as far as they are there and valid."""
    found: list[Episode] = []
    for number, path in enumerate(sorted(folder.glob("*.arrow"))):
        try:
            piece = decode(path)
        except PayloadError as error:
            log.warning("draft piece not usable file=%s reason=%s", path.name, error)
            return found
        if path.stem != f"{number:06d}" or piece.header.episode_id != folder.name:
            return found
        found.append(piece)
    return found
