"""Immutable objects by key: local directory (file://), S3, GCS or memory, through obstore.

Nothing rests on conditional writes, which differ between stores: an object is named by the hash of
its contents, so that a second put writes the same bytes. Every pointer is in the catalog.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from lwd.errors import ConfigError, IntegrityError, MissingError, ServiceError
from lwd.store.disk import make_folder, sync_file, sync_folder, written_aside

SCHEMES = ("file", "s3", "gs", "memory")


def episode_key(sha256: str) -> str:
    """Key of an episode's payload."""
    return f"episodes/{sha256}"


def sha256_of(data: bytes) -> str:
    """Lower-case hex digest."""
    return hashlib.sha256(data).hexdigest()


class Objects:
    """One object store. Safe to share between threads; every method raises ServiceError when the
    store is unreachable, full or refuses, and MissingError when the object is not there."""

    def __init__(self, url: str):
        """`url` is file:///folder, s3://bucket/prefix, gs://bucket/prefix or memory:///.

        Credentials and endpoints of S3 and GCS come from their usual environment variables.
        """
        self.url = url
        self._root = _local_root(url)
        self._synced: set[Path] = set()
        with _clear_errors(url, ""):
            self._store = _open(url)

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key: whole or absent, durable on return, harmless to repeat."""
        self._put(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Store a file's contents without reading all of it into memory."""
        self._put(key, path)

    def get(self, key: str) -> bytes:
        """The whole object."""
        with _clear_errors(self.url, key):
            return obstore.get(self._store, key).bytes().to_bytes()

    def get_to(self, key: str, path: Path, *, sha256: str) -> None:
        """Download to `path`, which appears only once the hash is right (else IntegrityError)."""
        digest = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _clear_errors(self.url, key), written_aside(path) as file:
            for chunk in obstore.get(self._store, key).stream():
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != sha256:
                raise IntegrityError(
                    f"Object {key} in {self.url} has sha256 {digest.hexdigest()}, expected "
                    f"{sha256}. It was damaged after the upload; upload it again."
                )

    def exists(self, key: str) -> bool:
        """Whether the object is there, whole."""
        try:
            self.head(key)
        except MissingError:
            return False
        return True

    def head(self, key: str) -> int:
        """Size in bytes."""
        with _clear_errors(self.url, key):
            return int(obstore.head(self._store, key)["size"])

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is fine."""
        try:
            with _clear_errors(self.url, key):
                obstore.delete(self._store, key)
        except (MissingError, ServiceError):
            # Gateways answer in their own ways; what counts is whether it is gone.
            if self.exists(key):
                raise

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys under a folder-like prefix, in no particular order."""
        with _clear_errors(self.url, prefix):
            for page in obstore.list(self._store, prefix or None):
                yield from (entry["path"] for entry in page)

    def _put(self, key: str, data: bytes | Path) -> None:
        try:
            with _clear_errors(self.url, key):
                obstore.put(self._store, key, data)
                if self._root is not None:
                    self._make_durable(self._root / key, self._root)
        except MissingError as error:
            raise ServiceError(
                f"Object store {self.url} is not there: create it, or correct --objects-url."
            ) from error

    def _make_durable(self, path: Path, root: Path) -> None:
        sync_file(path)
        sync_folder(path.parent)
        for folder in path.parent.parents:
            if folder in self._synced or not folder.is_relative_to(root):
                break
            sync_folder(folder)
        self._synced.update(path.parents)


def _local_root(url: str) -> Path | None:
    parts = urlparse(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"Object store {url!r} is not usable; give a URL that starts with "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}."
        )
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _open(url: str) -> ObjectStore:
    root = _local_root(url)
    if root is not None:
        make_folder(root)
        return from_url(root.as_uri())
    if urlparse(url).scheme == "memory":
        return from_url("memory:///")
    retries: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
    return from_url(url, retry_config=retries)


@contextmanager
def _clear_errors(url: str, key: str) -> Iterator[None]:
    """Turn obstore's errors, which carry a debug dump, into one line that says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(f"Object {key} is not in {url}.") from error
    except (BaseError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServiceError(f"Object store {url} failed at {key!r}: {first}") from error
