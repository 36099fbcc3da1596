"""One recorded episode as a browser shows it: series over ticks, and camera frames."""

import threading
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lwd.episode.labels import Labels, relabelled
from lwd.episode.payload import decode
from lwd.episode.types import Episode
from lwd.errors import MissingError
from lwd.store.objects import Objects, episode_key
from lwd.store.rows import EpisodeRow

KEPT = 4
"""Payloads that stay on disk and decoded: whoever plays an episode asks for many frames of one."""
DIGITS = 5


class Viewer:
    """Fetches and decodes episodes; safe to share between threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._lock = objects, threading.Lock()
        self._folder = TemporaryDirectory(prefix="lwd-dashboard-")
        self._episodes: OrderedDict[str, Episode] = OrderedDict()

    def close(self) -> None:
        """Forget all payloads."""
        self._episodes.clear()
        self._folder.cleanup()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def path(self, row: EpisodeRow) -> Path:
        """The payload as a file, verified by its hash."""
        self.episode(row)
        return self._path(row.sha256)

    def episode(self, row: EpisodeRow) -> Episode:
        """The episode as recorded; MissingError if its payload is gone."""
        with self._lock:
            found = self._episodes.get(row.sha256)
            if found is None:
                path = self._path(row.sha256)
                self._objects.get_to(episode_key(row.sha256), path, sha256=row.sha256)
                found = self._episodes[row.sha256] = decode(path)
                self._evict()
            self._episodes.move_to_end(row.sha256)
            return found

    def frame(self, row: EpisodeRow, camera: str, tick: int) -> bytes:
        """JPEG of a camera at a tick; MissingError where none was kept."""
        images = self.episode(row).images.get(camera, ())
        image = images[tick] if 0 <= tick < len(images) else None
        if image is None:
            raise MissingError(f"Episode {row.episode_id} has no frame of {camera[:40]} at {tick}.")
        return image

    def _path(self, sha256: str) -> Path:
        return Path(self._folder.name, f"{sha256}.arrow")

    def _evict(self) -> None:
        while len(self._episodes) > KEPT:
            sha256, _ = self._episodes.popitem(last=False)
            self._path(sha256).unlink(missing_ok=True)


def series(episode: Episode, labels: Labels) -> dict[str, Any]:
    """What happened in an episode, tick by tick, as people have corrected it."""
    now = relabelled(episode, labels)
    return {
        "seconds": _plain(episode.time - episode.time[0]),
        "action": _plain(episode.action.T),
        "action_policy": _plain(episode.action_policy.T),
        "source": now.source.tolist(),
        "recorded_source": episode.source.tolist(),
        "events": [[tick, name] for tick, names in enumerate(episode.events) for name in names],
        "cameras": {
            name: [tick for tick, image in enumerate(images) if image is not None]
            for name, images in episode.images.items()
        },
        "substeps": list(now.header.substeps),
    }


def _plain(values: np.ndarray) -> list[Any]:
    """Numbers as JSON has them: few digits, null for what is not a number."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [
        float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()
    ]
