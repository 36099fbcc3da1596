"""What the real lerobot 0.4.4 does, for `against_lerobot.py` and benchmarks/lerobot_io.py.

Runs in lerobot's own environment, and prints one JSON object as its last line:

    real_lerobot.py record FOLDER EPISODES ROWS HEIGHT WIDTH CODEC [kill]
    real_lerobot.py read FOLDER OUT.npz [FRAMES]
    real_lerobot.py time FOLDER FRAMES
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 30
CAMERA = "observation.images.top"


def pictures(seed: int, rows: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Blocks of colour with some noise, which move."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(20, 230, (height // 8, width // 8, 3), np.uint8)
    base = blocks.repeat(8, 0).repeat(8, 1) + rng.integers(0, 20, (height, width, 3), np.uint8)
    return (np.roll(base, 2 * row, 1) for row in range(rows))


def record(root: str, episodes: int, rows: int, size: tuple[int, int], codec: str) -> None:
    """Record episodes as lerobot's recorder does, and do not finalise."""
    video = {"dtype": "video", "shape": (*size, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": (6,), "names": list("abcdef")},
        "action": {"dtype": "float32", "shape": (4,), "names": list("abcd")},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        CAMERA: video,
    }
    dataset = LeRobotDataset.create("check/set", FPS, features, root=root, vcodec=codec)
    rng, started = np.random.default_rng(0), clocks()
    for index in range(episodes):
        for row, picture in enumerate(pictures(index, rows + index, *size)):
            last = row == rows + index - 1
            dataset.add_frame(
                {
                    "observation.state": rng.normal(size=6).astype(np.float32),
                    "action": rng.normal(size=4).astype(np.float32),
                    "next.success": np.array([last and index % 2 == 0]),
                    CAMERA: picture,
                    "task": f"pick cube {index % 2}",
                }
            )
        dataset.save_episode()
    if sys.argv[-1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    dataset.finalize()
    say(started, frames=dataset.meta.total_frames)


def read(root: str, out: str, frames: int) -> None:
    """All columns, pictures and entries of a dataset, as lerobot gives them."""
    started = clocks()
    dataset = LeRobotDataset("check/set", root=root, video_backend="pyav")
    count = min(frames, len(dataset))
    columns: dict[str, list[np.ndarray]] = {}
    for index in range(count):
        for name, value in dataset[index].items():
            array = np.array(value) if isinstance(value, str) else value.numpy()
            if name in dataset.meta.video_keys:
                array = np.round(array * 255).astype(np.uint8)
            columns.setdefault(name, []).append(array)
    entries = [dict(entry) for entry in dataset.meta.episodes]
    np.savez(
        out,
        entries=json.dumps(entries),
        stats=json.dumps(_plain(dataset.meta.stats)),
        **{name: np.stack(values) for name, values in columns.items()},
    )
    say(started, frames=count, episodes=dataset.meta.total_episodes)


def take_time(root: str, frames: int) -> None:
    """How long it takes to read frames one after the other."""
    dataset = LeRobotDataset("check/set", root=root, video_backend="pyav")
    count, started = min(frames, len(dataset)), clocks()
    for index in range(count):
        dataset[index]
    say(started, frames=count)


def clocks() -> tuple[float, float]:
    """Seconds on the wall, and of this process and its children on all CPUs."""
    used = os.times()
    cpu = used.user + used.system + used.children_user + used.children_system
    return time.perf_counter(), cpu


def say(started: tuple[float, float], **found: int) -> None:
    """One JSON object, with what it took since then and the most memory there was."""
    wall, cpu = (now - then for now, then in zip(clocks(), started, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found | {"seconds": wall, "cpu_s": cpu, "peak_mib": peak}))


def _plain(stats: dict) -> dict:
    return {key: {n: v.tolist() for n, v in of.items()} for key, of in stats.items()}


if __name__ == "__main__":
    command, root, *rest = sys.argv[1:]
    Path(root).parent.mkdir(parents=True, exist_ok=True)
    if command == "record":
        record(root, int(rest[0]), int(rest[1]), (int(rest[2]), int(rest[3])), rest[4])
    elif command == "read":
        read(root, rest[0], int(rest[1]) if len(rest) > 1 else 10**9)
    else:
        take_time(root, int(rest[0]))
