"""Weights on the wire: safetensors named by their hash, and the catalog's pointer to the newest.

The object is whole before the pointer moves, so whoever follows the pointer finds it; what a robot
fetches it verifies, byte for byte and tensor by tensor, before anything is built from it.

Beside each artifact stands its difference to the one before, for robots that have that one: what
the difference makes is verified by the artifact's own hash, so a robot that missed a version, or
got a damaged difference, fetches the whole. Tensors that training leaves alone are one artifact of
their own, the base, which every later version names and every robot fetches once.
"""

import hashlib
import importlib
import json
import logging
import re
import struct
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lwd.errors import ConfigError, IntegrityError, MissingError, NonFiniteError
from lwd.store.delta import apply, difference
from lwd.store.disk import written_aside
from lwd.store.download import clear, download
from lwd.store.rows import WeightsRow

log = logging.getLogger(__name__)

Tensors = dict[str, np.ndarray]
Metadata = dict[str, str]
Shapes = Mapping[str, tuple[int, ...]]

BASE = "base"
"""Key of the metadata that names the base artifact by its hash."""
_SHA256 = re.compile("[0-9a-f]{64}")


@runtime_checkable
class ObjectSink(Protocol):
    """What publishing needs of `lwd.store.objects.Objects`."""

    def put(self, key: str, data: bytes) -> None: ...

    def exists(self, key: str) -> bool: ...

    def get(self, key: str, *, sha256: str | None = None) -> bytes: ...


@runtime_checkable
class ObjectSource(Protocol):
    """What fetching needs of `lwd.store.objects.Objects`."""

    def head(self, key: str) -> int: ...

    def get_range(self, key: str, offset: int, size: int) -> bytes: ...


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


def delta_key(old: str, new: str) -> str:
    """Name of the object that holds the difference between the artifacts with these hashes."""
    return f"{key(new)}.from.{Path(key(old)).stem}"


class Trained(NamedTuple):
    """Where in training a policy comes from."""

    stage: str
    """`sft`, `offline` or `online`."""
    update: int
    """Learner updates done in that stage."""
    snapshot: int
    """Newest dataset snapshot it was trained on."""


def publish(
    objects: ObjectSink,
    catalog: WeightsPointer,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    trained: Trained,
    *,
    frozen: Collection[str] = (),
    canary: Collection[str] = (),
) -> WeightsRow:
    """Write the artifact, then move the pointer; returns the row with its new version.

    The tensors named in `frozen` go into the base, which is written when it is new. Only the robots
    named in `canary` get the version until it is promoted; all do where none is named. Publishing
    again what is already the newest (a learner that died right after) changes nothing. Raises
    NonFiniteError before anything is written if a tensor holds NaN or infinity.
    """
    _check_finite(tensors)
    if frozen:
        metadata = {**metadata, BASE: _publish_base(objects, tensors, frozen)}
    data = encode({k: v for k, v in tensors.items() if k not in frozen}, metadata)
    sha256 = hashlib.sha256(data).hexdigest()
    latest = catalog.latest_weights()
    wanted = (sha256, *trained)
    if latest and (latest.sha256, latest.stage, latest.update, latest.snapshot) == wanted:
        return latest
    objects.put(key(sha256), data)
    if latest and latest.sha256 != sha256:
        _publish_delta(objects, latest.sha256, sha256, data)
    row = WeightsRow(
        version=0,  # chosen by the catalog in the transaction that moves the pointer
        sha256=sha256,
        size_bytes=len(data),
        audience=f",{','.join(canary)}," if canary else "",
        **trained._asdict(),
    )
    published = catalog.publish_weights(row)
    log.info(
        "weights published version=%d stage=%s update=%d snapshot=%d size_bytes=%d sha256=%s",
        *(published.version, *trained, len(data), sha256[:12]),
    )
    return published


def fetch(
    objects: ObjectSource, row: WeightsRow, *, folder: Path, expect: Shapes | None = None
) -> tuple[Tensors, Metadata]:
    """Tensors and metadata of a published version, verified; the file stays in `folder`.

    A download that was killed goes on where it broke off.
    `expect` maps every tensor's name to its shape; None accepts any. Raises IntegrityError when
    the size or hash is not the promised one, or names, shapes or finiteness are wrong.
    """
    path = _path(folder, row.sha256)
    if not _is_whole(path, row.sha256) and not _patch(objects, row, path):
        name, size = key(row.sha256), objects.head(key(row.sha256))
        if size != row.size_bytes:
            raise IntegrityError(
                f"{name} is {size} bytes; version {row.version} promised {row.size_bytes}."
            )
        download(objects, name, path, size=size, sha256=row.sha256)
    tensors, metadata = load(path)
    if base := metadata.get(BASE):
        if not _is_whole(_path(folder, base), base):
            size = objects.head(key(base))
            download(objects, key(base), _path(folder, base), size=size, sha256=base)
        tensors |= load(_path(folder, base))[0]
    if expect is not None:
        check_shapes(tensors, expect)
    _check_finite(tensors)
    return tensors, metadata


def evict(folder: Path, keep: Iterable[str]) -> None:
    """Delete the fetched artifacts in `folder` except those with a hash in `keep`, and bases; also
    what downloads of others have left."""
    kept = {_path(folder, sha256) for sha256 in keep}
    bases = {load(path)[1].get(BASE) for path in kept if path.exists()}
    kept |= {_path(folder, base) for base in bases if base}
    for path in folder.glob("*.safetensors"):
        if path not in kept:
            path.unlink(missing_ok=True)
    clear(folder)


def _path(folder: Path, sha256: str) -> Path:
    """Where a fetched artifact lies."""
    return folder / Path(key(sha256)).name


def _publish_base(
    objects: ObjectSink, tensors: Mapping[str, np.ndarray], frozen: Collection[str]
) -> str:
    """Write the base unless it is there; its hash."""
    if missing := sorted(set(frozen) - tensors.keys()):
        raise ValueError(f"frozen tensor {missing[0]!r} is not among the {len(tensors)} given.")
    data = encode({name: tensors[name] for name in frozen}, {})
    sha256 = hashlib.sha256(data).hexdigest()
    if not objects.exists(key(sha256)):
        objects.put(key(sha256), data)
    return sha256


def _publish_delta(objects: ObjectSink, old: str, new: str, data: bytes) -> None:
    """Write the difference to the version before; without one, robots fetch the whole."""
    try:
        before = objects.get(key(old), sha256=old)
    except (MissingError, IntegrityError) as error:
        log.warning("no delta written from=%s reason=%s", old[:12], error)
        return
    delta = difference(before, data)
    if delta is not None and len(delta) < len(data):
        objects.put(delta_key(old, new), delta)
        log.info("delta written size_bytes=%d of=%d", len(delta), len(data))


def _patch(objects: ObjectSource, row: WeightsRow, path: Path) -> bool:
    """Whether `path` could be made of an artifact that is here and a published difference."""
    for held in sorted(path.parent.glob("*.safetensors")):
        if held.stat().st_size != row.size_bytes:
            continue
        try:
            data = apply(held.read_bytes(), _delta(objects, held.stem, row.sha256, path.parent))
        except MissingError:
            continue
        except IntegrityError as error:
            log.warning("delta refused version=%d reason=%s", row.version, error)
            continue
        if hashlib.sha256(data).hexdigest() == row.sha256:
            with written_aside(path) as file:
                file.write(data)
            return True
        log.warning("delta refused version=%d reason=it makes another artifact", row.version)
    return False


def _delta(objects: ObjectSource, old: str, new: str, folder: Path) -> bytes:
    """A published difference; MissingError if there is none. It is checked by what it makes."""
    name = delta_key(old, new)
    size, path = objects.head(name), folder / Path(name).name
    try:
        download(objects, name, path, size=size)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def encode(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Artifact bytes; the same tensors and metadata always give the same bytes."""
    dense = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    return _sorted_header(save(dense, dict(metadata)))


def load(path: Path) -> tuple[Tensors, Metadata]:
    """Tensors and metadata of an artifact file; IntegrityError if it is not one.

    ConfigError if it holds bfloat16 numbers and nothing here knows them.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if any(file.get_slice(name).get_dtype() == "BF16" for name in names):
                _learn_bfloat16(path)
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a whole safetensors artifact: {error}.") from error


def _learn_bfloat16(path: Path) -> None:
    """Teach numpy the type, which it knows once a package that defines it was imported."""
    try:
        importlib.import_module("ml_dtypes")
    except ImportError as error:
        raise ConfigError(
            f"{path} holds bfloat16 numbers, which numpy knows through the package ml_dtypes only; "
            "it is not installed. It comes with JAX; or pip install ml_dtypes."
        ) from error


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


def _is_whole(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _sorted_header(data: bytes) -> bytes:
    """The same artifact with sorted metadata: safetensors writes it in a random order."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]
