"""Weights on the wire: safetensors named by their hash, and the catalog's pointer to the newest.

The object is whole before the pointer moves, so whoever follows the pointer finds it; what a robot
fetches it verifies, byte for byte and tensor by tensor, before anything is built from it.
"""

import hashlib
import json
import logging
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lwd.errors import IntegrityError, NonFiniteError
from lwd.store.rows import WeightsRow

log = logging.getLogger(__name__)

Tensors = dict[str, np.ndarray]
Metadata = dict[str, str]
Shapes = Mapping[str, tuple[int, ...]]

_SHA256 = re.compile("[0-9a-f]{64}")


@runtime_checkable
class ObjectSink(Protocol):
    """What publishing needs of `lwd.store.objects.Objects`."""

    def put(self, key: str, data: bytes) -> None: ...


@runtime_checkable
class ObjectSource(Protocol):
    """What fetching needs of `lwd.store.objects.Objects`."""

    def head(self, key: str) -> int: ...

    def get_to(self, key: str, path: Path, *, sha256: str) -> None: ...


@runtime_checkable
class WeightsPointer(Protocol):
    """What publishing needs of `lwd.store.catalog.Catalog`."""

    def latest_weights(self) -> WeightsRow | None: ...

    def publish_weights(self, row: WeightsRow) -> WeightsRow: ...


def key(sha256: str) -> str:
    """Name of the object that holds the artifact with this hash."""
    if not _SHA256.fullmatch(sha256):
        raise IntegrityError(f"{sha256!r} is not a sha256: expected 64 lower-case hex digits.")
    return f"weights/{sha256}.safetensors"


def publish(
    objects: ObjectSink,
    catalog: WeightsPointer,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    *,
    stage: str,
    update: int,
    snapshot: int,
) -> WeightsRow:
    """Write the artifact, then move the pointer; returns the row with its new version.

    Publishing again what is already the newest (a learner that died right after) changes nothing.
    Raises NonFiniteError before anything is written if a tensor holds NaN or infinity.
    """
    _check_finite(tensors)
    data = encode(tensors, metadata)
    sha256 = hashlib.sha256(data).hexdigest()
    latest = catalog.latest_weights()
    wanted = (sha256, stage, update, snapshot)
    if latest and (latest.sha256, latest.stage, latest.update, latest.snapshot) == wanted:
        return latest
    objects.put(key(sha256), data)
    row = WeightsRow(
        version=0,  # chosen by the catalog in the transaction that moves the pointer
        sha256=sha256,
        size_bytes=len(data),
        snapshot=snapshot,
        stage=stage,
        update=update,
    )
    published = catalog.publish_weights(row)
    log.info(
        "weights published version=%d stage=%s update=%d snapshot=%d size_bytes=%d sha256=%s",
        *(published.version, stage, update, snapshot, len(data), sha256[:12]),
    )
    return published


def fetch(
    objects: ObjectSource, row: WeightsRow, *, folder: Path, expect: Shapes | None = None
) -> tuple[Tensors, Metadata]:
    """Tensors and metadata of a published version, verified; the file stays in `folder`.

    `expect` maps every tensor's name to its shape; None accepts any. Raises IntegrityError when
    the size or hash is not the promised one, or names, shapes or finiteness are wrong.
    """
    name = key(row.sha256)
    path = folder / Path(name).name
    if not _is_whole(path, row):
        size = objects.head(name)
        if size != row.size_bytes:
            raise IntegrityError(
                f"{name} is {size} bytes; version {row.version} promised {row.size_bytes}."
            )
        folder.mkdir(parents=True, exist_ok=True)
        objects.get_to(name, path, sha256=row.sha256)
    tensors, metadata = load(path)
    if expect is not None:
        check_shapes(tensors, expect)
    _check_finite(tensors)
    return tensors, metadata


def evict(folder: Path, keep: Iterable[str]) -> None:
    """Delete the fetched artifacts in `folder` except those with a hash in `keep`."""
    kept = {f"{sha256}.safetensors" for sha256 in keep}
    for path in folder.glob("*.safetensors"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def encode(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Artifact bytes; the same tensors and metadata always give the same bytes."""
    dense = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    return _sorted_header(save(dense, dict(metadata)))


def load(path: Path) -> tuple[Tensors, Metadata]:
    """Tensors and metadata of an artifact file; IntegrityError if it is not one."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a whole safetensors artifact: {error}.") from error


def check_shapes(tensors: Mapping[str, np.ndarray], expect: Shapes) -> None:
    """Raise IntegrityError, naming the tensor, unless names and shapes are the expected ones."""
    if missing := sorted(expect.keys() - tensors.keys()):
        raise IntegrityError(f"tensor {missing[0]!r} is missing ({len(missing)} missing in all).")
    if extra := sorted(tensors.keys() - expect.keys()):
        raise IntegrityError(f"tensor {extra[0]!r} is not expected ({len(extra)} extra in all).")
    for name in sorted(expect):
        if tensors[name].shape != tuple(expect[name]):
            raise IntegrityError(
                f"tensor {name!r} has shape {tensors[name].shape}; expected {tuple(expect[name])}."
            )


def _check_finite(tensors: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise NonFiniteError(f"tensor {name!r} holds NaN or infinity; it must not be deployed.")


def _is_whole(path: Path, row: WeightsRow) -> bool:
    if not path.exists() or path.stat().st_size != row.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == row.sha256


def _sorted_header(data: bytes) -> bytes:
    """The same artifact with sorted metadata: safetensors writes it in a random order."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]
