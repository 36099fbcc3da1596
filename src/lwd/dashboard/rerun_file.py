"""Any episode as a Rerun recording (.rrd): frames, actions, who acted, and values where there are.

https://rerun.io/docs: every column is an entity over two timelines, `tick` and `time`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lwd.episode.header import to_json
from lwd.episode.types import Episode, Source
from lwd.store.disk import make_folder

APPLICATION = "lwd"


def export(
    episode: Episode, path: Path, values: Mapping[str, Sequence[float]] | None = None
) -> Path:
    """Write a recording of the episode, whole or not at all.

    `values` are curves over its ticks, such as the critic's `mean`, `low` and `high`.
    """
    import rerun as rr  # pyright: ignore[reportMissingImports]

    make_folder(path.absolute().parent)
    aside = path.with_name(f".{path.name}.part")
    recording = rr.RecordingStream(APPLICATION, recording_id=episode.header.episode_id)
    try:
        recording.save(aside)
        _log(recording, episode, values or {})
        recording.flush()
    finally:
        recording.disconnect()
    return aside.replace(path)


def _log(recording, episode: Episode, values: Mapping[str, Sequence[float]]) -> None:
    import rerun as rr  # pyright: ignore[reportMissingImports]

    def over(ticks: np.ndarray) -> list:
        return [
            rr.TimeColumn("tick", sequence=ticks),
            rr.TimeColumn("time", timestamp=episode.time[ticks]),
        ]

    ticks = np.arange(episode.ticks)
    recording.log("header", rr.TextDocument(to_json(episode.header)), static=True)
    for name, rows in (
        ("state", episode.state),
        ("action/executed", episode.action),
        ("action/policy", episode.action_policy),
        *((f"value/{name}", np.asarray(curve)[:, None]) for name, curve in values.items()),
    ):
        columns = rr.Scalars.columns(scalars=np.asarray(rows, np.float64))
        recording.send_columns(name, indexes=over(np.arange(len(rows))), columns=columns)
    names = [Source(source).name.lower() for source in episode.source]
    recording.send_columns("source", indexes=over(ticks), columns=rr.TextLog.columns(text=names))
    happened = [(tick, name) for tick, of_it in enumerate(episode.events) for name in of_it]
    if happened:
        at = np.array([tick for tick, _ in happened])
        words = rr.TextLog.columns(text=[name for _, name in happened])
        recording.send_columns("events", indexes=over(at), columns=words)
    for camera, images in episode.images.items():
        kept = np.array([tick for tick, image in enumerate(images) if image is not None], int)
        if len(kept):
            blobs = [images[tick] for tick in kept]
            columns = rr.EncodedImage.columns(blob=blobs, media_type=["image/jpeg"] * len(kept))
            recording.send_columns(f"camera/{camera}", indexes=over(kept), columns=columns)
