"""LeRobot data in and out: frames a second and memory, beside the real lerobot 0.4.4.

A synthetic dataset of version 3.0 (two cameras, 480 x 640, 30 Hz, H.264) is imported and exported;
lerobot reads a sample of the same dataset, frame after frame, and records pictures of the same
kind with H.264. `python -m benchmarks.lerobot_io --gigabytes 10 --env .lerobot` writes
benchmarks/results/lerobot_io.md; scripts/check/against_lerobot.py makes the environment, without
which only our own numbers are taken. Processes run one after the other; CPU time is that of all
their threads, which a busy machine changes less than wall time.

With `--folder` the dataset and every finished step stay there, and the same command goes on with
the next one. 10 GB take about 35 GB of disk, while they are imported and exported.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.record import REPOSITORY, header
from lwd.lerobot.writer import DatasetWriter, Spec, Written
from lwd.store.catalog import COORDINATOR, Catalog

FPS, ROWS, SIZE = 30, 150, (480, 640)
CAMERAS = ("observation.images.front", "observation.images.wrist")
DRAWN = 6
"""Episodes whose pictures are drawn; the others show copies of these, with other numbers."""
CRF = 8
"""Quality of the videos, near lossless: bytes come from fewer pictures than in a poorer video, and
as JPEG they are only twice as large."""
REAL = REPOSITORY / "scripts" / "check" / "real_lerobot.py"


class Took(NamedTuple):
    """What a process took."""

    said: dict[str, Any]
    wall_s: float
    cpu_s: float
    peak_mib: float


def pictures(seed: int) -> Iterator[np.ndarray]:
    """Blocks of colour with some noise, which move."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(20, 230, (SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
    base = blocks.repeat(8, 0).repeat(8, 1) + rng.integers(0, 20, (*SIZE, 3), np.uint8)
    return (np.roll(base, 2 * row, 1) for row in range(ROWS))


def generate(root: Path, gigabytes: float) -> None:
    """A dataset of about so many gigabytes in `root`/set.

    Encoding all of it would take longer than reading it: one dataset of `DRAWN` episodes is
    encoded, and its videos have further names, hard links, beside new rows.
    """
    columns = {"observation.state": ("float32", 14), "action": ("float32", 14)}
    spec = Spec(
        fps=FPS,
        columns=columns,
        cameras=dict.fromkeys(CAMERAS, SIZE),
        robot_type="bench",
        crf=CRF,
    )
    small = DatasetWriter(root / "small", spec)
    for index in range(DRAWN):
        small.add(_episode(index, {key: pictures(2 * index + n) for n, key in enumerate(CAMERAS)}))
    small.close()
    films = {key: root / "small/videos" / key / "chunk-000/file-000.mp4" for key in CAMERAS}
    copies = max(1, round(gigabytes * 1e9 / sum(film.stat().st_size for film in films.values())))
    rows = DatasetWriter(root / "rows", Spec(**{**vars(spec), "cameras": {}}))
    for index in range(copies * DRAWN):
        chunk, file = divmod(index // DRAWN, 1000)
        extra: dict[str, Any] = {}
        for key in CAMERAS:
            place, start = f"videos/{key}", index % DRAWN * ROWS / FPS
            extra |= {f"{place}/chunk_index": chunk, f"{place}/file_index": file}
            extra |= {f"{place}/from_timestamp": start, f"{place}/to_timestamp": start + ROWS / FPS}
        rows.add(_episode(index, {}, extra))
    rows.close()
    made = root / "rows"
    for key, film in films.items():
        for number in range(copies):
            chunk, file = divmod(number, 1000)
            path = made / f"videos/{key}/chunk-{chunk:03d}/file-{file:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(film, path)
    shutil.copyfile(root / "small/meta/stats.json", made / "meta/stats.json")
    info = json.loads((root / "small/meta/info.json").read_text())
    said = json.loads((made / "meta/info.json").read_text())
    said |= {"features": info["features"], "video_path": info["video_path"]}
    (made / "meta/info.json").write_text(json.dumps(said))
    shutil.rmtree(root / "small")
    made.rename(root / "set")


def _episode(seed: int, shown: dict[str, Any], extra: dict[str, Any] | None = None) -> Written:
    rng = np.random.default_rng(seed)
    columns = {
        name: rng.normal(size=(ROWS, 14)).astype(np.float32)
        for name in ("observation.state", "action")
    }
    return Written(task="move the blocks", columns=columns, pictures=shown, extra=extra or {})


def timed(*words: object) -> Took:
    """Run a program; what it says last as JSON, and what it took."""
    started = time.perf_counter()
    command = [*map(str, words)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, text=True)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        errors.seek(0)
        assert process.returncode == 0, errors.read()[-3000:]
        out.seek(0)
        lines = str(out.read()).splitlines()
    return Took(json.loads(lines[-1]), wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def lwd(*words: object) -> Took:
    """A command of ours."""
    return timed(sys.executable, "-m", "lwd", *words, "--json")


def commit(root: Path) -> int:
    """A snapshot of all that was imported; how many episodes these are."""
    with Catalog(f"sqlite:///{root / 'catalog.db'}") as catalog:
        token = catalog.acquire_lease(COORDINATOR, "benchmark", 3600.0)
        assert token is not None
        ids = [row.episode_id for row in catalog.unsnapshotted(1_000_000)]
        catalog.commit_snapshot(ids, token=token)
        return len(catalog.snapshot_episodes(catalog.snapshot_version()))


def row(what: str, took: Took, frames: int, cameras: int) -> str:
    """A line of the table."""
    return (
        f"| {what} | {frames} | {frames / took.wall_s:.0f} | {frames * cameras / took.wall_s:.0f} "
        f"| {frames * cameras / took.cpu_s:.0f} | {took.peak_mib:.0f} |"
    )


def ours(folder: Path, frames: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Import, repeated import, export, doctor: names, and what measures each."""
    root = folder / "run"
    places = ("import", "lerobot", folder / "set", "--root", root, "--spool-quota-bytes", 1 << 30)

    def first() -> str:
        took = lwd(*places)
        return row("`lwd import lerobot`", took, commit(root) * ROWS, 2)

    def again() -> str:
        took = lwd(*places)
        assert took.said["already"] * ROWS == frames
        return row("the same again: nothing is new", took, frames, 2)

    def out() -> str:
        took = lwd("export", "lerobot", folder / "out", "--root", root)
        shutil.rmtree(folder / "out")
        return row("`lwd export lerobot`", took, int(took.said["frames"]), 2)

    yield "import", first
    yield "again", again
    yield "export", out
    doctor = ("data", "doctor", folder / "set")
    yield "doctor", lambda: row("`lwd data doctor`", lwd(*doctor), frames, 2)


def theirs(folder: Path, env: Path, sample: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Reading and recording."""
    python = env / "bin" / "python"

    def read() -> str:
        took = timed(python, REAL, "time", folder / "set", sample)
        return row("lerobot 0.4.4 reads, one frame after the other", _inner(took), sample, 2)

    def record() -> str:
        shutil.rmtree(folder / "theirs", ignore_errors=True)
        took = timed(python, REAL, "record", folder / "theirs", 1, sample, *SIZE, "h264")
        frames = int(took.said["frames"])
        return row("lerobot 0.4.4 records (one camera)", _inner(took), frames, 1)

    yield "read", read
    yield "record", record


def resumed(path: Path, steps: Iterable[tuple[str, Callable[[], str]]]) -> list[str]:
    """Lines of the table; a step that `path` remembers is not measured again."""
    done: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    for name, measure in steps:
        if name not in done:
            done[name] = measure()
            path.write_text(json.dumps(done))
            print(done[name], flush=True)
    return [*done.values()]


def _inner(took: Took) -> Took:
    """The loop alone, without the seconds in which torch loads."""
    return took._replace(wall_s=took.said["seconds"], cpu_s=took.said["cpu_s"])


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--env", type=Path, default=REPOSITORY / ".lerobot")
    parser.add_argument("--sample", type=int, default=600, help="frames for lerobot")
    parser.add_argument("--folder", type=Path, help="keep everything here, and go on here")
    asked, _ = parser.parse_known_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="lerobot-io-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        frames = made(folder, asked.gigabytes)
        size = sum(path.stat().st_size for path in (folder / "set").rglob("*") if path.is_file())
        steps = [*ours(folder, frames)]
        real = (asked.env / "bin" / "python").exists()
        if real:
            steps += theirs(folder, asked.env, min(asked.sample, frames))
        rows = resumed(folder / "rows.json", steps)
        if not real:
            rows.append(f"| lerobot 0.4.4 is not in {asked.env} | | | | | |")
    finally:
        if not asked.folder:
            shutil.rmtree(folder)
    text = "\n".join(
        [
            "# LeRobot data, in and out",
            "",
            header(f"python -m benchmarks.lerobot_io --gigabytes {asked.gigabytes:g}"),
            f"{size / 1e9:.2f} GB, {frames} frames of two cameras ({SIZE[1]} x {SIZE[0]}, "
            f"{FPS} Hz, H.264 of crf {CRF}, a key frame every second one), {frames // ROWS} "
            "episodes. A picture is one frame of one camera. The videos are hard links to "
            f"{DRAWN} episodes that were encoded, so that they are read from memory.",
            "",
            "| what | frames | frames/s | pictures/s | pictures per CPU second | peak MiB |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    path = Path(__file__).parent / "results" / "lerobot_io.md"
    path.write_text(text)
    print(text)


def made(folder: Path, gigabytes: float) -> int:
    """Frames of the dataset, which is made unless it is there."""
    if not (folder / "set").exists():
        shutil.rmtree(folder / "rows", ignore_errors=True)
        shutil.rmtree(folder / "small", ignore_errors=True)
        generate(folder, gigabytes)
    return int(json.loads((folder / "set/meta/info.json").read_text())["total_frames"])


if __name__ == "__main__":
    main()
