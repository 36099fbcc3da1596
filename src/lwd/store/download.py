"""Large objects to files: several connections at once, and after a kill only what is missing.

Pieces are appended in order to a file beside the target, `.NAME.partial`, whose length says how far
the download has come; it takes the target's name once it is whole and, where the hash is known,
right. On a link that loses packets one connection gets a few Mbit/s, however fast the link is.
"""

import fcntl
import hashlib
import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from lwd.errors import IntegrityError, ServiceError
from lwd.store.disk import sync_folder

log = logging.getLogger(__name__)

PIECE_BYTES = 4 << 20
PIECES_AT_ONCE = 16
_READ_BYTES = 1 << 20


@runtime_checkable
class Source(Protocol):
    """What a download needs of `lwd.store.objects.Objects`."""

    def get_range(self, key: str, offset: int, size: int) -> bytes: ...


def download(source: Source, key: str, path: Path, *, size: int, sha256: str | None = None) -> None:
    """`path` holds the object, whole; IntegrityError if it has another hash than the one given.

    ServiceError if another process downloads to the same path. What an earlier call has left is
    taken up; where the hash then differs, everything is thrown away, to be fetched anew.
    """
    with _partial(path) as file:
        digest, done = _taken_up(file, size)
        if done:
            log.info("download goes on key=%s at=%d of=%d", key, done, size)
        for piece in _pieces(source, key, done, size):
            digest.update(piece)
            file.write(piece)
            file.flush()
        found = digest.hexdigest()
        if sha256 is not None and found != sha256:
            os.unlink(file.name)
            raise IntegrityError(f"Object {key} has sha256 {found}, expected {sha256}.")
        os.fsync(file.fileno())
        os.replace(file.name, path)
    sync_folder(path.parent)


def clear(folder: Path) -> None:
    """Delete downloads that nobody will take up again."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


@contextmanager
def _partial(path: Path) -> Iterator[BinaryIO]:
    """The file beside `path`, for this process alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.partial").open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServiceError(f"Another process downloads {path.name} here.") from error
        yield file


def _taken_up(file: BinaryIO, size: int) -> tuple["hashlib._Hash", int]:
    """Digest and number of the bytes that are there already."""
    digest = hashlib.sha256()
    if file.seek(0, os.SEEK_END) > size:
        file.truncate(0)
    file.seek(0)
    while data := file.read(_READ_BYTES):
        digest.update(data)
    return digest, file.tell()


def _pieces(source: Source, key: str, start: int, end: int) -> Iterator[bytes]:
    """Bytes [start, end) in order, fetched ahead by several connections."""
    offsets = iter(range(start, end, PIECE_BYTES))
    ahead: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(PIECES_AT_ONCE, "download") as pool:

        def _ask() -> None:
            if (offset := next(offsets, None)) is not None:
                size = min(PIECE_BYTES, end - offset)
                ahead.append(pool.submit(source.get_range, key, offset, size))

        try:
            for _ in range(PIECES_AT_ONCE):
                _ask()
            while ahead:
                piece = ahead.popleft().result()
                _ask()
                yield piece
        finally:
            for future in ahead:
                future.cancel()
