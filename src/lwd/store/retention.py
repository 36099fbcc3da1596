"""Which payloads nobody needs any more, and how they go: first aside, later for good.

A payload is needed while a retained version has its episode, while the episode waits, and while an
amendment of it waits. What is not is moved to `trash/`; a grace period later it is deleted there.
Parts of an upload that never ended are deleted at once: the robot still has the whole.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from lwd.store.catalog import Catalog
from lwd.store.objects import Objects, Stored, episode_key
from lwd.store.parts import INCOMING

log = logging.getLogger(__name__)

EPISODES = "episodes"
TRASH = "trash"
EVERYTHING = 1_000_000_000


class Collected(NamedTuple):
    """What a collection did, or would do; hashes of payloads."""

    aside: list[str]
    deleted: list[str]
    restored: list[str]
    """Were in the trash and are needed."""
    kept: int


def reachable(catalog: Catalog) -> set[str]:
    """Hashes of the payloads that somebody may still ask for."""
    # What waits comes first: what joins or takes effect meanwhile is in the log that is read later.
    rows = catalog.unsnapshotted(EVERYTHING)
    pending = {amendment.episode_id for amendment in catalog.amendments(pending=True)}
    rows += [row for e in pending if (row := catalog.episode(e)) is not None]
    entries = catalog.snapshot_log(catalog.snapshot_version())
    rows += [entry.row for entry in entries if entry.present]
    return {row.sha256 for row in rows}


def collect(
    catalog: Catalog, objects: Objects, *, now: float, grace_s: float, dry_run: bool = False
) -> Collected:
    """Move payloads aside that are needed by nobody and older than the grace period, which must be
    longer than a robot may be offline between an upload and its row; delete what was aside as long.

    What turns out to be needed after all comes back, also if its row came while this ran.
    """
    needed = reachable(catalog)
    stored = list(objects.inventory(EPISODES))
    old = [s for s in stored if _hash(s) not in needed and s.modified_at <= now - grace_s]
    trash = list(objects.inventory(TRASH))
    gone = [s for s in trash if _hash(s) not in needed and s.modified_at <= now - grace_s]
    found = Collected([*map(_hash, old)], [*map(_hash, gone)], [], len(stored) - len(old))
    if dry_run:
        return found
    for sha256 in found.aside:
        _move(objects, episode_key(sha256), trash_key(sha256))
    for sha256 in found.deleted:
        objects.delete(trash_key(sha256))
    _delete_parts(catalog, objects, now - grace_s)
    found.restored.extend(_restored(catalog, objects))
    log.info(
        "collected aside=%d deleted=%d restored=%d kept=%d",
        *(len(found.aside), len(found.deleted), len(found.restored), found.kept),
    )
    return found


def _delete_parts(catalog: Catalog, objects: Objects, before: float) -> None:
    """Delete parts of uploads of which nothing has come since `before`, and no row either."""
    uploads: dict[str, list[Stored]] = {}
    for stored in objects.inventory(INCOMING):
        uploads.setdefault(stored.key.split("/")[1], []).append(stored)
    needed = reachable(catalog)
    for sha256, found in uploads.items():
        if sha256 not in needed and max(part.modified_at for part in found) <= before:
            log.info("upload given up sha256=%s parts=%d", sha256, len(found))
            for part in found:
                objects.delete(part.key)


def trash_key(sha256: str) -> str:
    """Key of a payload that was moved aside."""
    return f"{TRASH}/{sha256}"


def _restored(catalog: Catalog, objects: Objects) -> Iterator[str]:
    """Bring back what is needed now; the trash is read before the catalog, so nothing is missed."""
    aside = {_hash(stored) for stored in objects.inventory(TRASH)}
    for sha256 in sorted(aside & reachable(catalog)):
        _move(objects, trash_key(sha256), episode_key(sha256))
        yield sha256


def _move(objects: Objects, source: str, target: str) -> None:
    """The bytes are at the target before they leave the source."""
    objects.put(target, objects.get(source))
    objects.delete(source)


def _hash(stored: Stored) -> str:
    return stored.key.rpartition("/")[2]
