"""Collects the evidence after the storm: catalog, object store, spools, and what was witnessed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from lwd.chaos.audit import Evidence, Member
from lwd.edge.spool import spools
from lwd.episode.payload import header
from lwd.errors import LwdError
from lwd.store.amendments import Change
from lwd.store.catalog import Catalog
from lwd.store.lines import entries
from lwd.store.objects import Objects, episode_key
from lwd.store.rows import EpisodeRow

DOWNLOADS = 8


class Witnesses(NamedTuple):
    """Files and folders in which the run was written down."""

    robots: Sequence[Path]
    readers: Sequence[Path]
    damage: Path
    spools: Path


def gather(
    catalog: Catalog,
    objects: Objects,
    witnesses: Witnesses,
    *,
    after: int,
    found: frozenset[str] = frozenset(),
    policies: Mapping[int, str] | None = None,
) -> Evidence:
    """All there is to know about what joined in versions later than `after`.

    `found` are hashes of payloads whose damage was noticed on the way, `policies` what the
    published versions must be.
    """
    version = catalog.snapshot_version()
    sizes = catalog.snapshot_sizes(version, after=after)
    numbers = catalog.member_versions(after)
    members = [Member(number, row.episode_id, row.sha256) for number, row in numbers]
    rows = [row for _, row in numbers]
    faults, scenes = inspect(objects, rows)
    said = [(path.name, entry) for path in witnesses.robots for entry in entries(path)]
    promised = {entry["saved"]: robot for robot, entry in said if "saved" in entry}
    acknowledged = frozenset(promised)
    dead = {letter.episode_id: letter.reason for letter in catalog.dead_letters()}
    missing = acknowledged - {row.episode_id for row in rows}
    elsewhere = {e: row for e in missing | dead.keys() if (row := catalog.episode(e))}
    return Evidence(
        acknowledged=acknowledged,
        begun=frozenset(entry["begun"] for _, entry in said if "begun" in entry),
        sizes=sizes,
        members=members,
        faults=faults,
        scenes=scenes,
        gone={a.episode_id for a in catalog.amendments() if a.change == Change.LOST},
        found=found,
        damaged=frozenset(entry["damaged"] for entry in entries(witnesses.damage)),
        dead=dead,
        hashes={row.episode_id: row.sha256 for row in [*rows, *elsewhere.values()]},
        readings=[entry for path in witnesses.readers for entry in entries(path)],
        policies=policies or {},
        acted={path.name: acts for path in witnesses.robots if (acts := _acts(path))},
        made_by={row.episode_id: (row.robot, row.policy_version) for row in rows},
        whereabouts=_whereabouts(missing, dead, elsewhere, witnesses.spools),
        saved=Counter(({row.episode_id: row.robot for row in rows} | promised).values()),
    )


def _acts(path: Path) -> list[tuple[int, str]]:
    """Version and digest of what a robot acted with, episode after episode."""
    return [(entry["acts"], entry["digest"]) for entry in entries(path) if "acts" in entry]


def inspect(
    objects: Objects, rows: Iterable[EpisodeRow]
) -> tuple[dict[str, str], dict[str, tuple[str, int]]]:
    """Hash to what is wrong with that payload, and episode to the robot and scene that it says."""
    every = list(rows)
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        found = list(pool.map(lambda row: _inspect(objects, row), every))
    faults = {row.sha256: f for row, f in zip(every, found, strict=True) if isinstance(f, str)}
    scenes = {
        row.episode_id: f for row, f in zip(every, found, strict=True) if isinstance(f, tuple)
    }
    return faults, scenes


def _inspect(objects: Objects, row: EpisodeRow) -> str | tuple[str, int]:
    try:
        found = header(objects.get(episode_key(row.sha256), sha256=row.sha256))
    except LwdError as error:
        return str(error)
    if found.episode_id != row.episode_id:
        return f"the payload is of episode {found.episode_id}"
    return (found.robot, found.seed)


def _whereabouts(
    episodes: Iterable[str], dead: dict[str, str], rows: dict[str, EpisodeRow], folder: Path
) -> dict[str, str]:
    found = dict.fromkeys(episodes, "gone without a trace")
    for spool in spools(folder):
        for state in ("pending", "done", "rejected"):
            for path in (spool.root / state).glob("*.arrow"):
                if path.stem in found:
                    found[path.stem] = f"{state} in the spool, not in the catalog"
    for episode_id in found:
        if episode_id in dead:
            found[episode_id] = f"dead letter: {dead[episode_id]}"
        elif episode_id in rows:
            found[episode_id] = "catalogued, in no snapshot"
    return found
