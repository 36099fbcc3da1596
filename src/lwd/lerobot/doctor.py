"""Finds what is wrong with a LeRobotDataset, explains it, and says what can be done.

A recorder that is killed leaves rows without a footer, episodes that meta does not have, counts
that are ahead of the data, and videos that are cut off; `lwd.lerobot.repair` mends what can be.
"""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pyarrow as pa

from lwd.errors import ConfigError
from lwd.lerobot.footer import has_footer, schema_of, whole_groups
from lwd.lerobot.layout import V3, Info, read_info
from lwd.lerobot.survey import RATE, Survey, fault_of, layouts, segments, survey
from lwd.store.finding import Finding

REBUILD = "write data and meta again, of the episodes that are whole, numbered without gaps"


class Trouble(StrEnum):
    """What may be wrong."""

    INFO = "no dataset"
    FOOTER = "rows without a footer"
    META = "meta not usable"
    RATE = "wrong fps"
    FRAMES = "frames missing"
    VIDEO = "video missing or cut off"
    PLACE = "meta and data disagree"
    GAP = "episodes missing"
    COUNTS = "counts disagree"
    TASKS = "task unknown"
    STATS = "no statistics"
    LEFTOVER = "left over"


def examine(root: Path) -> list[Finding]:
    """Everything that is wrong, the gravest first. Nothing is changed."""
    try:
        info = read_info(root)
    except ConfigError as error:
        remedy = "bring meta/info.json back: without it nobody knows what the columns are"
        return [Finding(Trouble.INFO, "meta/info.json", str(error), remedy, False)]
    footers = list(_footers(info))
    found = survey(info)
    said = [*_meta(found), *_rate(found), *_episodes(found), *_gaps(found), *_rest(found)]
    if info.version != V3:
        said = [f._replace(remedy="`lwd import` leaves it out", repairable=False) for f in said]
    return [*footers, *said]


def damaged_rows(info: Info) -> list[Path]:
    """Files of rows that cannot be opened."""
    return [path for path in info.data_files() if not has_footer(path)]


def _footers(info: Info) -> Iterator[Finding]:
    for path in damaged_rows(info):
        name, size = str(path.relative_to(info.root)), path.stat().st_size
        try:
            groups = whole_groups(path, schema_of(info)) if size > 8 else []
        except (ValueError, pa.ArrowException) as error:
            groups, reason = [], f"{error}"
        else:
            reason = "its writer was killed before the end"
        rows = sum(group.rows for group in groups)
        why = f"{name} ({size} bytes) has no footer: {reason}; {len(groups)} whole row groups "
        why += f"with {rows} rows can be brought back"
        remedy = "write the footer" if groups else "move the file aside; its rows are lost"
        yield Finding(Trouble.FOOTER, name, why, remedy, info.version == V3)


def _meta(found: Survey) -> Iterator[Finding]:
    for complaint in found.complaints:
        if not complaint.startswith("data"):
            yield Finding(Trouble.META, complaint.split(" ")[0], complaint, REBUILD, True)


def _rate(found: Survey) -> Iterator[Finding]:
    said, real = found.info.fps, found.rate_hz
    if real and abs(real / said - 1) > RATE:
        why = (
            f"all rows are {1 / real:.4f} s apart, which is {real:.2f} Hz; info.json says {said:g}"
        )
        remedy = f"write {round(real)} into info.json"
        yield Finding(Trouble.RATE, "meta/info.json", why, remedy, abs(real - round(real)) < RATE)


def _episodes(found: Survey) -> Iterator[Finding]:
    fps, places = found.rate_hz or found.info.fps, layouts(found)
    for index, seen in found.episodes.items():
        name = f"episode {index}"
        if seen.fault:
            yield Finding(Trouble.FRAMES, name, seen.fault, REBUILD, True)
        elif seen.rate_hz and abs(seen.rate_hz / fps - 1) > RATE:
            why = f"its frames come at {seen.rate_hz:.2f} Hz, others' at {fps:g}"
            yield Finding(Trouble.RATE, name, why, REBUILD, True)
        elif fault := segments(found, places, index)[1]:
            yield Finding(Trouble.VIDEO, name, fault, REBUILD, True)
        elif fault := _misplaced(found, index):
            yield Finding(Trouble.PLACE, name, fault, REBUILD, True)
        if seen.task not in found.tasks:
            why = f"its task_index {seen.task} is not in the table of tasks"
            yield Finding(Trouble.TASKS, name, why, REBUILD, True)
    for index in found.twice:
        why = "its rows come again in another place"
        yield Finding(Trouble.FRAMES, f"episode {index}", why, REBUILD, True)


def _misplaced(found: Survey, index: int) -> str:
    """What meta says wrongly about an episode that is whole."""
    about, length = found.about.get(index), found.episodes[index].length
    if about is None:
        return "meta does not have it"
    if about.length != length:
        return f"meta says {about.length} frames, the data has {length}"
    faults = (fault_of(found, segment, length) for segment in about.videos.values())
    wrong = next((fault for fault in faults if fault), "")
    return f"meta says where its pictures are, wrongly: {wrong}" if wrong else ""


def _gaps(found: Survey) -> Iterator[Finding]:
    for index in sorted(set(found.about) - set(found.episodes)):
        why = "meta has it, and its rows are in no file that can be read"
        yield Finding(Trouble.GAP, f"episode {index}", why, REBUILD, True)
    there = list(found.about)
    if there and there != list(range(len(there))):
        first = next(n for n, index in enumerate(there) if n != index)
        why = f"row {first} of meta/episodes is of episode {there[first]}: readers look up by row, "
        why += "and would show another episode's pictures from there on"
        yield Finding(Trouble.GAP, "meta/episodes", why, REBUILD, True)


def _rest(found: Survey) -> Iterator[Finding]:
    info = found.info
    real = {
        "episodes": len(found.episodes),
        "frames": sum(seen.length for seen in found.episodes.values()),
    }
    for name, said in info.totals.items():
        if said != real[name]:
            why = f"info.json says {said} {name}, the data has {real[name]}"
            yield Finding(Trouble.COUNTS, "meta/info.json", why, REBUILD, True)
    if info.version == V3 and not _is_json(info.root / "meta" / "stats.json"):
        why = "meta/stats.json is not there or not readable: nobody can normalise with it"
        yield Finding(Trouble.STATS, "meta/stats.json", why, REBUILD, True)
    for path in sorted(info.root.glob("*")):
        if path.is_dir() and (path.name == "images" or path.name.startswith("tmp")):
            size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            if size:
                why = f"{path.name}/ has {size} bytes of an episode that was not finished"
                remedy = "remove it, once you are sure that nobody records"
                yield Finding(Trouble.LEFTOVER, path.name, why, remedy, False)


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except (OSError, ValueError):
        return False
