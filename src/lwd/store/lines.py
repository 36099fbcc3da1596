"""Files of JSON lines that are appended to: whole, but for those that a kill or a full disk cut."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lwd.errors import ConflictError
from lwd.store.disk import make_folder


class Log:
    """Lines that survive a kill and a power cut, of one process at a time."""

    def __init__(self, path: Path, *, busy: str) -> None:
        """ConflictError saying `busy` if another process has it open."""
        make_folder(path.parent)
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConflictError(busy) from error
        self._path = path
        self.before = [json.loads(line) for line in self._whole_lines()]
        """What was there when it was opened, oldest first."""

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line: on return it is safe."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()

    def _whole_lines(self) -> list[bytes]:
        """Lines of the file, after cutting off an unfinished one."""
        text = self._path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            with self._path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        return text[:whole].splitlines()


class Tail:
    """Reads a file as somebody else writes it; a look costs only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = 0
        """Bytes read so far."""

    def look(self) -> list[bytes]:
        """Whole lines that came since the last look; none if there is no file."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self.offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.splitlines()


def append(file: int, entry: Mapping[str, Any]) -> None:
    """Add a line by one call; OSError where not all of it fitted.

    Its line break comes first, so that one that was cut off costs no other.
    """
    line = b"\n" + json.dumps(entry).encode()
    if os.write(file, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def entries(path: Path) -> Iterator[Any]:
    """What every line says, oldest first, without those that were cut off; none without a file."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue
