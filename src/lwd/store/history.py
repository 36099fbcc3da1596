"""The data set as a log of what joined, changed and left.

A snapshot is what the log says up to its version: nothing that was committed ever changes, so any
retained version can be had again. Statements of `lwd.store.catalog`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from lwd.episode.labels import NONE, Labels, corrected
from lwd.episode.types import Outcome
from lwd.errors import ConfigError
from lwd.store import dataset, pointers
from lwd.store.amendments import Amendment, Change, ordered, read
from lwd.store.engine import in_parts, insert_new
from lwd.store.rows import EpisodeRow
from lwd.store.schema import amendments, episodes, members, retentions


@dataclass(frozen=True, kw_only=True)
class Entry:
    """From `version` on the episode is in the data set as `row` and `labels` say, or is not."""

    version: int
    row: EpisodeRow
    labels: Labels = NONE
    present: bool = True
    lost: bool = False
    """Not even earlier versions can give it."""


class Difference(NamedTuple):
    """What makes the data set of one version another's."""

    joined: list[EpisodeRow]
    left: list[EpisodeRow]
    relabelled: list[EpisodeRow]
    """As they are in the later version."""
    amendments: list[Amendment]
    """Who changed what, and why."""


def log(connection: Connection, version: int, after: int) -> list[Entry]:
    """Entries of versions in (after, version], ordered by (version, episode id).

    With `after` = 0 it is all that is needed for the retained versions: what had changed or left
    before the oldest of them is not mentioned, nor is what is lost.
    """
    new = joined(connection, version, after)
    changed = _changed(connection, version, after)
    rows = {row.episode_id: row for _, row in new}
    since = {row.episode_id: number for number, row in new}
    missing = changed.keys() - rows.keys()
    rows |= {row.episode_id: row for row in _rows(connection, missing)}
    entries: list[Entry] = []
    for episode_id, row in rows.items():
        of_it = _entries(row, since.get(episode_id), changed.get(episode_id, ()))
        entries += [entry for entry in of_it if entry.version > after]
    if after == 0:
        entries = list(needed(entries, retained(connection)))
    return sorted(entries, key=lambda entry: (entry.version, entry.row.episode_id))


def needed(entries: Iterable[Entry], floor: int) -> Iterator[Entry]:
    """Entries without which some version from `floor` on could not be had; in order."""
    for _, of_one in groupby(entries, key=lambda entry: entry.row.episode_id):
        every = list(of_one)
        if every[-1].lost:
            continue
        past = [i for i, entry in enumerate(every) if entry.version <= floor]
        kept = every[past[-1] :] if past else every
        yield from kept if kept[0].present else kept[1:]


def life(connection: Connection, episode_id: str) -> list[Entry]:
    """Entries of one episode over all versions, none before it has joined."""
    (row,) = _rows(connection, [episode_id]) or (None,)
    since = dataset.snapshot_of(connection, episode_id)
    if row is None or since is None:
        return []
    newest = pointers.read(connection, pointers.SNAPSHOT)
    return _entries(row, since, _history(connection, episode_id, newest))


def dataset_of(connection: Connection, version: int, after: int = 0) -> list[EpisodeRow]:
    """Episodes in the data set of `version` that came in after `after`, as they are labelled."""
    last: dict[str, Entry] = {}
    changed = _changed(connection, version, after)
    for number, row in joined(connection, version, after):
        last[row.episode_id] = _entries(row, number, changed.get(row.episode_id, ()))[-1]
    return [entry.row for entry in last.values() if entry.present]


def difference(connection: Connection, older: int, newer: int) -> Difference:
    """What came, went and changed between two versions."""
    before: dict[str, bool] = {}
    found = Difference([], [], [], [])
    changed = _changed(connection, newer, older)
    new = {row.episode_id for _, row in joined(connection, newer, older)}
    rows = {row.episode_id: row for row in _rows(connection, changed.keys() | new)}
    versions = _versions(connection, rows)
    for episode_id, row in sorted(rows.items()):
        every = _entries(row, versions[episode_id], _history(connection, episode_id, newer))
        past = [entry for entry in every if entry.version <= older]
        before[episode_id] = bool(past) and past[-1].present
        now = every[-1]
        if now.present and not before[episode_id]:
            found.joined.append(now.row)
        elif before[episode_id] and not now.present:
            found.left.append(now.row)
        elif now.present and past[-1].labels != now.labels:
            found.relabelled.append(now.row)
    c = amendments.c
    query = ordered().where(c.version > older, c.version <= newer)
    found.amendments.extend(read(connection, query))
    return found


def retained(connection: Connection) -> int:
    """Oldest version that can be had; 0 while all can."""
    return connection.execute(select(func.max(retentions.c.version))).scalar() or 0


def retain_from(
    connection: Connection, version: int, *, author: str, reason: str, at: float
) -> int:
    """Give up versions before `version`; the oldest that is retained now, which never goes back."""
    newest = pointers.lock(connection, pointers.SNAPSHOT)
    if not 0 < version <= newest:
        raise ConfigError(f"Version {version} is not one of 1 to {newest}.")
    if version > retained(connection):
        values = {"version": version, "author": author, "reason": reason, "at": at}
        insert_new(connection, retentions, values)
    return retained(connection)


def _entries(row: EpisodeRow, since: int | None, changes: Sequence[Amendment]) -> list[Entry]:
    """The life of one episode: an entry for each version in which something happened to it."""
    present, lost, labels, entries = True, False, NONE, []
    versions = {number for c in changes if (number := c.version) is not None}
    if since is not None:
        versions.add(since)
    for version in sorted(versions):
        before = (present, labels) if entries else None
        for change in (c for c in changes if c.version == version):
            present, lost, labels = _after(change, row, present, lost, labels)
        if (present, labels) != before or lost:
            entry = Entry(
                version=version, row=label(row, labels), labels=labels, present=present, lost=lost
            )
            entries.append(entry)
    return entries


def _after(
    change: Amendment, row: EpisodeRow, present: bool, lost: bool, labels: Labels
) -> tuple[bool, bool, Labels]:
    if change.change == Change.LOST:
        return False, True, labels
    if change.change == Change.TOMBSTONE:
        return False, lost, labels
    if change.change == Change.RESTORE:
        return True, False, labels
    return present, lost, corrected(labels, change.change, change.value, ticks=row.ticks)


def label(row: EpisodeRow, labels: Labels) -> EpisodeRow:
    """The row as people have corrected it."""
    if labels.outcome is not None:
        ended = labels.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
        row = replace(row, outcome=str(labels.outcome), terminated=ended, truncated=not ended)
    if labels.human_ticks is not None:
        row = replace(row, interventions=labels.human_ticks)
    return row


def joined(connection: Connection, version: int, after: int) -> list[tuple[int, EpisodeRow]]:
    """Version and row of what joined in (after, version], as recorded, in that order."""
    c = members.c
    query = select(c.version, episodes).join(members, c.episode_id == episodes.c.episode_id)
    query = query.where(c.version > after, c.version <= version)
    found = connection.execute(query.order_by(c.version, c.episode_id))
    rows = [dict(row._mapping) for row in found]
    return [(values.pop("version"), EpisodeRow(**values)) for values in rows]


def _changed(connection: Connection, version: int, after: int) -> dict[str, list[Amendment]]:
    """Amendments up to `version` of every episode that has one in (after, version]."""
    c = amendments.c
    touched = select(c.episode_id).where(c.version > after, c.version <= version)
    query = ordered().where(c.version <= version, c.episode_id.in_(touched))
    found: dict[str, list[Amendment]] = {}
    for amendment in read(connection, query):
        found.setdefault(amendment.episode_id, []).append(amendment)
    return found


def _history(connection: Connection, episode_id: str, version: int) -> list[Amendment]:
    c = amendments.c
    return read(connection, ordered().where(c.episode_id == episode_id, c.version <= version))


def _rows(connection: Connection, ids: Iterable[str]) -> list[EpisodeRow]:
    return [row for part in in_parts(ids) for row in dataset.find_all(connection, part)]


def _versions(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    c = members.c
    return {
        row.episode_id: row.version
        for part in in_parts(ids)
        for row in connection.execute(select(c.episode_id, c.version).where(c.episode_id.in_(part)))
    }
