"""Writes a LeRobotDataset v3.0 that the real one reads: whole, or not there at all."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lwd.errors import ConfigError
from lwd.lerobot import stats
from lwd.lerobot.layout import (
    AUTOMATIC,
    DATA_FILE_MB,
    DATA_PATH,
    EPISODES_PATH,
    FILES_IN_CHUNK,
    V3,
    VIDEO_FILE_MB,
    VIDEO_PATH,
)
from lwd.lerobot.tables import MB, Files, Place, as_columns, write_tasks
from lwd.lerobot.video import VideoWriter
from lwd.store.disk import sync_file, sync_folder

MOST_S = 1000.0
"""Longest video file: LeRobot looks for frames in float32, which is coarser than its own tolerance
of 1e-4 s beyond 1,024 s."""
ROWS_OF_META = 1000
"""Episodes whose entries are written at a time."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What all episodes of one dataset have in common."""

    fps: int
    columns: Mapping[str, tuple[str, int]]
    """Our columns: name to numpy type and number of values in a row."""
    cameras: Mapping[str, tuple[int, int]]
    """Feature to height and width."""
    robot_type: str
    crf: int = 18
    gop: int = 2

    def features(self) -> dict[str, Any]:
        """As info.json has them."""
        vectors = {
            name: {
                "dtype": dtype,
                "shape": [size],
                "names": [f"{name.rpartition('.')[2]}_{n}" for n in range(size)],
            }
            for name, (dtype, size) in self.columns.items()
        }
        automatic = {n: {"dtype": t, "shape": [1], "names": None} for n, t in AUTOMATIC.items()}
        videos = {name: self._video(size) for name, size in self.cameras.items()}
        return {**videos, **vectors, **automatic}

    def _video(self, size: tuple[int, int]) -> dict[str, Any]:
        odd = size[0] % 2 or size[1] % 2
        return {
            "dtype": "video",
            "shape": [*size, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": size[0],
                "video.width": size[1],
                "video.codec": "h264",
                "video.pix_fmt": "yuv444p" if odd else "yuv420p",
                "video.is_depth_map": False,
                "video.fps": self.fps,
                "video.channels": 3,
                "has_audio": False,
            },
        }

    def schema(self) -> pa.Schema:
        """Of the table of rows."""
        types = {**self.columns, **{name: (dtype, 1) for name, dtype in AUTOMATIC.items()}}
        return pa.schema([pa.field(n, _arrow(t, size)) for n, (t, size) in types.items()])


@dataclass(frozen=True, kw_only=True)
class Written:
    """One episode to be written."""

    task: str
    columns: Mapping[str, np.ndarray]
    """[rows, size] for each column of the spec."""
    pictures: Mapping[str, Iterable[np.ndarray]]
    """[height, width, 3] uint8 of each row, for each camera of the spec."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of meta/episodes, the same in every episode."""

    @property
    def rows(self) -> int:
        """Number of frames."""
        return len(next(iter(self.columns.values())))


class _Camera:
    """Video files of one camera, rotated by size and by length."""

    def __init__(self, root: Path, key: str, spec: Spec) -> None:
        self._root, self._key, self._spec = root, key, spec
        self._writer: VideoWriter | None = None
        self._place = Place()
        self.total = stats.Pictures()

    def write(self, pictures: Iterable[np.ndarray], rows: int) -> tuple[dict[str, Any], Any]:
        """Encode one episode: its columns of meta/episodes, and its statistics."""
        writer = self._rotated(rows)
        start, looked, own = writer.frames, stats.looked_at(rows), stats.Pictures()
        for number, picture in enumerate(pictures):
            writer.add(picture, first=number == 0)
            if number in looked:
                own.add(stats.histogram(picture))
        self.total.add(own.counts, own.pictures)
        fps, place = self._spec.fps, f"videos/{self._key}"
        columns: dict[str, Any] = {f"{place}/{n}": v for n, v in self._place.numbers.items()}
        columns[f"{place}/from_timestamp"] = start / fps
        columns[f"{place}/to_timestamp"] = writer.frames / fps
        return columns, own.result()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _rotated(self, rows: int) -> VideoWriter:
        path = self._path()
        if self._writer is not None and (
            (self._writer.frames + rows) / self._spec.fps > MOST_S
            or path.stat().st_size >= VIDEO_FILE_MB * MB
        ):
            self.close()
            self._place.number += 1
            path = self._path()
        if self._writer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            spec = self._spec
            size = spec.cameras[self._key]
            self._writer = VideoWriter(path, fps=spec.fps, size=size, crf=spec.crf, gop=spec.gop)
        return self._writer

    def _path(self) -> Path:
        return self._root / VIDEO_PATH.format(video_key=self._key, **self._place.numbers)


class DatasetWriter:
    """Takes episodes one at a time; the dataset appears under its name when it is closed."""

    def __init__(self, target: Path, spec: Spec) -> None:
        """ConfigError if the target is there already."""
        if target.exists():
            raise ConfigError(f"{target} is there already; choose another folder, or remove it.")
        self._target, self._spec = target, spec
        self._root = target.with_name(f".{target.name}.part")
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True)
        self._data = Files(self._root, DATA_PATH, spec.schema())
        self._meta: Files | None = None
        self._cameras = {key: _Camera(self._root, key, spec) for key in spec.cameras}
        self._numbers = {name: stats.Rows() for name in spec.schema().names}
        self._tasks: dict[str, int] = {}
        self._waiting: list[dict[str, Any]] = []
        self.episodes = self.frames = 0
        self._splits: dict[str, list[int]] = {}

    def add(self, episode: Written, *, split: str = "train") -> None:
        """Append an episode; episodes of one split come in a row."""
        index, rows = self.episodes, episode.rows
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        columns = {**episode.columns, **self._automatic(rows, task)}
        schema = self._spec.schema()
        entry: dict[str, Any] = {"episode_index": index, "tasks": [episode.task], "length": rows}
        entry |= {f"data/{name}": n for name, n in self._data.rotate().items()}
        entry |= {"dataset_from_index": self.frames, "dataset_to_index": self.frames + rows}
        arrays = [_column(columns[f.name], f.type) for f in schema]
        self._data.write(pa.Table.from_arrays(arrays, schema=schema))
        seen = {}
        for key, camera in self._cameras.items():
            place, seen[key] = camera.write(episode.pictures[key], rows)
            entry |= place
        for name, values in columns.items():
            matrix = values.reshape(rows, -1)
            seen[name] = stats.of_rows(matrix)
            self._numbers[name].add(matrix)
        entry |= dict(episode.extra) | as_columns(seen)
        self._waiting.append(entry)
        self.episodes, self.frames = index + 1, self.frames + rows
        self._splits.setdefault(split, [index, index])[1] = self.episodes
        if len(self._waiting) >= ROWS_OF_META:
            self._write_meta()

    def close(self) -> None:
        """Finish all files and let the dataset appear; ConfigError without an episode."""
        if not self.episodes:
            self.discard()
            raise ConfigError("No episode could be written: there is no dataset without one.")
        self._write_meta()
        for part in (self._data, self._meta, *self._cameras.values()):
            if part is not None:
                part.close()
        self._write_tasks()
        self._write_json("stats.json", self._statistics())
        self._write_json("info.json", self._info())
        for path in sorted(self._root.rglob("*"), reverse=True):
            sync_folder(path) if path.is_dir() else sync_file(path)
        os.replace(self._root, self._target)
        sync_folder(self._target.parent)

    def discard(self) -> None:
        """Give up: nothing is left."""
        for part in (self._data, self._meta, *self._cameras.values()):
            if part is not None:
                part.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _automatic(self, rows: int, task: int) -> dict[str, np.ndarray]:
        frame = np.arange(rows)
        return {
            "timestamp": (frame / self._spec.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(rows, self.episodes),
            "index": self.frames + frame,
            "task_index": np.full(rows, task),
        }

    def _write_meta(self) -> None:
        if not self._waiting:
            return
        place = self._meta.rotate() if self._meta else {"chunk_index": 0, "file_index": 0}
        rows = [
            entry | {f"meta/episodes/{name}": n for name, n in place.items()}
            for entry in self._waiting
        ]
        table = pa.Table.from_pylist(rows)
        if self._meta is None:
            self._meta = Files(self._root, EPISODES_PATH, table.schema)
        self._meta.write(table.cast(self._meta.schema))
        self._waiting = []

    def _write_tasks(self) -> None:
        write_tasks(self._root / "meta" / "tasks.parquet", self._tasks)

    def _statistics(self) -> dict[str, Any]:
        found = {key: camera.total.result() for key, camera in self._cameras.items()}
        found |= {name: numbers.result() for name, numbers in self._numbers.items()}
        return {key: {n: v.tolist() for n, v in of.items()} for key, of in found.items()}

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": V3,
            "robot_type": self._spec.robot_type,
            "total_episodes": self.episodes,
            "total_frames": self.frames,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_IN_CHUNK,
            "data_files_size_in_mb": DATA_FILE_MB,
            "video_files_size_in_mb": VIDEO_FILE_MB,
            "fps": self._spec.fps,
            "splits": {name: f"{a}:{b}" for name, (a, b) in self._splits.items()},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._cameras else None,
            "features": self._spec.features(),
        }

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        path = self._root / "meta" / name
        path.write_text(json.dumps(value, indent=4, ensure_ascii=False))


def _arrow(dtype: str, size: int) -> pa.DataType:
    one = pa.bool_() if dtype == "bool" else pa.from_numpy_dtype(np.dtype(dtype))
    return one if size == 1 else pa.list_(one, size)


def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """[rows] or [rows, size] as a column of numbers or of vectors."""
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return pa.array(values.reshape(-1)).cast(kind)
