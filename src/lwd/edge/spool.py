"""Finished episodes on the robot's disk, until the fleet has them for good.

<root>/pending/<id>.arrow    saved, not yet acknowledged; never deleted by the quota
<root>/done/<id>.arrow       uploaded and catalogued; evicted oldest first
<root>/rejected/<id>.arrow   will never be accepted, with the reason in <id>.reason.txt
<root>/account.jsonl         what was dropped or deleted, and why
"""

import errno
import fcntl
import logging
import os
import re
from collections import deque
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from lwd.edge.account import Fate, note
from lwd.errors import ConflictError, EpisodeError, ServiceError
from lwd.store.disk import make_folder, sync_folder, written_aside

log = logging.getLogger(__name__)
_ID = re.compile(r"[0-9a-f]{32}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
STATES = ("pending", "done", "rejected")
"""Folders of a spool. An episode moves from the first to one of the others and never back."""


class Spool:
    """Spool of one robot. One process writes it, another may upload from it; both may be killed."""

    def __init__(self, root: Path, quota_bytes: int = 20 << 30):
        """`root` is the robot's own folder; `quota_bytes` bounds the payloads under it."""
        self.root = root
        self._quota = quota_bytes
        self._lock: int | None = None
        self._kept = 0
        """Bytes that may not go, or that were delivered since the writer looked."""
        self._copies: deque[tuple[str, int]] = deque()
        """Delivered episodes that it saw and their sizes, oldest first."""
        self._copied = 0
        """Bytes of `_copies`."""
        for state in STATES:
            make_folder(root / state)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the right to write; another process may take over."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save(self, episode_id: str, payload: bytes) -> None:
        """Keep a payload: on return it survives a kill and a power cut.

        ServiceError when the disk or the quota is full (nothing half-written is left, older
        episodes are untouched) or another process writes this spool; ConflictError when the id is
        taken by other bytes. The same bytes again are fine.
        """
        path = self.path(episode_id)
        self._own()
        if self._has(episode_id, payload):
            return
        self._make_room(len(payload))
        while True:
            try:
                with written_aside(path) as file:
                    file.write(payload)
                self._kept += len(payload)
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise ServiceError(f"Cannot write {path}: {error.strerror}.") from error
                if not self._evict():
                    raise self._full(len(payload), "the disk is full") from error

    def pending(self) -> list[str]:
        """Ids that wait for their acknowledgement, oldest first."""
        return [episode_id for episode_id, _ in self._files("pending")]

    def path(self, episode_id: str) -> Path:
        """Where the pending payload of an episode is."""
        return self._path("pending", episode_id)

    def acknowledge(self, episode_id: str) -> None:
        """The fleet has the episode for good. Harmless to repeat."""
        self._move(episode_id, "done")

    def reject(self, episode_id: str, reason: str) -> None:
        """Put a payload aside that can never be accepted, with the reason beside it."""
        note = self._path("rejected", episode_id).with_suffix(".reason.txt")
        with written_aside(note) as file:
            file.write(f"{reason}\n".encode())
        self._move(episode_id, "rejected")

    def rejected(self) -> dict[str, str]:
        """Reason for each rejected episode."""
        notes = sorted((self.root / "rejected").glob("*.reason.txt"))
        return {note.name.partition(".")[0]: note.read_text().strip() for note in notes}

    def drop(self, episode_id: str, fate: Fate, reason: str) -> None:
        """Say that an episode will not be saved, and why."""
        try:
            note(self.root, fate, episode_id, reason)
        except OSError as error:
            log.error("dropped episode=%s fate=%s reason=%s (%s)", episode_id, fate, reason, error)

    def find(self, episode_id: str) -> tuple[str, bytes] | None:
        """State and payload of an episode; None if it is not here."""
        for state in STATES:
            with suppress(FileNotFoundError):
                return state, self._path(state, episode_id).read_bytes()
        return None

    def _path(self, state: str, episode_id: str) -> Path:
        if not _ID.fullmatch(episode_id):
            raise EpisodeError(
                f"episode id {episode_id[:80]!r} is not 32 lower-case hex digits; "
                "make it with `lwd.episode.payload.new_id`."
            )
        return self.root / state / f"{episode_id}.arrow"

    def _files(self, state: str) -> list[tuple[str, int]]:
        """Episodes and the sizes of their payloads, oldest first."""
        found: list[tuple[int, str, int]] = []
        with os.scandir(self.root / state) as entries:
            for entry in entries:
                episode_id, suffix = os.path.splitext(entry.name)
                if suffix != ".arrow":
                    continue
                if not _ID.fullmatch(episode_id):
                    warn_once(f"file left alone file={entry.path!r} reason=its name is no id")
                    continue
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    found.append((stat.st_mtime_ns, episode_id, stat.st_size))
        return [(episode_id, size) for _, episode_id, size in sorted(found)]

    def _own(self) -> None:
        """Become the only writer; then whatever is half-written belongs to a dead one."""
        if self._lock is not None:
            return
        descriptor = os.open(self.root / "writer.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise ServiceError(
                f"Another process writes the spool {self.root}. Two robots need two names."
            ) from error
        self._lock = descriptor
        for part in (self.root / "pending").glob(".*.part"):
            log.warning("unfinished episode lost file=%s bytes=%d", part.name, _size(part))
            self.drop(part.name[1:33], Fate.TORN, f"{_size(part)} bytes of it were written")
            part.unlink(missing_ok=True)
        self._look()

    def _has(self, episode_id: str, payload: bytes) -> bool:
        found = self.find(episode_id)
        if found is not None and found[1] != payload:
            raise ConflictError(
                f"Episode {episode_id} is already {found[0]} in {self.root} with other bytes. "
                "An id is never used twice."
            )
        return found is not None

    def _look(self) -> None:
        """See what is here; what is delivered meanwhile counts twice, rather than not at all."""
        kept = [size for state in ("pending", "rejected") for _, size in self._files(state)]
        self._kept, self._copies = sum(kept), deque(self._files("done"))
        self._copied = sum(size for _, size in self._copies)

    def _make_room(self, size: int) -> None:
        if self._kept + size > self._quota:
            self._look()
        if self._kept + size > self._quota:
            raise self._full(size, f"the quota of {self._quota} bytes is used up")
        while self._kept + self._copied + size > self._quota:
            self._evict()

    def _evict(self) -> bool:
        """Delete the oldest uploaded payload; False if there is none."""
        if not self._copies:
            self._look()
        if not self._copies:
            return False
        episode_id, size = self._copies.popleft()
        path = self._path("done", episode_id)
        self._copied -= size
        log.info("evict uploaded episode=%s", episode_id)
        try:
            note(self.root, Fate.EVICTED, episode_id, "the spool was full")
            path.unlink(missing_ok=True)
        except OSError:  # the disk is so full that not even the line fits before
            path.unlink(missing_ok=True)
            self.drop(episode_id, Fate.EVICTED, "the disk was full")
        return True

    def _full(self, size: int, why: str) -> ServiceError:
        return ServiceError(
            f"Cannot save an episode of {size} bytes in {self.root}: {why} and "
            f"{len(self.pending())} episodes still wait for their upload. Free space, raise the "
            "quota, or bring the uploader back; recording can go on after that."
        )

    def _move(self, episode_id: str, state: str) -> None:
        target = self._path(state, episode_id)
        try:
            os.replace(self.path(episode_id), target)
        except FileNotFoundError:
            return
        sync_folder(target.parent)
        sync_folder(self.path(episode_id).parent)


def spools(root: Path, quota_bytes: int = 20 << 30) -> list[Spool]:
    """Spools of all robots that keep theirs under one folder, by name; what is not usable as one
    is left out, with a warning."""
    found = []
    for path in sorted(path.parent for path in root.glob("*/pending")):
        try:
            found.append(Spool(path, quota_bytes))
        except ServiceError as error:
            warn_once(f"spool left out spool={path.name} reason={error}")
    return found


@lru_cache(1024)
def warn_once(message: str) -> None:
    """Log a warning about what stays as it is, however often somebody looks."""
    log.warning("%s", message)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
