"""The pictures of one episode after the other, of all cameras at once."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lwd.config.lerobot import ImportConfig
from lwd.errors import EpisodeError
from lwd.lerobot.convert import Pictures, Recorded, from_table, from_video
from lwd.lerobot.layout import Feature
from lwd.lerobot.video import Video


class Cameras:
    """Open video files of a dataset, one for each camera."""

    def __init__(self, root: Path, cameras: Mapping[str, Feature], config: ImportConfig) -> None:
        self._root, self._cameras, self._config = root, cameras, config
        self._open: dict[str, Video] = {}
        workers = max(1, min(len(cameras), os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="camera")

    def __enter__(self) -> "Cameras":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        for video in self._open.values():
            video.close()

    def of(self, found: Recorded) -> dict[str, Pictures]:
        """Our name of each camera to its pictures; EpisodeError if one cannot be had."""
        names = list(self._cameras)
        seen = self._pool.map(lambda name: self._camera(name, found), names)
        return dict(zip(names, seen, strict=True))

    def _camera(self, name: str, found: Recorded) -> Pictures:
        feature, rows = self._cameras[name], len(found.time)
        every, quality = self._config.image_every, self._config.jpeg_quality
        if feature.dtype == "image":
            pictures = found.rows.pictures(feature.name, self._root)
            return from_table(pictures, every=every, quality=quality)
        segment = found.about.videos.get(feature.name)
        if segment is None:
            raise EpisodeError(f"meta does not say where the video of {feature.name} is.")
        times = [segment.start_s + time for time in found.time.tolist()]
        try:
            frames = self._video(name, segment.path).read(times, self._config.tolerance_s)
            return from_video(frames, rows, every=every, quality=quality)
        except EpisodeError as error:
            self._forget(name)
            raise EpisodeError(f"camera {feature.name}: {error}") from error

    def _video(self, name: str, path: Path) -> Video:
        video = self._open.get(name)
        if video is None or video.path != path:
            self._forget(name)
            video = self._open[name] = Video(path)
        return video

    def _forget(self, name: str) -> None:
        """Close a camera's file: the next episode starts afresh."""
        if video := self._open.pop(name, None):
            video.close()
