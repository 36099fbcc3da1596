"""Finds what is wrong between catalog and object store, explains it, and repairs what it can.

Every repair is one that the rest of the system would survive at any moment: payloads are put back
under their hash, dead letters wait again, and what is lost for good is said to be, by an amendment.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from lwd.errors import IntegrityError, LwdError, MissingError
from lwd.store import parts, weights
from lwd.store.amendments import Change
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.finding import Finding
from lwd.store.objects import Objects, Stored, episode_key, sha256_of
from lwd.store.retention import EPISODES, EVERYTHING, trash_key
from lwd.store.rows import EpisodeRow

log = logging.getLogger(__name__)

AUTHOR = "lwd doctor"
DOWNLOADS = 8


class Trouble(StrEnum):
    """What may be wrong."""

    MISSING = "payload missing"
    DAMAGED = "payload damaged"
    DEAD = "dead letter"
    ORPHAN = "payload without a row"
    STUCK = "waits too long"
    NO_POLICY = "weights missing"
    VERSIONS = "versions do not add up"
    LEASE = "nobody coordinates"
    NOTICES = "notices wait"


def no_copy(row: EpisodeRow) -> bytes | None:
    """Nobody else has the payload."""
    return None


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is examined."""

    catalog: Catalog
    objects: Objects
    clock: Callable[[], float]
    copy: Callable[[EpisodeRow], bytes | None] = no_copy
    """Another copy of a payload, for example a robot's; it need not be right."""
    describe: Callable[[bytes], EpisodeRow | None] = field(default=lambda data: None)
    """Row of an episode's payload; None if it is none."""
    patience_s: float = 300.0
    """Time after which waiting is a trouble, and a payload without a row an orphan."""
    deep: bool = False
    """Download every payload and compare its hash, not only its size."""


def examine(patient: Patient) -> list[Finding]:
    """Everything that is wrong, the gravest first."""
    stored = {s.key: s for s in patient.objects.inventory(EPISODES)}
    members = [
        entry.row
        for entry in patient.catalog.snapshot_log(patient.catalog.snapshot_version())
        if entry.present
    ]
    waiting = patient.catalog.unsnapshotted(EVERYTHING)
    return [
        *_versions(patient.catalog),
        *_payloads(patient, members, stored),
        *_dead(patient),
        *_stuck(patient, waiting, stored),
        *_orphans(patient, stored),
        *_policy(patient),
        *_coordination(patient),
    ]


def repair(patient: Patient, finding: Finding) -> str:
    """Do what the finding's remedy says; what came of it."""
    if not finding.repairable:
        return "left: a person has to act"
    if finding.trouble is Trouble.ORPHAN:
        return _adopt(patient, finding.subject)
    row = patient.catalog.episode(finding.subject)
    if row is None:
        return "left: it is not in the catalog any more"
    came_back = _put_back(patient, row)
    if finding.trouble is Trouble.DEAD:
        if came_back is None:
            return "left: its payload is still not there"
        patient.catalog.revive(row.episode_id)
        return f"{came_back}; it waits for the coordinator again"
    if came_back is not None:
        return came_back
    if patient.catalog.snapshot_of(row.episode_id) is None:
        return "left: bring the robot that has its copy back"
    reason = "its payload is not in the object store as promised, and no copy was found"
    patient.catalog.amend(row.episode_id, Change.LOST, author=AUTHOR, reason=reason)
    return "no copy: it leaves every version with the next snapshot"


def _versions(catalog: Catalog) -> Iterator[Finding]:
    newest = catalog.snapshot_version()
    sizes, counted = catalog.snapshot_sizes(newest + EVERYTHING), catalog.member_counts()
    remedy = "Restore the catalog from a backup; its rows were changed by hand or by damage."
    numbers = [version for version, _ in sizes]
    if numbers != list(range(1, newest + 1)):
        gaps = [f"{a} to {b}" for a, b in pairwise([0, *numbers]) if b != a + 1] or [str(newest)]
        why = f"the pointer names version {newest}; the snapshots jump: {', '.join(gaps)}"
        yield Finding(Trouble.VERSIONS, str(newest), why, remedy, False)
    for version, added in sizes:
        if counted.get(version, 0) != added:
            why = f"{added} episodes joined in version {version}; it has {counted.get(version, 0)}"
            yield Finding(Trouble.VERSIONS, str(version), why, remedy, False)


def _payloads(
    patient: Patient, rows: Sequence[EpisodeRow], stored: dict[str, Stored]
) -> Iterator[Finding]:
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        faults = pool.map(lambda row: _fault(patient, row, stored), rows)
        for row, fault in zip(rows, faults, strict=True):
            if fault is not None:
                remedy = "put the payload back from the trash or from a robot's spool, or say that "
                remedy += "it is lost"
                yield Finding(fault[0], row.episode_id, fault[1], remedy, True)


def _fault(
    patient: Patient, row: EpisodeRow, stored: dict[str, Stored]
) -> tuple[Trouble, str] | None:
    key = episode_key(row.sha256)
    found = stored.get(key)
    if found is None:
        return Trouble.MISSING, f"a snapshot has the episode, but {key} is not in the store"
    if found.size_bytes != row.size_bytes:
        why = f"{key} has {found.size_bytes} bytes, its row says {row.size_bytes}"
        return Trouble.DAMAGED, why
    if not patient.deep:
        return None
    try:
        patient.objects.get(key, sha256=row.sha256)
    except MissingError as error:
        return Trouble.MISSING, str(error)
    except IntegrityError as error:
        return Trouble.DAMAGED, str(error)
    return None


def _dead(patient: Patient) -> Iterator[Finding]:
    """Dead letters of episodes that are in no snapshot, and whose payload can be had."""
    for letter in patient.catalog.dead_letters():
        row = patient.catalog.episode(letter.episode_id)
        if row is None or patient.catalog.snapshot_of(row.episode_id) is not None:
            continue
        payload = _intact(patient, row)
        described = None if payload is None else patient.describe(payload)
        can = described is not None and described.episode_id == row.episode_id
        remedy = "put its payload back and let it wait for the coordinator again"
        if not can:
            remedy = "bring the robot that made it back, or leave it: it is not trained on"
        yield Finding(Trouble.DEAD, row.episode_id, f"given up: {letter.reason}", remedy, can)


def _stuck(
    patient: Patient, rows: Sequence[EpisodeRow], stored: dict[str, Stored]
) -> Iterator[Finding]:
    for row in rows:
        age_s = patient.clock() - row.inserted_at
        if age_s < patient.patience_s:
            continue
        fault = _fault(patient, row, stored)
        why = f"catalogued {age_s:.0f} s ago and in no snapshot"
        in_parts = parts.cover(row.size_bytes, parts.present(patient.objects, row.sha256))
        if fault is None or in_parts:
            yield Finding(Trouble.STUCK, row.episode_id, why, "start `lwd coordinator`", False)
        else:
            remedy = "put its payload back from a robot's spool"
            yield Finding(fault[0], row.episode_id, f"{why}: {fault[1]}", remedy, True)


def _orphans(patient: Patient, stored: dict[str, Stored]) -> Iterator[Finding]:
    known = patient.catalog.hashes()
    before = patient.clock() - patient.patience_s
    for key, found in stored.items():
        sha256 = key.rpartition("/")[2]
        if sha256 in known or found.modified_at > before:
            continue
        row = patient.describe(patient.objects.get(key))
        whose = f"of episode {row.episode_id} by {row.robot}" if row else "that is no episode"
        why = f"a payload {whose} was stored and no row came"
        remedy = (
            "write its row, as the robot would" if row else "`lwd snapshots collect` removes it"
        )
        yield Finding(Trouble.ORPHAN, sha256, why, remedy, row is not None)


def _policy(patient: Patient) -> Iterator[Finding]:
    newest = patient.catalog.latest_weights()
    if newest is None or patient.objects.exists(weights.key(newest.sha256)):
        return
    why = f"the artifact {weights.key(newest.sha256)} is not in the store"
    remedy = "publish again: robots keep their last good policy until then"
    yield Finding(Trouble.NO_POLICY, str(newest.version), why, remedy, False)


def _coordination(patient: Patient) -> Iterator[Finding]:
    lease, now = patient.catalog.lease(COORDINATOR), patient.clock()
    waiting = patient.catalog.unsnapshotted(1, patient.patience_s)
    if waiting and (lease is None or lease.expires_at < now):
        why = "episodes wait, and no coordinator has the lease"
        yield Finding(Trouble.LEASE, COORDINATOR, why, "start `lwd coordinator`", False)
    if backlog := patient.catalog.backlog():
        why = f"{backlog} notices have not reached the queue"
        remedy = "start `lwd service` and `lwd queue`; until then reconciliation finds the episodes"
        yield Finding(Trouble.NOTICES, "outbox", why, remedy, False)


def _put_back(patient: Patient, row: EpisodeRow) -> str | None:
    """What was done so that the payload is whole; None if nobody has it."""
    key = episode_key(row.sha256)
    try:
        patient.objects.get(key, sha256=row.sha256)
        return "the payload is whole"
    except IntegrityError:
        payload = _copy(patient, row)
    if payload is None:
        return None
    patient.objects.put(key, payload)
    log.info("payload put back episode=%s", row.episode_id)
    return "the payload was put back from a copy"


def _intact(patient: Patient, row: EpisodeRow) -> bytes | None:
    try:
        return patient.objects.get(episode_key(row.sha256), sha256=row.sha256)
    except IntegrityError:
        return _copy(patient, row)


def _copy(patient: Patient, row: EpisodeRow) -> bytes | None:
    """Another copy with the promised hash, from the trash, from the parts of its upload, or from
    wherever the patient knows."""
    with contextlib.suppress(IntegrityError):
        return patient.objects.get(trash_key(row.sha256), sha256=row.sha256)
    try:
        return parts.read(patient.objects, row.sha256, row.size_bytes)
    except IntegrityError:
        payload = patient.copy(row)
    return payload if payload is not None and sha256_of(payload) == row.sha256 else None


def _adopt(patient: Patient, sha256: str) -> str:
    row = patient.describe(patient.objects.get(episode_key(sha256)))
    if row is None or row.sha256 != sha256:
        return "left: it is no whole episode"
    try:
        patient.catalog.insert_episode(row)
    except LwdError as error:
        return f"left: {error}"
    return "its row was written; it waits for the coordinator"
