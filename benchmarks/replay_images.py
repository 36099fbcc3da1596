"""Transitions with three 224 px images a second, on two cores, beside a dataset of mp4 files.

The simulator films a demonstration; forth and back it fills episodes of four minutes at 30 Hz. The
same frames go into payloads (JPEG in Arrow, one image in six: 5 Hz) and into H.264 files as
LeRobot writes them (one for each camera, a key frame every second frame, crf 30), read with PyAV in
three ways: as LeRobot does, which opens the file and decodes all from s_t to s_{t+30}; with a seek
to each of the two; and with files that stay open, the best that could be done. Every reader gets
the same transitions, in turns. `python -m benchmarks.replay_images` writes
benchmarks/results/replay_images.md.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import av
import numpy as np
import simplejpeg

from benchmarks.record import header
from benchmarks.replay_sampling import Fleet, episode
from lwd.config import FULL
from lwd.episode.payload import encode
from lwd.replay.batch import Batch
from lwd.replay.reader import Options, Reader
from lwd.sim.cameras import CAMERAS
from lwd.sim.expert import Expert
from lwd.sim.hands import NO_NOISE
from lwd.sim.robot import SimRobot
from lwd.store.objects import Objects, sha256_of

SIZE, TICKS, EVERY, FILM = 224, 7200, 6, 300
"""Pixels; ticks of an episode (4 minutes); ticks between kept images; frames that are rendered."""
EPISODES, BATCH, CORES = 3, 32, 2
ROUNDS, COLD_ROUNDS, TURN_S = 5, 3, 0.5
"""Turns of each reader, and how long one lasts at least, so that waiting for a core weighs less."""
GOP, CRF = 2, 30
MIXTURE = {"online": 1.0}

Way = Literal["open", "reopened", "lerobot"]
"""How mp4 files are read."""
Frames = dict[str, list[np.ndarray]]
Read = Callable[[Batch], None]


class Cost(NamedTuple):
    """Of one transition in one batch."""

    wall_s: float
    cpu_s: float


def film() -> Frames:
    """`FILM` frames of demonstrations in a row, by camera."""
    robot = SimRobot("restocking", control=FULL, cameras=CAMERAS, image_size=SIZE)
    frames: Frames = {camera: [] for camera in CAMERAS}
    seed = 0
    while len(frames[CAMERAS[0]]) < FILM:
        robot.reset(seed)
        expert = Expert(robot, np.random.default_rng(seed), noise=NO_NOISE)
        while robot.status.name == "RUNNING" and len(frames[CAMERAS[0]]) < FILM:
            for camera, image in robot.observe().images.items():
                frames[camera].append(image)
            robot.apply(expert.act()[None])
        seed += 1
    return frames


def shown(tick: int) -> int:
    """Frame of the film at a tick: forth and back."""
    phase = tick % (2 * FILM - 2)
    return min(phase, 2 * FILM - 2 - phase)


def payloads(frames: Frames) -> list[bytes]:
    """Episodes of four minutes with an image every `EVERY` ticks."""
    quality = 90
    jpegs = {
        camera: [simplejpeg.encode_jpeg(image, quality=quality) for image in images]
        for camera, images in frames.items()
    }
    kept = [shown(tick) if tick % EVERY == 0 else None for tick in range(TICKS + 1)]
    images = {
        camera: tuple(None if at is None else every[at] for at in kept)
        for camera, every in jpegs.items()
    }
    return [encode(_long(number, images)) for number in range(EPISODES)]


def _long(number: int, images: dict):
    """An online episode of `TICKS` ticks."""
    short = episode(4 * number + 2)
    turns = -(-TICKS // short.ticks)
    return replace(
        short,
        header=replace(short.header, rate_hz=FULL.rate_hz, horizon=FULL.horizon),
        time=1.0 + np.arange(TICKS + 1) / FULL.rate_hz,
        state=np.resize(short.state, (TICKS + 1, short.state.shape[1])),
        action=np.resize(short.action, (TICKS, short.action.shape[1])),
        action_policy=np.resize(short.action, (TICKS, short.action.shape[1])),
        source=np.resize(short.source, TICKS),
        events=(short.events * turns)[:TICKS],
        images=images,
    )


def mp4(path: Path, images: Sequence[np.ndarray]) -> None:
    """All frames of a camera at 30 Hz."""
    with av.open(str(path), "w") as container:
        options = {"g": str(GOP), "crf": str(CRF), "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=int(FULL.rate_hz), options=options)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for tick in range(TICKS + 1):
            frame = av.VideoFrame.from_ndarray(images[shown(tick)], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class Videos:
    """A folder of episodes with an mp4 file for each camera, read by `CORES` threads."""

    def __init__(self, folder: Path, number: dict[str, int], how: Way = "open"):
        self._folder, self._number, self._how = folder, number, how
        self._pool = ThreadPoolExecutor(CORES)
        self._open: list[dict[Path, Video]] = [{} for _ in range(CORES)]

    def read(self, batch: Batch) -> None:
        """Six images of each transition into arrays."""
        into = np.empty((2, len(CAMERAS), len(batch.tick), SIZE, SIZE, 3), np.uint8)
        share = -(-len(batch.tick) // CORES)
        parts = [range(k * share, min((k + 1) * share, len(batch.tick))) for k in range(CORES)]
        list(
            self._pool.map(lambda k: self._read(batch, parts[k], into, self._open[k]), range(CORES))
        )

    def _read(
        self, batch: Batch, rows: range, into: np.ndarray, opened: dict[Path, "Video"]
    ) -> None:
        for row in rows:
            for index, camera in enumerate(CAMERAS):
                path = self._folder / f"{self._number[batch.episode[row]]}-{camera}.mp4"
                ticks = (int(batch.tick[row]), int(batch.next_tick[row]))
                video = opened.get(path) or Video(path, alone=self._how != "lerobot")
                into[:, index, row] = video.frames(*ticks, between=self._how == "lerobot")
                if self._how == "open":
                    opened[path] = video
                else:
                    video.close()

    def close(self) -> None:
        """Close every file."""
        self._pool.shutdown()
        for videos in self._open:
            for video in videos.values():
                video.close()


class Video:
    """One open mp4 file; `alone` without threads of its own, since the batch has the cores."""

    def __init__(self, path: Path, *, alone: bool):
        self._container = av.open(str(path))
        self._stream = self._container.streams.video[0]
        if alone:
            self._stream.codec_context.thread_count = 1
        assert self._stream.time_base is not None
        self._tick = Fraction(1, int(FULL.rate_hz)) / self._stream.time_base

    def frames(self, first: int, last: int, *, between: bool) -> list[np.ndarray]:
        """[size, size, 3] RGB at two ticks; with all decoded that is `between` them, or not."""
        if between:
            found = self._from(first, last)
            return [found[0], found[-1]]
        return [self._from(tick, tick)[-1] for tick in (first, last)]

    def _from(self, first: int, last: int) -> list[np.ndarray]:
        """All frames from one tick to another, out of the key frame before."""
        begin, end, found = int(first * self._tick), int(last * self._tick), []
        self._container.seek(begin, stream=self._stream, backward=True, any_frame=False)
        for frame in self._container.decode(self._stream):
            assert frame.pts is not None
            if frame.pts >= begin:
                found.append(frame.to_ndarray(format="rgb24"))
            if frame.pts >= end:
                return found
        raise ValueError(f"the video ends before tick {last}")

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class Decoder:
    """Nothing but the JPEG decoder, by `CORES` threads, on bytes that are in memory."""

    def __init__(self, frames: Frames):
        self._pool = ThreadPoolExecutor(CORES)
        self._jpegs = {
            camera: [simplejpeg.encode_jpeg(image, quality=90) for image in images]
            for camera, images in frames.items()
        }

    def read(self, batch: Batch) -> None:
        """Decode what the batch shows, and keep nothing."""
        ticks = [*batch.tick.tolist(), *batch.next_tick.tolist()]
        jpegs = [self._jpegs[camera][shown(tick)] for camera in CAMERAS for tick in ticks]
        share = -(-len(jpegs) // CORES)
        parts = [jpegs[k * share : (k + 1) * share] for k in range(CORES)]
        list(self._pool.map(_decode, parts))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _decode(jpegs: Sequence[bytes]) -> None:
    for jpeg in jpegs:
        simplejpeg.decode_jpeg(jpeg)


@dataclass(frozen=True, kw_only=True)
class Plane:
    """What both kinds of readers read."""

    folder: Path
    fleet: Fleet
    number: dict[str, int]
    """Of an episode among the mp4 files."""

    @property
    def videos(self) -> Path:
        """Folder of the mp4 files."""
        return self.folder / "videos"

    def reader(self) -> Reader:
        """A learner's reader, with all episodes loaded."""
        options = Options(prefetcher=False, cameras=CAMERAS, image_size=SIZE, image_workers=CORES)
        reader = Reader(
            self.fleet.catalog,
            self.fleet.objects,
            self.folder / "cache",
            horizon=FULL.horizon,
            discount=FULL.discount(),
            options=options,
        )
        reader.sync()
        return reader


def build(folder: Path, frames: Frames) -> Plane:
    """The same episodes as payloads in a data plane and as mp4 files."""
    fleet, videos = Fleet(folder), folder / "videos"
    fleet.commit(payloads(frames))
    ids = [row.episode_id for row in fleet.catalog.snapshot_episodes(1)]
    videos.mkdir()
    for camera in CAMERAS:
        mp4(videos / f"0-{camera}.mp4", frames[camera])
        for number in range(1, EPISODES):
            shutil.copy(videos / f"0-{camera}.mp4", videos / f"{number}-{camera}.mp4")
    return Plane(folder=folder, fleet=fleet, number={name: i for i, name in enumerate(ids)})


def cost(call: Callable[[], object], *, at_least_s: float = 0.0) -> Cost:
    """Of a call that reads one batch, made again and again for so long."""
    wall, cpu, read = time.perf_counter(), time.process_time(), 0
    while not read or time.perf_counter() - wall < at_least_s:
        call()
        read += BATCH
    return Cost((time.perf_counter() - wall) / read, (time.process_time() - cpu) / read)


def forget_pages(folder: Path) -> None:
    """Have the kernel drop what it caches of the files of a folder."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def warm(plane: Plane, frames: Frames) -> dict[str, list[Cost]]:
    """Costs by reader, in turns, after a round that does not count."""
    reader, decoder = plane.reader(), Decoder(frames)
    videos = {how: Videos(plane.videos, plane.number, how) for how in get_args(Way)}
    costs: dict[str, list[Cost]] = {}
    for update in range(ROUNDS + 1):
        drawn = reader.sample(update, MIXTURE, BATCH)._replace(images=None, next_images=None)
        calls: dict[str, Callable[[], object]] = {
            "lwd": lambda number=update: reader.sample(number, MIXTURE, BATCH),
            "decoder": lambda batch=drawn: decoder.read(batch),
        }
        for how, read in videos.items():
            calls[how] = lambda batch=drawn, read=read: read.read(batch)
        for name, call in calls.items():
            spent = cost(call, at_least_s=TURN_S)
            if update:
                costs.setdefault(name, []).append(spent)
    for thing in (reader, decoder, *videos.values()):
        thing.close()
    return costs


def cold_pages(plane: Plane) -> dict[str, list[Cost]]:
    """Costs of a first batch, with every file on disk and nothing of it in memory."""
    costs: dict[str, list[Cost]] = {"lwd": [], "mp4": []}
    for update in range(COLD_ROUNDS):
        reader = plane.reader()
        videos = Videos(plane.videos, plane.number)
        forget_pages(plane.folder / "cache")
        batch = reader.sample(update, MIXTURE, BATCH)._replace(images=None, next_images=None)
        reader.close()
        reader = plane.reader()
        forget_pages(plane.folder / "cache")
        costs["lwd"].append(cost(lambda r=reader, u=update: r.sample(u, MIXTURE, BATCH)))
        forget_pages(plane.videos)
        costs["mp4"].append(cost(lambda v=videos, b=batch: v.read(b)))
        reader.close()
        videos.close()
    return costs


def cold_cache(plane: Plane) -> dict[str, list[Cost]]:
    """Costs of a first batch for which everything comes out of the object store, verified."""
    objects = Objects((plane.folder / "video-objects").as_uri())
    hashes = {}
    for path in sorted(plane.videos.iterdir()):
        data = path.read_bytes()
        hashes[path.name] = sha256_of(data)
        objects.put(path.name, data)
    costs: dict[str, list[Cost]] = {"lwd": [], "mp4": []}
    for update in range(COLD_ROUNDS):
        reader = plane.reader()
        for path in (plane.folder / "cache").iterdir():
            path.unlink()
        costs["lwd"].append(cost(lambda r=reader, u=update: r.sample(u, MIXTURE, BATCH)))
        batch = reader.sample(update, MIXTURE, BATCH)._replace(images=None, next_images=None)
        folder = plane.folder / f"downloaded-{update}"

        def download(folder: Path = folder, batch: Batch = batch) -> None:
            with ThreadPoolExecutor(CORES) as pool:
                names = list(hashes)
                list(pool.map(lambda n: objects.get_to(n, folder / n, sha256=hashes[n]), names))
            videos = Videos(folder, plane.number)
            videos.read(batch)
            videos.close()

        costs["mp4"].append(cost(download))
        reader.close()
        shutil.rmtree(folder)
    return costs


def row(name: str, costs: Sequence[Cost]) -> str:
    """A line of the table: transitions/s (median, slowest, fastest) and CPU time."""
    walls = [1 / c.wall_s for c in costs]
    cpu = statistics.median(c.cpu_s for c in costs) * 1e3
    middle = statistics.median(walls)
    return f"| {name} | {middle:,.0f} | {min(walls):,.0f} to {max(walls):,.0f} | {cpu:.2f} |"


def ratio(costs: dict[str, list[Cost]], over: str) -> str:
    """How many times as fast `lwd` is: median over rounds of the ratio, by the clock and by CPU."""
    pairs = list(zip(costs[over], costs["lwd"], strict=True))
    wall = statistics.median(other.wall_s / own.wall_s for other, own in pairs)
    cpu = statistics.median(other.cpu_s / own.cpu_s for other, own in pairs)
    return f"{wall:.2f} by the clock, {cpu:.2f} by CPU time"


def report(plane: Plane, frames: Frames) -> list[str]:
    """Measure, and say it in Markdown."""
    found = warm(plane, frames)
    pages, empty = cold_pages(plane), cold_cache(plane)
    jpeg = sum(p.stat().st_size for p in (plane.folder / "cache").iterdir()) / EPISODES
    video = sum(p.stat().st_size for p in plane.videos.iterdir()) / EPISODES
    names = {
        "lwd": "lwd, `Reader.sample`",
        "decoder": "JPEG decoder alone, bytes in memory",
        "open": "mp4, files kept open, two seeks",
        "reopened": "mp4, file opened for each read, two seeks",
        "lerobot": "mp4 as LeRobot reads it with PyAV: opened, all from s_t to s_{t+30} decoded",
    }
    return [
        "| warm | transitions/s, median | slowest to fastest turn | CPU ms a transition |",
        "|---|---|---|---|",
        *(row(names[name], costs) for name, costs in found.items()),
        "",
        "| cold: the first batch | transitions/s, median | slowest to fastest | CPU ms |",
        "|---|---|---|---|",
        row("lwd, files on disk, no page in memory", pages["lwd"]),
        row("mp4, files kept open, the same", pages["mp4"]),
        row("lwd, empty cache: everything from the object store, verified", empty["lwd"]),
        row("mp4, files kept open, the same", empty["mp4"]),
        "",
        f"- lwd over mp4 as LeRobot reads it: {ratio(found, 'lerobot')}",
        f"- lwd over mp4, opened for each read, two seeks: {ratio(found, 'reopened')}",
        f"- lwd over mp4, files kept open, two seeks: {ratio(found, 'open')}",
        f"- lwd over the decoder alone: {ratio(found, 'decoder')}",
        f"- lwd over mp4, no page in memory: {ratio(pages, 'mp4')}",
        f"- lwd over mp4, empty cache: {ratio(empty, 'mp4')}",
        f"- an episode: {jpeg / 1e6:.1f} MB as JPEG at 5 Hz, {video / 1e6:.1f} MB as mp4 at 30 Hz",
    ]


def main() -> None:
    """Measure and write the page."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as folder:
        frames = film()
        plane = build(Path(folder), frames)
        lines = report(plane, frames)
        plane.fleet.catalog.close()
    about = (
        f"{EPISODES} episodes of {TICKS / FULL.rate_hz / 60:.0f} minutes, three cameras of {SIZE} "
        f"px; batches of {BATCH} random transitions of six images, {CORES} threads on {CORES} "
        f"cores. {ROUNDS} batches each, in turns (cold: {COLD_ROUNDS}); ratios are medians over "
        f"batches. The film is {FILM} rendered frames, forth and back. H.264: key frame every "
        f"{GOP} frames, crf {CRF}, PyAV {av.__version__}."
    )
    title = header("python -m benchmarks.replay_images")
    text = "\n".join(["# Reading images", "", title, about, "", *lines, ""])
    (Path(__file__).parent / "results" / "replay_images.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
