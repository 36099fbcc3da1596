"""Payloads on this host's disk: a bounded folder, whose files are all the state there is.

A file appears whole (written aside and renamed) under the hash of its contents, and when it was
last read is its modification time. So a process may be killed at any moment, the order survives a
restart, and the prefetcher and the reader of images share one folder without speaking.
"""

import os
from collections.abc import Set
from pathlib import Path

from lwd.store.disk import make_folder

SUFFIX = ".arrow"


def local_path(cache_dir: Path, sha256: str) -> Path:
    """Where a payload is cached."""
    return cache_dir / f"{sha256}{SUFFIX}"


class Cache:
    """At most `limit` bytes of payloads; the least recently read go first."""

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = make_folder(folder), limit

    def path(self, sha256: str) -> Path:
        """Where a payload is, if it is there."""
        return local_path(self.folder, sha256)

    def sizes(self) -> dict[str, int]:
        """Bytes by hash, least recently read first."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # another process has just evicted it
                    continue
                found.append((status.st_mtime_ns, Path(entry.name).stem, status.st_size))
        return {sha256: size for _, sha256, size in sorted(found)}

    def touch(self, sha256: str) -> None:
        """The payload is being read now; one that is gone is fine."""
        try:
            os.utime(self.path(sha256))
        except FileNotFoundError:
            return

    def drop(self, sha256: str) -> None:
        """Remove a payload; whoever has it open keeps what it has."""
        self.path(sha256).unlink(missing_ok=True)

    def make_room(self, size_bytes: int, keep: Set[str]) -> list[str]:
        """Drop what was read least recently until `size_bytes` more fit, but nothing of `keep`.

        What is needed at once goes before the bound: if `keep` leaves too little room, the folder
        grows beyond it until the next call.
        """
        sizes = self.sizes()
        excess = sum(sizes.values()) + size_bytes - self.limit
        dropped = []
        for sha256, size in sizes.items():
            if excess <= 0:
                break
            if sha256 not in keep:
                self.drop(sha256)
                dropped.append(sha256)
                excess -= size
        return dropped
