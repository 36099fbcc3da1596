"""Where a LeRobotDataset keeps what: info.json, its features, and the paths of its files.

Version 3.0 has many episodes in a file, version 2.1 (openpi, RLinf) a file for each episode.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lwd.errors import ConfigError

log = logging.getLogger(__name__)

V3, V2 = "v3.0", "v2.1"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH_V2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH_V2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
FILES_IN_CHUNK, DATA_FILE_MB, VIDEO_FILE_MB = 1000, 100, 200
AUTOMATIC = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Features that every dataset has, all of shape (1,)."""
PICTURES = ("image", "video")
_PLACE = re.compile(r"\{[a-z_]+(?::\d*d)?\}|[^{}]")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column, or a camera."""

    name: str
    dtype: str
    """A numpy name, `string`, `image` (in the table) or `video`."""
    shape: tuple[int, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_picture(self) -> bool:
        """Whether it is a camera."""
        return self.dtype in PICTURES

    @property
    def is_depth(self) -> bool:
        """Whether its pictures are distances."""
        return bool(self.info.get("video.is_depth_map") or self.info.get("is_depth_map"))


@dataclass(frozen=True, kw_only=True)
class Info:
    """What meta/info.json says, checked."""

    root: Path
    version: str
    """V3 or V2."""
    fps: float
    features: Mapping[str, Feature]
    robot_type: str
    splits: Mapping[str, tuple[int, int]]
    """Name to [from, to) of episodes."""
    totals: Mapping[str, int]
    """`episodes` and `frames`, as far as it says."""
    chunks_size: int
    data_path: str
    video_path: str
    modified_at: float
    """UTC seconds of info.json: the dataset itself does not say when it was recorded."""

    @property
    def name(self) -> str:
        """Last part of the folder's path."""
        return self.root.resolve().name

    @property
    def videos(self) -> list[str]:
        """Features with videos."""
        return [f.name for f in self.features.values() if f.dtype == "video"]

    def data_file(self, **numbers: int) -> Path:
        """Path of a file of rows; of `chunk_index`, `file_index` or of `episode_index`."""
        return self._file(self.data_path, numbers)

    def video_file(self, key: str, **numbers: int) -> Path:
        """Path of a file of a camera; numbers as for `data_file`."""
        return self._file(self.video_path, {"video_key": key, **numbers})

    def data_files(self) -> list[Path]:
        """All files of rows that are there, in order."""
        return sorted((self.root / "data").glob("*/*.parquet"))

    def split_of(self, episode: int) -> str:
        """Name of the split that has an episode; empty if none has."""
        found = (name for name, (a, b) in self.splits.items() if a <= episode < b)
        return next(found, "")

    def _file(self, template: str, values: Mapping[str, Any]) -> Path:
        if "episode_index" in values:
            values = {**values, "episode_chunk": values["episode_index"] // self.chunks_size}
        try:
            path = self.root / template.format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"{self.root}/meta/info.json: path {template!r}: {error}.") from error
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ConfigError(f"{self.root}/meta/info.json: path {template!r} leaves the dataset.")
        return path


def read_info(root: Path) -> Info:
    """meta/info.json of a dataset; ConfigError says what keeps it from being one."""
    path = root / "meta" / "info.json"
    try:
        said = json.loads(path.read_text())
    except FileNotFoundError as error:
        hint = "Give the folder of a LeRobotDataset, the one that has meta/, data/ and videos/."
        raise ConfigError(f"{path} is not there. {hint}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable as JSON: {error}.") from error
    if not isinstance(said, dict):
        raise ConfigError(f"{path} holds no object.")
    version = _version(path, said)
    ours = (DATA_PATH, VIDEO_PATH) if version == V3 else (DATA_PATH_V2, VIDEO_PATH_V2)
    found = Info(
        root=root,
        version=version,
        fps=_fps(path, said),
        features=_features(path, said),
        robot_type=str(said.get("robot_type") or ""),
        splits=_splits(said),
        totals={n: v for n in ("episodes", "frames") if type(v := said.get(f"total_{n}")) is int},
        chunks_size=_positive(said.get("chunks_size"), FILES_IN_CHUNK),
        data_path=_template(path, said.get("data_path"), ours[0]),
        video_path=_template(path, said.get("video_path"), ours[1]),
        modified_at=float(int(path.stat().st_mtime)),
    )
    first = {"chunk_index": 0, "file_index": 0, "episode_index": 0}
    for example in (
        found.data_file(**first),
        *(found.video_file(k, **first) for k in found.videos),
    ):
        log.debug("dataset=%s file=%s", root, example)
    return found


def _version(path: Path, said: Mapping[str, Any]) -> str:
    version = str(said.get("codebase_version"))
    if version.startswith("v3."):
        return V3
    if version in ("v2.0", V2):
        return V2
    raise ConfigError(f"{path}: codebase_version is {version!r}; v3.0, v2.1 and v2.0 can be read.")


def _fps(path: Path, said: Mapping[str, Any]) -> float:
    fps = said.get("fps")
    if isinstance(fps, int | float) and not isinstance(fps, bool) and 0 < fps <= 10_000:
        return float(fps)
    raise ConfigError(f"{path}: fps is {fps!r}; expected a number of frames a second.")


def _features(path: Path, said: Mapping[str, Any]) -> dict[str, Feature]:
    given = said.get("features")
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{path}: features is {type(given).__name__}; expected an object.")
    found = {}
    for name, about in given.items():
        shape = about.get("shape") if isinstance(about, dict) else None
        if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
            raise ConfigError(f"{path}: feature {name!r} has no shape of whole numbers.")
        info = about.get("info") or about.get("video_info")
        found[name] = Feature(
            name=name,
            dtype=str(about.get("dtype")),
            shape=tuple(shape),
            info=info if isinstance(info, dict) else {},
        )
    return found


def _splits(said: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Splits that are written as FROM:TO; others are no ranges of episodes."""
    given, found = said.get("splits"), {}
    for name, value in given.items() if isinstance(given, dict) else ():
        if match := re.fullmatch(r"(\d+):(\d+)", str(value)):
            found[str(name)] = (int(match[1]), int(match[2]))
    return found


def _template(path: Path, given: object, ours: str) -> str:
    """A path with plain places such as {file_index:03d}; nothing else is formatted."""
    if not given:
        return ours
    text = str(given)
    if "".join(_PLACE.findall(text)) != text:
        raise ConfigError(f"{path}: path {text!r} is not one like {ours!r}.")
    return text


def _positive(given: object, otherwise: int) -> int:
    return given if type(given) is int and given > 0 else otherwise
