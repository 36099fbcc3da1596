"""Files that are whole or absent, also after a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lwd.errors import ServiceError


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of a closed file survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """Open a file next to `path` that takes its name, synced, when the block ends without error.

    After an error nothing is left; after a kill only a `.part` file that readers never look at.
    Two processes may write the same path: the last one wins whole.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def clear_left_aside(folder: Path) -> None:
    """Delete what killed processes were writing aside; what a live one writes stays."""
    for aside in folder.glob(".*.part"):
        pid = aside.name.split(".")[-2]
        if not Path("/proc", pid).exists():
            aside.unlink(missing_ok=True)


def make_folder(folder: Path) -> Path:
    """Create `folder` and check that this process can write there (ServiceError says why not)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(f"Cannot create folder {folder}: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise ServiceError(
            f"Folder {folder} is not writable for user {os.geteuid()}. "
            "Change its owner or permissions, or choose another --root."
        )
    return folder
