"""What a LeRobotDataset really has, next to what it says: each episode's rows and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from av.error import FFmpegError

from lwd.errors import EpisodeError
from lwd.lerobot.episodes import About, Segment, read_episodes, read_tasks
from lwd.lerobot.layout import V3, Info
from lwd.lerobot.rows import Rows, stream
from lwd.lerobot.video import Video

Layouts = Mapping[str, Mapping[int, Segment]]
"""Camera to episode to where its pictures must be."""
EXACT = 1e-3
"""Share by which float32 timestamps may hide a whole rate."""
RATE = 0.01
"""Share by which a rate may differ from what info.json says."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """One video file."""

    path: Path
    frames: int
    """That can be decoded."""
    promised: int
    """That its index lists."""
    fps: float
    codec: str
    fault: str = ""
    """Why it cannot be used at all."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One episode that has rows."""

    index: int
    path: Path
    length: int
    rate_hz: float
    """By its timestamps; 0 of a single frame."""
    fault: str = ""
    """What is wrong with its rows."""
    task: int = -1


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All of a dataset."""

    info: Info
    episodes: Mapping[int, Seen]
    """By number; in the order of the files."""
    twice: tuple[int, ...]
    """Episodes whose rows come again elsewhere."""
    about: Mapping[int, About]
    tasks: Mapping[int, str]
    complaints: tuple[str, ...]
    """Files that cannot be read."""
    films: Mapping[Path, Film] = field(default_factory=dict)

    @property
    def rate_hz(self) -> float:
        """The rate at which all episodes were recorded; 0 if they do not agree."""
        rates = [seen.rate_hz for seen in self.episodes.values() if seen.rate_hz]
        typical = float(np.median(rates)) if rates else 0.0
        if rates and abs(typical / max(1, round(typical)) - 1) < EXACT:
            typical = float(round(typical))
        agree = all(abs(rate / typical - 1) < RATE for rate in rates)
        return typical if agree else 0.0


def survey(info: Info) -> Survey:
    """Read all numbers that place frames, and the index of every video."""
    complaints: list[str] = []
    episodes: dict[int, Seen] = {}
    twice = []
    for rows in stream(info, (), complaints.append):
        if rows.episode in episodes:
            twice.append(rows.episode)
        else:
            episodes[rows.episode] = _seen(rows)
    about = read_episodes(info, complaints.append)
    tasks = read_tasks(info, complaints.append)
    named = {segment.path for entry in about.values() for segment in entry.videos.values()}
    there = {path for key in info.videos for path in films_of(info, key)}
    return Survey(
        info=info,
        episodes=episodes,
        twice=tuple(twice),
        about=about,
        tasks=tasks,
        complaints=tuple(complaints),
        films={path: film(path) for path in sorted(named | there)},
    )


def films_of(info: Info, key: str) -> list[Path]:
    """Files of a camera, in order."""
    if info.version == V3:
        return sorted((info.root / "videos" / key).glob("*/*.mp4"))
    return sorted((info.root / "videos").glob(f"*/{key}/*.mp4"))


def film(path: Path) -> Film:
    """How much of a video file can be decoded: its index may promise what was cut off."""
    try:
        with Video(path) as video:
            promised = video.frames_promised
            frames = promised if video.ends_well() else video.count()
            return Film(
                path=path, frames=frames, promised=promised, fps=video.fps, codec=video.codec
            )
    except (EpisodeError, FFmpegError) as error:
        return Film(path=path, frames=0, promised=0, fps=0.0, codec="", fault=str(error))


def fault_of(found: Survey, segment: Segment, length: int) -> str:
    """What keeps an episode's pictures from being had; empty if nothing does."""
    seen = found.films.get(segment.path)
    if seen is None or seen.fault:
        return seen.fault if seen else f"video {segment.path.name} is not there."
    fps = found.rate_hz or found.info.fps
    if abs(seen.fps / fps - 1) > RATE:
        return f"video {seen.path.name} has {seen.fps:g} frames a second, the rows {fps:g}."
    first = round(segment.start_s * fps)
    if first + length > seen.frames:
        return (
            f"video {seen.path.name} has {seen.frames} whole frames; the episode needs "
            f"{first} to {first + length}."
        )
    said = None if segment.end_s is None else round((segment.end_s - segment.start_s) * fps)
    if said is not None and said != length:
        return f"its part of video {seen.path.name} has {said} frames, its rows are {length}."
    return ""


def laid_out(found: Survey, key: str) -> dict[int, Segment]:
    """Where each episode's pictures must be, if the files were filled one after the other.

    Recorders append the episodes in order and begin a file where the one before is full. Where a
    file does not end with an episode, that episode is cut off, and what follows is in the next.
    """
    fps = found.rate_hz or found.info.fps
    lengths = {index: found.episodes[index].length for index in sorted(found.episodes)}
    waiting, places = list(lengths), {}
    for path in films_of(found.info, key):
        at, frames = 0, found.films[path].frames
        while waiting and at + lengths[waiting[0]] <= frames:
            index = waiting.pop(0)
            end = at + lengths[index]
            places[index] = Segment(path=path, start_s=at / fps, end_s=end / fps)
            at = end
        if at < frames or found.films[path].fault:
            break
    return places


def layouts(found: Survey) -> Layouts:
    """`laid_out` of every camera."""
    return {key: laid_out(found, key) for key in found.info.videos}


def segments(found: Survey, layouts: Layouts, index: int) -> tuple[dict[str, Segment], str]:
    """Where the pictures of an episode are, by what meta says or else by the files' order; and
    what is wrong with them."""
    length, places = found.episodes[index].length, {}
    for key in found.info.videos:
        said = found.about[index].videos.get(key) if index in found.about else None
        for segment in (said, layouts[key].get(index)):
            if segment is not None and not fault_of(found, segment, length):
                places[key] = segment
                break
        else:
            why = fault_of(found, said, length) if said else "no video has its pictures."
            return places, f"camera {key}: {why}"
    return places, ""


def _seen(rows: Rows) -> Seen:
    fault, rate, task = "", 0.0, -1
    try:
        frames, time = rows.scalars("frame_index"), rows.scalars("timestamp").astype(np.float64)
        values, counts = np.unique(rows.scalars("task_index"), return_counts=True)
        task = int(values[counts.argmax()])
        expected = np.arange(len(frames))
        steps = np.diff(time)
        if rows.episode < 0:
            fault = "its rows name no episode."
        elif not np.array_equal(frames, expected):
            first = int(np.flatnonzero(frames != expected)[0])
            fault = f"frame {first} is missing or doubled: frame_index is {frames[first]}."
        elif not np.isfinite(time).all() or (steps <= 0).any():
            fault = "its timestamps do not increase."
        elif len(steps):
            rate = 1 / float(np.median(steps))
    except EpisodeError as error:
        fault = str(error)
    return Seen(
        index=rows.episode,
        path=rows.path,
        length=rows.table.num_rows,
        rate_hz=rate,
        fault=fault,
        task=task,
    )
