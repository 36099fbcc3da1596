"""Small datasets as others write them, each number different, so that a mixed-up row is seen."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lwd.lerobot.layout import DATA_PATH_V2, VIDEO_PATH_V2
from lwd.lerobot.video import VideoWriter
from lwd.lerobot.writer import DatasetWriter, Spec, Written

FPS, SIZE = 10, (32, 48)
STATE, ACTION = 6, 4
LENGTHS = (12, 9, 15, 11)
TOP, WRIST = "observation.images.top", "observation.images.wrist"


def pictures(seed: int, rows: int) -> Iterator[np.ndarray]:
    """Blocks of colour that move, one step each frame."""
    blocks = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), np.uint8)
    base = blocks.repeat(8, 0).repeat(8, 1)
    return (np.roll(base, 2 * row, 1) for row in range(rows))


def numbers(seed: int, rows: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)


def v3(root: Path, *, lengths=LENGTHS, cameras=(TOP, WRIST), labels=True) -> Path:
    """Version 3.0; every second episode succeeds, a person acts in ticks 3 to 5 of the second."""
    columns = {"observation.state": ("float32", STATE), "action": ("float32", ACTION)}
    if labels:
        columns |= {"next.success": ("bool", 1), "intervention": ("bool", 1)}
    spec = Spec(fps=FPS, columns=columns, cameras=dict.fromkeys(cameras, SIZE), robot_type="so100")
    writer = DatasetWriter(root, spec)
    for index, rows in enumerate(lengths):
        tick = np.arange(rows)[:, None]
        values = {
            "observation.state": numbers(index, rows, STATE),
            "action": numbers(100 + index, rows, ACTION),
            "next.success": (tick == rows - 1) & (index % 2 == 0),
            "intervention": (tick >= 3) & (tick < 6) & (index == 1),
        }
        writer.add(
            Written(
                task=f"pick the cube {index % 2}",
                columns={name: values[name] for name in columns},
                pictures={key: pictures(10 * index + n, rows) for n, key in enumerate(cameras)},
                extra={"note": index},
            )
        )
    writer.close()
    return root


def v2(root: Path, *, lengths=LENGTHS) -> Path:
    """Version 2.1 as RLinf writes it: an embedded picture, a video, its own names of columns."""
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    films = root / "videos" / "chunk-000" / TOP
    films.mkdir(parents=True)
    shapes = {"state": ("float32", [STATE]), "actions": ("float32", [ACTION])}
    shapes |= {"is_success": ("bool", [1]), "intervene_flag": ("bool", [1])}
    shapes |= {"image": ("image", [*SIZE, 3]), TOP: ("video", [*SIZE, 3])}
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        shapes[name] = ("float32" if name == "timestamp" else "int64", [1])
    info = {
        "codebase_version": "v2.1",
        "robot_type": "franka",
        "fps": FPS,
        "chunks_size": 1000,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "splits": {"train": "0:3", "test": "3:4"},
        "data_path": DATA_PATH_V2,
        "video_path": VIDEO_PATH_V2,
        "features": {n: {"dtype": d, "shape": s, "names": None} for n, (d, s) in shapes.items()},
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "meta" / "tasks.jsonl").write_text('{"task_index": 0, "task": "Open the drawer."}\n')
    with (root / "meta" / "episodes.jsonl").open("w") as file:
        for index, rows in enumerate(lengths):
            entry = {"episode_index": index, "tasks": ["Open the drawer."], "length": rows}
            file.write(json.dumps(entry) + "\n")
    for index, rows in enumerate(lengths):
        pq.write_table(_v2_rows(index, rows), root / f"data/chunk-000/episode_{index:06d}.parquet")
        film = VideoWriter(films / f"episode_{index:06d}.mp4", fps=FPS, size=SIZE)
        for picture in pictures(10 * index, rows):
            film.add(picture)
        film.close()
    return root


def _v2_rows(index: int, rows: int) -> pa.Table:
    tick = np.arange(rows)
    vector = {"state": numbers(index, rows, STATE), "actions": numbers(100 + index, rows, ACTION)}
    picture = [{"bytes": png(p), "path": None} for p in pictures(10 * index + 1, rows)]
    return pa.table(
        {
            "image": picture,
            **{name: pa.array(values.tolist()) for name, values in vector.items()},
            "is_success": (tick == rows - 1) & (index != 2),
            "intervene_flag": tick < index,
            "timestamp": (tick / FPS).astype(np.float32),
            "frame_index": tick,
            "episode_index": np.full(rows, index),
            "index": tick,
            "task_index": np.zeros(rows, np.int64),
        }
    )


def png(picture: np.ndarray) -> bytes:
    """A picture as PNG."""
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt, codec.time_base = "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return b"".join(bytes(p) for p in [*codec.encode(frame), *codec.encode(None)])


def change_rows(root: Path, change) -> None:
    """Write the first file of rows again, as `change` makes it."""
    path = sorted((root / "data").glob("*/*.parquet"))[0]
    pq.write_table(change(pq.read_table(path)), path)


def with_column(table: pa.Table, name: str, values) -> pa.Table:
    """The table with other values in a column."""
    at = table.column_names.index(name)
    return table.set_column(at, table.field(at), pa.array(values, table.field(at).type))


def cut(path: Path, share: float) -> None:
    """Leave the first part of a file only."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
