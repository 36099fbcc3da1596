"""Mends a LeRobotDataset v3.0: footers first, then data and meta anew, of what is whole.

Nothing is lost by it: what is replaced stays in `damaged-N/`, and the videos are not touched.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lwd.errors import EpisodeError
from lwd.lerobot import stats
from lwd.lerobot.doctor import Trouble, damaged_rows, examine
from lwd.lerobot.episodes import Segment
from lwd.lerobot.footer import restore, schema_of, whole_groups
from lwd.lerobot.layout import AUTOMATIC, DATA_PATH, EPISODES_PATH, V3, Info, read_info
from lwd.lerobot.rows import Rows, stream
from lwd.lerobot.survey import RATE, Survey, layouts, segments, survey
from lwd.lerobot.tables import Files, as_columns, write_tasks
from lwd.lerobot.video import Video
from lwd.store.disk import sync_file, sync_folder, written_aside
from lwd.store.finding import Finding

log = logging.getLogger(__name__)
_BY_HAND = (Trouble.INFO, Trouble.LEFTOVER)


def repair(root: Path, findings: Sequence[Finding]) -> list[str]:
    """Do what can be done about the findings; what came of each.

    What begins with `left` was not mended.
    """
    if not any(finding.repairable for finding in findings):
        return ["left: a person has to act" for _ in findings]
    info = read_info(root)
    footers = _restore_all(info)
    _correct_rate(info)
    if any(f.repairable and f.trouble not in (Trouble.FOOTER, *_BY_HAND) for f in examine(root)):
        dropped = _rebuild(read_info(root))
        done = "data and meta were written again"
        done += f"; without {', '.join(dropped)}" if dropped else ", with all episodes"
    else:
        done = "mended with the rest"
    return [_came(finding, footers, done) for finding in findings]


def _came(finding: Finding, footers: Mapping[str, str], done: str) -> str:
    if not finding.repairable:
        return "left: a person has to act"
    return footers.get(finding.subject, done)


def _restore_all(info: Info) -> dict[str, str]:
    """File of rows to what was done about its footer."""
    came = {}
    for path in damaged_rows(info):
        name = str(path.relative_to(info.root))
        schema = schema_of(info)
        try:
            groups = whole_groups(path, schema) if path.stat().st_size > 8 else []
            if groups:
                rows = restore(path, schema, groups)
                came[name] = f"footer written: {rows} rows in {len(groups)} row groups are back"
                continue
        except (ValueError, pa.ArrowException) as error:
            log.warning("rows lost file=%s reason=%s", path, error)
        os.replace(path, path.with_name(f"{path.name}.damaged"))
        sync_folder(path.parent)
        came[name] = "moved aside: none of its rows could be brought back"
    return came


def _correct_rate(info: Info) -> None:
    """Let info.json say the rate at which all rows are."""
    real = survey(info).rate_hz
    whole = round(real)
    if not real or abs(real / info.fps - 1) < RATE or abs(real - whole) > RATE:
        return
    _change_info(info.root, {"fps": whole})


def _change_info(root: Path, changes: Mapping[str, Any]) -> None:
    path = root / "meta" / "info.json"
    said = json.loads(path.read_text()) | changes
    with written_aside(path) as file:
        file.write(json.dumps(said, indent=4, ensure_ascii=False).encode())


def _rebuild(info: Info) -> list[str]:
    """Write data/ and meta/ again and let them take their places; what is not in them."""
    found = survey(info)
    keep, dropped = _whole(found)
    if not keep:
        raise EpisodeError(f"{info.root}: no episode is whole, so there is nothing to write again.")
    aside = info.root / ".repaired"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    _Rebuild(found, keep, aside).run()
    kept = next(p for n in range(1, 10_000) if not (p := info.root / f"damaged-{n}").exists())
    kept.mkdir()
    for name in ("data", "meta"):
        if (info.root / name).exists():
            os.replace(info.root / name, kept / name)
        os.replace(aside / name, info.root / name)
    sync_folder(info.root)
    aside.rmdir()
    return dropped


def _whole(found: Survey) -> tuple[dict[int, dict[str, Segment]], list[str]]:
    """Episodes that have all rows and all pictures, with where these are; and the others."""
    keep, dropped = {}, []
    fps, places = found.rate_hz or found.info.fps, layouts(found)
    for index in sorted(found.episodes):
        seen = found.episodes[index]
        where, fault = segments(found, places, index)
        wrong = bool(seen.rate_hz) and abs(seen.rate_hz / fps - 1) > RATE
        if seen.fault or wrong or fault:
            dropped.append(f"episode {index}")
        else:
            keep[index] = where
    return keep, dropped


class _Rebuild:
    """Writes the kept episodes, numbered from 0."""

    def __init__(
        self, found: Survey, keep: Mapping[int, Mapping[str, Segment]], target: Path
    ) -> None:
        self._found, self._keep, self._target = found, keep, target
        self._info = found.info
        self._fps = found.rate_hz or found.info.fps
        self._schema = schema_of(found.info)
        self._data = Files(target, DATA_PATH, self._schema)
        self._numbers: dict[str, stats.Rows] = {}
        self._pictures = {key: stats.Pictures() for key in found.info.videos}
        self._entries: list[dict[str, Any]] = []
        self._frames = 0
        self._splits: dict[str, list[int]] = {}
        self._split = "train"

    def run(self) -> None:
        done: set[int] = set()
        names = [name for name in self._schema.names if name not in AUTOMATIC]
        for rows in stream(self._info, names, log.warning):
            # Rows that come twice are those that were read first, as in the survey.
            if rows.episode in self._keep and rows.episode not in done:
                done.add(rows.episode)
                self._one(rows)
        self._data.close()
        self._write_meta()
        for path in sorted(self._target.rglob("*"), reverse=True):
            sync_folder(path) if path.is_dir() else sync_file(path)

    def _one(self, rows: Rows) -> None:
        number, count = len(self._entries), rows.table.num_rows
        about = self._found.about.get(rows.episode)
        task = self._found.tasks.get(self._found.episodes[rows.episode].task)
        entry: dict[str, Any] = dict(about.extra) if about else {}
        entry |= {"episode_index": number, "length": count}
        entry["tasks"] = list(about.tasks) if about and about.tasks else [task or ""]
        entry |= {f"data/{name}": n for name, n in self._data.rotate().items()}
        entry |= {"dataset_from_index": self._frames, "dataset_to_index": self._frames + count}
        for key, segment in self._keep[rows.episode].items():
            entry |= _place(key, segment, count, self._fps)
        new = {
            "episode_index": np.full(count, number),
            "index": self._frames + np.arange(count),
        }
        table = rows.table.select(self._schema.names)
        for name, values in new.items():
            at = table.column_names.index(name)
            table = table.set_column(at, name, pa.array(values, pa.int64()))
        self._data.write(table.cast(self._schema))
        entry |= as_columns(self._statistics(rows, new))
        self._entries.append(entry)
        self._frames += count
        self._extend_split(rows.episode, number)

    def _extend_split(self, old: int, number: int) -> None:
        """Keep an episode in its split; one in none, as a killed recorder leaves them, belongs to
        the split of the episode before."""
        self._split = self._info.split_of(old) or self._split
        found = self._splits.setdefault(self._split, [number, number])
        if found[1] != number:
            raise EpisodeError(
                f"{self._info.root}: the episodes of split {self._split!r} are not stored one "
                "after another, as a range in info.json needs it. Data and meta were not written "
                "again: correct the splits there; without one an episode is trained on."
            )
        found[1] = number + 1

    def _statistics(
        self, rows: Rows, new: Mapping[str, np.ndarray]
    ) -> dict[str, Mapping[str, np.ndarray]]:
        seen = {}
        for name in self._schema.names:
            if name not in self._info.features or self._info.features[name].dtype == "string":
                continue
            if self._info.features[name].is_picture:
                continue
            values = new[name].reshape(-1, 1) if name in new else rows.numbers(name)
            seen[name] = stats.of_rows(values)
            self._numbers.setdefault(name, stats.Rows()).add(values)
        for key, segment in self._keep[rows.episode].items():
            own = _looked_at(segment, rows.table.num_rows, self._fps)
            self._pictures[key].add(own.counts, own.pictures)
            seen[key] = own.result()
        return seen

    def _write_meta(self) -> None:
        place = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        names = dict.fromkeys(name for entry in self._entries for name in entry)
        entries = [dict.fromkeys(names) | entry | place for entry in self._entries]
        path = self._target / EPISODES_PATH.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(entries), path)
        meta = self._target / "meta"
        used = {seen.task for seen in self._found.episodes.values()}
        tasks = dict(self._found.tasks) | {
            number: f"task {number}" for number in used if number not in self._found.tasks
        }
        write_tasks(meta / "tasks.parquet", {text: n for n, text in sorted(tasks.items())})
        whole = {key: numbers.result() for key, numbers in self._numbers.items()}
        whole |= {key: seen.result() for key, seen in self._pictures.items()}
        numbers = {key: {n: v.tolist() for n, v in of.items()} for key, of in whole.items()}
        (meta / "stats.json").write_text(json.dumps(numbers, indent=4))
        said = json.loads((self._info.root / "meta" / "info.json").read_text())
        said |= {
            "codebase_version": V3,
            "total_episodes": len(self._entries),
            "total_frames": self._frames,
            "total_tasks": len(tasks),
            "splits": {name: f"{a}:{b}" for name, (a, b) in self._splits.items()},
            "data_path": DATA_PATH,
        }
        (meta / "info.json").write_text(json.dumps(said, indent=4, ensure_ascii=False))


def _place(key: str, segment: Segment, count: int, fps: float) -> dict[str, Any]:
    """Columns of meta/episodes that say where an episode's pictures are."""
    chunk, file = (int(part.rpartition("-")[2]) for part in segment.path.with_suffix("").parts[-2:])
    place = f"videos/{key}"
    return {
        f"{place}/chunk_index": chunk,
        f"{place}/file_index": file,
        f"{place}/from_timestamp": segment.start_s,
        f"{place}/to_timestamp": segment.start_s + count / fps,
    }


def _looked_at(segment: Segment, count: int, fps: float) -> stats.Pictures:
    """Histogram of some pictures of an episode."""
    own, chosen = stats.Pictures(), stats.looked_at(count)
    times = [segment.start_s + number / fps for number in range(count)]
    with Video(segment.path) as video:
        for number, frame in enumerate(video.read(times, 0.4 / fps)):
            if number in chosen:
                own.add(stats.histogram(frame.to_ndarray(format="rgb24")))
    return own
