"""Images of cached episodes, decoded on demand: JPEG in memory-mapped Arrow, straight into a batch.

A payload has a column of JPEGs for each camera, null where none was kept (`lwd.episode.payload`).
One that is open costs an index for each camera and no memory: its bytes stay in the page cache.
The decoder lets other threads run, so the workers are threads.
"""

import hashlib
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import simplejpeg

from lwd.errors import ConfigError, IntegrityError, MissingError, ServiceError
from lwd.models.inputs.images import resize_with_pad
from lwd.replay.cache import Cache
from lwd.store import metrics
from lwd.store.backoff import Backoff
from lwd.store.objects import Objects, episode_key

log = logging.getLogger(__name__)

ATTEMPTS = 8
"""Tries to download a payload, over about half a minute, before the learner is told."""
OPEN = 1024
"""Payloads that are kept open; each is a mapping and an index, not its bytes."""
_BLOCKS = 4
"""Batches whose memory is used again once they are gone."""
_SHARE = 16
"""Images that a worker takes at once: one that has to wait for a core leaves the rest to others."""
_PREFIX = "image/"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One camera's JPEGs in an open payload."""

    jpeg: memoryview
    """All of them, end to end."""
    offset: np.ndarray
    """[rows + 1] int32, where each begins; a row without an image has no bytes."""

    def __getitem__(self, row: int) -> memoryview:
        """ValueError if the file has changed since it was opened."""
        begin, end = self.offset[row : row + 2].tolist()
        if not 0 <= begin <= end <= len(self.jpeg):
            raise ValueError("its offsets are out of order")
        return self.jpeg[begin:end]


class _Place(NamedTuple):
    """One image of a batch."""

    sha256: str
    camera: str
    tick: int


class _Share(NamedTuple):
    """Some images of a batch: of one camera, at one of the ticks of each episode."""

    camera: str
    pixels: np.ndarray
    payloads: Sequence[str]
    ticks: Sequence[int]
    indices: Sequence[int]

    def place(self, index: int) -> _Place:
        return _Place(self.payloads[index], self.camera, self.ticks[index])


def columns(path: Path) -> dict[str, Column]:
    """The cameras of a payload; FileNotFoundError, or IntegrityError if it is no payload."""
    try:
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file.read_buffer()).get_batch(0)
        named = zip(batch.schema.names, batch.columns, strict=True)
        return {n.removeprefix(_PREFIX): _column(c) for n, c in named if n.startswith(_PREFIX)}
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError(f"Cached payload {path} cannot be read: {error}") from error


def _column(array: pa.Array) -> Column:
    _, offsets, data = array.buffers()
    offset = np.frombuffer(offsets, np.int32, len(array) + 1)
    jpeg = memoryview(data or b"").cast("B")
    if offset[0] < 0 or offset[-1] > len(jpeg) or (np.diff(offset) < 0).any():
        raise ValueError("the offsets of its images are not in order")
    return Column(jpeg=jpeg, offset=offset)


class ImageReader:
    """Reads images of episodes by the hash of their payload and a tick.

    What is not cached is downloaded, `workers` at a time. What was read least recently makes room,
    but never a payload that the same call reads, nor one of `ahead()`.
    """

    def __init__(
        self,
        objects: Objects,
        cache: Cache,
        *,
        size: int | None = None,
        workers: int = 2,
        ahead: Callable[[], Set[str]] = frozenset,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`size` is the side of every image in pixels, for which others are resized as on the
        robot; None leaves each as it is."""
        if workers < 1 or (size is not None and size < 1):
            raise ConfigError(f"Images of {size} pixels by {workers} workers: give at least 1.")
        self._objects, self._cache, self._size = objects, cache, size
        self._ahead, self._sleep = ahead, sleep
        self._workers, self._pool = workers, ThreadPoolExecutor(workers, "images")
        self._open: OrderedDict[str, Mapping[str, Column]] = OrderedDict()
        self._lost: set[str] = set()
        self._unusable: set[_Place] = set()
        self._blocks: list[np.ndarray] = []

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown()

    def read(
        self, payloads: Sequence[str], ticks: Sequence[np.ndarray], cameras: Sequence[str]
    ) -> list[dict[str, np.ndarray]]:
        """Images of the payloads [batch] at each of `ticks`, arrays [batch], by camera.

        [batch, size, size, 3] uint8 RGB, or of a reader without a size [batch] arrays. Black, or
        None, where none was kept, and, which is logged, where the JPEG was recorded damaged or the
        payload is lost. A cached file that has changed is fetched again. ServiceError if the object
        store stays away.
        """
        opened = self._opened(dict.fromkeys(payloads))
        every, shares = self._blank(len(ticks), cameras, len(payloads)), []
        for seen, at in zip(every, ticks, strict=True):
            for first in range(0, len(payloads), _SHARE):
                part = range(first, min(first + _SHARE, len(payloads)))
                shares += [_Share(c, p, payloads, at.tolist(), part) for c, p in seen.items()]
        failed = self._decode_all(shares, opened)
        if failed:
            self._mend(failed)
        return every

    def _decode_all(
        self, shares: Sequence[_Share], opened: Mapping[str, Mapping[str, Column]]
    ) -> list[_Share]:
        """Decode; what could not be, and is not known to be recorded so, is black for now."""
        return [
            share._replace(indices=indices)
            for share, indices in zip(
                shares,
                self._pool.map(lambda share: self._decode(share, opened), shares),
                strict=True,
            )
            if indices
        ]

    def _mend(self, failed: Sequence[_Share]) -> None:
        """Fetch payloads again whose file has changed, and decode once more what failed."""
        suspects = {share.place(index).sha256 for share in failed for index in share.indices}
        for sha256 in suspects:
            if not self._is_intact(sha256):
                self._discard(sha256, "its bytes have changed")
        left = self._decode_all(failed, self._opened(dict.fromkeys(suspects)))
        for place in (share.place(index) for share in left for index in share.indices):
            log.error("unusable image sha256=%s camera=%s tick=%d", *place)
            self._unusable.add(place)

    def _is_intact(self, sha256: str) -> bool:
        """Whether the cached file is what it was when it was downloaded."""
        try:
            with self._cache.path(sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def _discard(self, sha256: str, reason: str) -> None:
        """Take a damaged file out of the cache."""
        log.error("damaged cache file removed sha256=%s reason=%s", sha256, reason)
        metrics.DAMAGED.add()
        self._open.pop(sha256, None)
        self._cache.drop(sha256)

    def _blank(self, ticks: int, cameras: Sequence[str], batch: int) -> list[dict[str, np.ndarray]]:
        """Memory for the images at each tick, with whatever was in it."""
        side = () if self._size is None else (self._size, self._size, 3)
        shape = (ticks, len(cameras), batch, *side)
        return [dict(zip(cameras, pixels, strict=True)) for pixels in self._memory(shape)]

    def _memory(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array that nobody looks at any more, or a new one: to have the kernel clear fresh
        pages for every batch costs a third of decoding it."""
        if self._size is None:
            return np.full(shape, None)
        for block in self._blocks:
            # The list, the name and the argument; every view of it would be one more.
            if block.shape == shape and sys.getrefcount(block) <= 3:
                return block
        block = np.empty(shape, np.uint8)
        self._blocks = [*self._blocks[-_BLOCKS + 1 :], block]
        return block

    def _decode(self, share: _Share, opened: Mapping[str, Mapping[str, Column]]) -> list[int]:
        """Decode a share, except what is known to be no image; the indices that failed."""
        pixels, failed = share.pixels, []
        for index in share.indices:
            column = opened[share.payloads[index]].get(share.camera)
            try:
                jpeg = column[share.ticks[index]] if column else None
                if jpeg and not (self._unusable and share.place(index) in self._unusable):
                    self._decode_one(jpeg, pixels, index)
                    continue
            except ValueError:
                failed.append(index)
            _leave_out(pixels, index)
        return failed

    def _decode_one(self, jpeg: memoryview, pixels: np.ndarray, index: int) -> None:
        """ValueError if it is no JPEG."""
        size = self._size
        if size is None:
            pixels[index] = simplejpeg.decode_jpeg(jpeg)
        elif simplejpeg.decode_jpeg_header(jpeg)[:2] == (size, size):
            simplejpeg.decode_jpeg(jpeg, buffer=pixels[index])
        else:
            pixels[index] = resize_with_pad(simplejpeg.decode_jpeg(jpeg), size)

    def _opened(self, wanted: Mapping[str, None]) -> dict[str, Mapping[str, Column]]:
        """Every payload with its cameras; one that is lost has none."""
        missing, failures = [sha256 for sha256 in wanted if not self._have(sha256)], 0
        while missing:
            failures += 1
            reasons = self._fetch(missing, wanted.keys(), last=failures == ATTEMPTS)
            missing = [sha256 for sha256 in missing if not self._have(sha256)]
            if missing and failures == ATTEMPTS:
                raise ServiceError(
                    f"{len(missing)} payloads, such as {missing[0]}, could not be downloaded in "
                    f"{ATTEMPTS} tries: {reasons[0] if reasons else 'damaged'}. Bring the object "
                    f"store back and start the learner again; it goes on from its checkpoint."
                )
            if missing:
                self._sleep(Backoff(first_s=0.2, limit_s=10.0).delay(failures, 0.0))
        opened = {sha256: self._open.get(sha256, {}) for sha256 in wanted}
        while len(self._open) > OPEN:
            self._open.popitem(last=False)
        return opened

    def _have(self, sha256: str) -> bool:
        """Whether the payload is open now, or is known to be lost."""
        if sha256 in self._lost:
            return True
        try:
            if sha256 not in self._open:
                self._open[sha256] = columns(self._cache.path(sha256))
        except FileNotFoundError:
            return False
        except IntegrityError as error:
            self._discard(sha256, str(error))
            return False
        self._open.move_to_end(sha256)
        self._cache.touch(sha256)
        return True

    def _fetch(self, missing: Sequence[str], needed: Set[str], *, last: bool) -> list[str]:
        """Download; the reasons of those that failed. What is damaged at the last try is lost."""
        try:
            size = sum(self._pool.map(self._size_of, missing))
        except ServiceError as error:
            return [str(error)]
        self._cache.make_room(size, needed | self._ahead())
        lost = IntegrityError if last else MissingError
        reasons = self._pool.map(lambda sha256: self._fetch_one(sha256, lost), missing)
        return [reason for reason in reasons if reason]

    def _size_of(self, sha256: str) -> int:
        """Bytes of a payload in the store, 0 if it is not there."""
        try:
            return self._objects.head(episode_key(sha256))
        except IntegrityError:
            return 0

    def _fetch_one(self, sha256: str, lost: type[IntegrityError]) -> str:
        """Download one payload; the reason if that failed and may go better the next time."""
        try:
            self._objects.get_to(episode_key(sha256), self._cache.path(sha256), sha256=sha256)
        except (IntegrityError, ServiceError, OSError) as error:
            if not isinstance(error, lost):
                return str(error)
            log.error("lost payload sha256=%s reason=%s", sha256, error)
            self._lost.add(sha256)
        return ""


def _leave_out(pixels: np.ndarray, index: int) -> None:
    """Black, or None where images have no common size."""
    pixels[index] = None if pixels.dtype == np.object_ else 0
