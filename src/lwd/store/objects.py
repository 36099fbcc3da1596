"""Immutable objects by key: local directory (file://), S3, GCS or memory, through obstore.

Nothing rests on conditional writes, which differ between stores: an object is named by the hash of
its contents, so that a second put writes the same bytes. Every pointer is in the catalog.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError, NotSupportedError

from lwd.errors import IntegrityError, MissingError, ServiceError
from lwd.store.disk import sync_file, sync_folder, written_aside
from lwd.store.object_url import clear_object_errors, open_store

if TYPE_CHECKING:
    from obstore import GetOptions

log = logging.getLogger(__name__)

PART_BYTES = 8 << 20
"""Larger objects are uploaded in parts of this size."""
PARTS_AT_ONCE = 4
RESUMPTIONS = 3
"""Breaks of a download with not one byte between them after which it is given up."""


def episode_key(sha256: str) -> str:
    """Key of an episode's payload."""
    return f"episodes/{sha256}"


def sha256_of(data: bytes) -> str:
    """Lower-case hex digest."""
    return hashlib.sha256(data).hexdigest()


class Stored(NamedTuple):
    """What a listing says about an object."""

    key: str
    size_bytes: int
    modified_at: float
    """UTC seconds, by the store's clock."""


class Objects:
    """One object store. Safe to share between threads; every method raises ServiceError when the
    store is unreachable, full or refuses, and MissingError when the object is not there."""

    def __init__(self, url: str):
        """`url` is file:///folder, s3://bucket/prefix, gs://bucket/prefix or memory:///.

        `s3://bucket/prefix?endpoint=https://host&region=name` is a store other than Amazon's.
        Credentials come from the usual environment variables of S3 and GCS. Nothing is sent yet.
        """
        self.url = url
        self._synced: set[Path] = set()
        with clear_object_errors(url, ""):
            self._store, self._root = open_store(url)

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self._root is not None

    def check(self) -> None:
        """ServiceError unless the store is there and lets this process read its list."""
        if self._root is not None and not self._root.is_dir():
            raise self._gone()
        with clear_object_errors(self.url, ""):
            for _ in obstore.list(self._store, chunk_size=1):
                return

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key: whole or absent, durable on return, harmless to repeat.

        What crosses the network is signed with its hash, which the store compares. An intact
        object that is there already stays; a damaged one is replaced.
        """
        if len(data) > PART_BYTES or not self._create(key, data):
            self._overwrite(key, data)

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """The whole object; IntegrityError if it has another hash than the one given."""
        data = b"".join(self._chunks(key))
        if sha256 is not None:
            self._compare(key, sha256_of(data), sha256)
        return data

    def get_to(self, key: str, path: Path, *, sha256: str) -> None:
        """Download to `path`, which appears only once the hash is right (else IntegrityError).

        OSError if this machine cannot write it.
        """
        digest = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as file:
            for chunk in self._chunks(key):
                digest.update(chunk)
                file.write(chunk)
            self._compare(key, digest.hexdigest(), sha256)

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """Bytes [offset, offset + size); IntegrityError if the object ends before."""
        data = b"".join(self._chunks(key, offset, size))
        if len(data) != size:
            raise IntegrityError(f"Object {key} in {self.url} ends before {offset + size} bytes.")
        return data

    def exists(self, key: str) -> bool:
        """Whether the object is there, whole."""
        try:
            self.head(key)
        except MissingError:
            return False
        return True

    def head(self, key: str) -> int:
        """Size in bytes."""
        with self._missing_or_gone(), clear_object_errors(self.url, key):
            return int(obstore.head(self._store, key)["size"])

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is fine."""
        try:
            with self._missing_or_gone(), clear_object_errors(self.url, key):
                obstore.delete(self._store, key)
        except MissingError:
            log.debug("nothing to delete key=%s", key)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys under a folder-like prefix, in no particular order."""
        with clear_object_errors(self.url, prefix):
            for page in obstore.list(self._store, prefix or None):
                yield from (entry["path"] for entry in page)

    def inventory(self, prefix: str = "") -> "Iterator[Stored]":
        """Objects under a folder-like prefix with their sizes and ages, in no particular order."""
        with clear_object_errors(self.url, prefix):
            for page in obstore.list(self._store, prefix or None):
                for entry in page:
                    changed = entry["last_modified"].timestamp()
                    yield Stored(entry["path"], int(entry["size"]), changed)

    def _chunks(self, key: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes, or `size` of them from `start` on, piece by piece; a connection that
        breaks goes on where it broke."""
        done, failures = start, 0
        with self._missing_or_gone(), clear_object_errors(self.url, key):
            while size is None or done < start + size:
                here: GetOptions | None = {"range": {"offset": done}} if done else None
                if size is not None:
                    here = {"range": (done, start + size)}
                try:
                    for chunk in obstore.get(self._store, key, options=here).stream():
                        done, failures = done + len(chunk), 0
                        yield chunk
                    return
                except GenericError as error:
                    failures += 1
                    if failures > RESUMPTIONS:
                        raise
                    log.debug("download goes on key=%s at=%d reason=%.200s", key, done, error)

    def _create(self, key: str, data: bytes) -> bool:
        """Whether the object is there intact now, made or found; False leaves it to overwriting.

        Not every store knows conditional writes: some refuse, some silently overwrite.
        """
        if self._root is not None:
            return False
        try:
            with self._missing_is_gone(), clear_object_errors(self.url, key):
                try:
                    obstore.put(self._store, key, data, mode="create", use_multipart=False)
                except AlreadyExistsError:
                    return self._is_intact(key, data)
        except ServiceError as error:
            if isinstance(error.__cause__, NotSupportedError) or "NotImplemented" in str(error):
                return False
            raise
        return True

    def _is_intact(self, key: str, data: bytes) -> bool:
        if b"".join(self._chunks(key)) == data:
            return True
        log.warning("damaged object replaced key=%s store=%s", key, self.url)
        return False

    def _overwrite(self, key: str, data: bytes) -> None:
        with self._missing_is_gone(), clear_object_errors(self.url, key):
            obstore.put(
                self._store, key, data, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
            if self._root is not None:
                self._make_durable(self._root / key, self._root)

    def _compare(self, key: str, found: str, expected: str) -> None:
        if found != expected:
            raise IntegrityError(
                f"Object {key} in {self.url} has sha256 {found}, expected "
                f"{expected}. It was damaged after the upload; upload it again."
            )

    @contextmanager
    def _missing_or_gone(self) -> Iterator[None]:
        """An object is missing only in a store that is there."""
        try:
            yield
        except MissingError:
            self.check()
            raise

    @contextmanager
    def _missing_is_gone(self) -> Iterator[None]:
        """What a write misses is the store itself."""
        try:
            yield
        except MissingError as error:
            raise self._gone() from error

    def _gone(self) -> ServiceError:
        return ServiceError(
            f"Object store {self.url} is not there: create it, or correct --objects-url."
        )

    def _make_durable(self, path: Path, root: Path) -> None:
        sync_file(path)
        sync_folder(path.parent)
        for folder in path.parent.parents:
            if folder in self._synced or not folder.is_relative_to(root):
                break
            sync_folder(folder)
        self._synced.update(path.parents)
