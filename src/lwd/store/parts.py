"""Large payloads in parts, each an object of its own: an upload goes on where a kill broke it off.

A store's own multipart upload dies with the process that began it: its name cannot be had through
obstore again. A part is whole or absent and says where it belongs, so that whoever goes on sends
only what is missing; the coordinator joins the parts once it has seen the payload's row.

incoming/<sha256 of the payload>/<offset>-<size>
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lwd.errors import IntegrityError, MissingError
from lwd.store.objects import Objects, Stored, episode_key, sha256_of

log = logging.getLogger(__name__)

INCOMING = "incoming"
PART_BYTES = 2 << 20
"""What a kill may cost; small also because a lossy link is filled by several connections only."""
PARTS_AT_ONCE = 8
WHOLE_BYTES = 4 << 20
"""Payloads up to this size are sent whole."""


class Part(NamedTuple):
    """Bytes [offset, offset + size) of a payload."""

    offset: int
    size: int


def at_once(size: int) -> None:
    """Any number of bytes may be sent."""


def missing(size: int, there: Iterable[Part], part_bytes: int = PART_BYTES) -> list[Part]:
    """What has to be sent besides the parts that are there, in pieces of at most `part_bytes`."""
    gaps, reached = [], 0
    for part in [*sorted(there), Part(size, 0)]:
        for offset in range(reached, min(part.offset, size), part_bytes):
            gaps.append(Part(offset, min(part_bytes, part.offset - offset)))
        reached = max(reached, part.offset + part.size)
    return gaps


def cover(size: int, there: Iterable[Part]) -> list[Part]:
    """Parts that give the payload without a hole, in order; empty if there is a hole.

    Two uploads of one payload, cut differently, may overlap.
    """
    chosen, reached = [], 0
    for part in sorted(there, key=lambda part: (part.offset, -part.size)):
        if part.offset > reached:
            return []
        if part.offset + part.size > reached:
            chosen.append(part)
            reached = part.offset + part.size
    return chosen if reached == size else []


def present(objects: Objects, sha256: str) -> list[Part]:
    """Parts of a payload that are in the store, whole."""
    found = (_part(stored) for stored in objects.inventory(f"{INCOMING}/{sha256}"))
    return [part for part in found if part is not None]


def send(
    objects: Objects,
    sha256: str,
    data: bytes,
    *,
    part_bytes: int = PART_BYTES,
    take: Callable[[int], None] = at_once,
) -> int:
    """Store the parts of a payload that are not there yet; bytes that were sent.

    `take` waits until so many bytes may be sent. MissingError if the store lacks some afterwards.
    """
    wanted = missing(len(data), present(objects, sha256), part_bytes)
    failed = threading.Event()

    def _send(part: Part) -> int:
        if failed.is_set():
            return 0
        try:
            take(part.size)
            piece = data[part.offset : part.offset + part.size]
            objects.put(_key(sha256, part), piece)
        except BaseException:
            failed.set()
            raise
        return part.size

    with ThreadPoolExecutor(PARTS_AT_ONCE, "parts") as pool:
        sent = sum(pool.map(_send, wanted))
    if not cover(len(data), present(objects, sha256)):
        raise MissingError(f"Parts of {sha256} are missing in {objects.url} right after their put.")
    return sent


def read(objects: Objects, sha256: str, size: int) -> bytes:
    """A payload from its parts; MissingError while some are missing, IntegrityError if what they
    give has another hash."""
    parts = cover(size, present(objects, sha256))
    if not parts:
        raise MissingError(f"Not all parts of {sha256} are in {objects.url}.")
    joined = bytearray(size)
    for part, data in zip(parts, _fetched(objects, sha256, parts), strict=True):
        joined[part.offset : part.offset + part.size] = data
    payload = bytes(joined)
    if len(payload) != size or sha256_of(payload) != sha256:
        raise IntegrityError(f"The parts of {sha256} in {objects.url} give other bytes.")
    return payload


def join(objects: Objects, sha256: str, payload: bytes) -> None:
    """Store a payload that was read from its parts under its own key; then the parts go."""
    objects.put(episode_key(sha256), payload)
    discard(objects, sha256)


def discard(objects: Objects, sha256: str) -> None:
    """Delete the parts of a payload."""
    for key in list(objects.list(f"{INCOMING}/{sha256}")):
        objects.delete(key)


def discard_damaged(objects: Objects, sha256: str, data: bytes) -> None:
    """Delete the parts of an earlier upload that are not what the payload has there, so that
    `send` sends them again."""

    def _check(part: Part) -> None:
        key = _key(sha256, part)
        if objects.get(key) != data[part.offset : part.offset + part.size]:
            log.warning("damaged part removed key=%s store=%s", key, objects.url)
            objects.delete(key)

    with ThreadPoolExecutor(PARTS_AT_ONCE, "parts") as pool:
        list(pool.map(_check, present(objects, sha256)))


def _key(sha256: str, part: Part) -> str:
    return f"{INCOMING}/{sha256}/{part.offset}-{part.size}"


def _fetched(objects: Objects, sha256: str, parts: list[Part]) -> list[bytes]:
    keys = [_key(sha256, part) for part in parts]
    with ThreadPoolExecutor(PARTS_AT_ONCE, "parts") as pool:
        return list(pool.map(objects.get, keys))


def _part(stored: Stored) -> Part | None:
    """The part that a key names; None for a stranger, or one whose size is not the promised one."""
    offset, _, size = stored.key.rpartition("/")[2].partition("-")
    if not (offset.isdigit() and size.isdigit() and int(size) == stored.size_bytes):
        return None
    return Part(int(offset), int(size))
