"""What a LeRobotDataset says about each episode: length, tasks, where its pictures lie."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lwd.lerobot.layout import V3, Info

log = logging.getLogger(__name__)

Complain = Callable[[str], None]
"""Is told about a part of the dataset that cannot be used."""
_STANDARD = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The pictures of one episode in a camera's file."""

    path: Path
    start_s: float = 0.0
    """Time of the first one in the file."""
    end_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class About:
    """One episode, as meta/ has it."""

    index: int
    length: int
    tasks: tuple[str, ...] = ()
    videos: Mapping[str, Segment] = field(default_factory=dict)
    """Feature to where its pictures are."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Columns that LeRobot does not define: `success`, `policy_version`, `robot_id` and others."""


def read_episodes(info: Info, complain: Complain) -> dict[int, About]:
    """Index to what is known of each episode; files that are damaged are complained about."""
    found: dict[int, About] = {}
    entries = _v3(info, complain) if info.version == V3 else _v2(info, complain)
    for about in entries:
        if about.index in found:
            complain(f"meta has episode {about.index} twice; the first entry counts")
        else:
            found[about.index] = about
    return found


def read_tasks(info: Info, complain: Complain) -> dict[int, str]:
    """Task index to instruction."""
    try:
        return _tasks_v3(info.root) if info.version == V3 else _tasks_v2(info.root)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        complain(f"the table of tasks is not usable: {error}")
        return {}


def _tasks_v3(root: Path) -> dict[int, str]:
    table = pq.read_table(root / "meta" / "tasks.parquet")
    (texts,) = (name for name in table.column_names if name != "task_index")
    pairs = zip(table["task_index"].to_pylist(), table[texts].to_pylist(), strict=True)
    return {int(number): str(text) for number, text in pairs}


def _tasks_v2(root: Path) -> dict[int, str]:
    lines = (root / "meta" / "tasks.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines if line.strip()]
    return {int(entry["task_index"]): str(entry["task"]) for entry in entries}


def _v3(info: Info, complain: Complain) -> Iterator[About]:
    paths = sorted((info.root / "meta" / "episodes").glob("*/*.parquet"))
    if not paths:
        complain("meta/episodes holds no file: the recorder never finished it")
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                names = [n for n in file.schema_arrow.names if not n.startswith("stats/")]
                for batch in file.iter_batches(batch_size=4096, columns=names):
                    for row in batch.to_pylist():
                        yield _entry(info, row)
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            complain(f"{path.relative_to(info.root)} is not usable: {_short(error)}")


def _entry(info: Info, row: Mapping[str, Any]) -> About:
    videos = {}
    for key in info.videos:
        place = f"videos/{key}"
        if row.get(f"{place}/file_index") is None:
            continue
        end = row.get(f"{place}/to_timestamp")
        videos[key] = Segment(
            path=info.video_file(
                key,
                chunk_index=int(row[f"{place}/chunk_index"]),
                file_index=int(row[f"{place}/file_index"]),
            ),
            start_s=float(row.get(f"{place}/from_timestamp") or 0.0),
            end_s=None if end is None else float(end),
        )
    return About(
        index=int(row["episode_index"]),
        length=int(row["length"]),
        tasks=tuple(map(str, row.get("tasks") or ())),
        videos=videos,
        extra={n: v for n, v in row.items() if n not in _STANDARD and "/" not in n},
    )


def _v2(info: Info, complain: Complain) -> Iterator[About]:
    path = info.root / "meta" / "episodes.jsonl"
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        complain(f"meta/episodes.jsonl is not usable: {error}")
        return
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            index = int(entry["episode_index"])
            known = {"episode_index", "tasks", "length"}
            yield About(
                index=index,
                length=int(entry["length"]),
                tasks=tuple(map(str, entry.get("tasks") or ())),
                videos={
                    key: Segment(path=info.video_file(key, episode_index=index))
                    for key in info.videos
                },
                extra={n: v for n, v in entry.items() if n not in known},
            )
        except (ValueError, KeyError, TypeError) as error:
            complain(f"meta/episodes.jsonl line {number} is not usable: {_short(error)}")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
