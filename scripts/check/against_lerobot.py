"""Checks against the real lerobot: `python scripts/check/against_lerobot.py [--env FOLDER]`.

lerobot 0.4.4 (with torch: 8 GB) gets an environment of its own in FOLDER (.lerobot by default; made
if it is not there, and never ours). Then, on a few small episodes:

1. it loads what `lwd export lerobot` writes: numbers bit for bit, every picture as our own reader
   decodes it, our columns of meta/episodes, and the statistics;
2. `lwd import lerobot` reads what it has recorded, with H.264 and with AV1, to the same numbers and
   pictures that it reads itself;
3. its recorder is killed: it loads nothing then; after `lwd data doctor --repair` it loads every
   episode, equal to those of a twin that was not killed.

The exit status is 0 if all that is so.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from lwd.config.lerobot import ExportConfig, ImportConfig
from lwd.edge.announce import describe
from lwd.episode.payload import decode
from lwd.lerobot.doctor import examine
from lwd.lerobot.exporter import export_dataset, members
from lwd.lerobot.importer import import_dataset
from lwd.lerobot.repair import repair
from lwd.lerobot.video import Video, decode_picture
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.rows import EpisodeRow

HERE = Path(__file__).parent
VERSION = "0.4.4"
SIZE, ROWS, EPISODES = (64, 96), 20, 5
CAMERA = "observation.images.top"


class Real:
    """The real lerobot, in its own environment."""

    def __init__(self, env: Path) -> None:
        self.python = env / "bin" / "python"
        if not self.python.exists():
            print(f"installing lerobot {VERSION} into {env} (8 GB)")
            subprocess.run([sys.executable, "-m", "venv", env], check=True)
            pip = [self.python, "-m", "pip", "install", "--quiet", f"lerobot=={VERSION}"]
            subprocess.run(pip, check=True)

    def run(self, *words: object) -> subprocess.CompletedProcess:
        """One command of real_lerobot.py."""
        command = [self.python, HERE / "real_lerobot.py", *words]
        return subprocess.run([*map(str, command)], capture_output=True, text=True)

    def read(self, root: Path) -> dict[str, np.ndarray]:
        """All that it reads of a dataset; AssertionError with what it says if it cannot."""
        out = root.with_suffix(".npz")
        ended = self.run("read", root, out)
        assert ended.returncode == 0, ended.stderr[-3000:]
        with np.load(out) as found:
            return dict(found)

    def record(self, root: Path, codec: str, *, kill: bool = False) -> Path:
        """A dataset by its recorder, which may be killed after the last episode."""
        ended = self.run("record", root, EPISODES, ROWS, *SIZE, codec, *(["kill"] * kill))
        expected = -signal.SIGKILL if kill else 0
        assert ended.returncode == expected, ended.stderr[-3000:]
        return root


class Ours:
    """A catalog with what was imported, as a destination of imports."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.catalog = Catalog(f"sqlite:///{root / 'catalog.db'}")
        self.objects = Objects((root / "objects").as_uri())
        self.payloads: list[bytes] = []

    def has(self, episode_id: str) -> bool:
        """Whether the episode is catalogued."""
        return self.catalog.episode(episode_id) is not None

    def take(self, episode_id: str, payload: bytes) -> None:
        """Store and catalogue a payload."""
        sha256 = sha256_of(payload)
        self.objects.put(episode_key(sha256), payload)
        row = describe(decode(payload), sha256=sha256, size_bytes=len(payload))
        self.catalog.insert_episode(row)
        self.payloads.append(payload)

    def payload(self, row: EpisodeRow) -> bytes:
        """Of a catalogued episode."""
        return self.objects.get(episode_key(row.sha256), sha256=row.sha256)

    def export(self, target: Path) -> Path:
        """All of it as a dataset."""
        token = self.catalog.acquire_lease(COORDINATOR, "check", 3600.0)
        assert token is not None
        rows = self.catalog.unsnapshotted(1000)
        self.catalog.commit_snapshot([row.episode_id for row in rows], token=token)
        chosen = members(self.catalog, ExportConfig())

        export_dataset(chosen, self.payload, target, ExportConfig())
        return target


def check_import(real: Real, folder: Path, codec: str) -> Ours:
    """What it has recorded is the same here."""
    root = real.record(folder / codec, codec)
    ours = Ours(folder / f"ours-{codec}")
    report = import_dataset(root, ImportConfig(jpeg_quality=100), ours, folder / f"j-{codec}")
    assert (report.imported, report.problems) == (EPISODES, ()), report
    theirs = real.read(root)
    episodes = [decode(payload) for payload in ours.payloads]
    same(np.concatenate([e.state[:-1] for e in episodes]), theirs["observation.state"])
    same(np.concatenate([e.action for e in episodes]), theirs["action"])
    kept = [data for e in episodes for data in e.images["top"][:-1] if data]
    shown = np.stack([decode_picture(data) for data in kept]).astype(int)
    off = np.abs(shown - theirs[CAMERA].transpose(0, 2, 3, 1)).mean()
    assert off < 2, f"pictures differ by {off} of 255 (JPEG alone is below 2)"
    print(f"import, {codec}: {len(shown)} frames as lerobot reads them (JPEG off by {off:.2f}/255)")
    return ours


def check_export(real: Real, folder: Path, ours: Ours) -> None:
    """What we export is the same there."""
    root = ours.export(folder / "exported")
    theirs = real.read(root)
    chosen = members(ours.catalog, ExportConfig())
    episodes = [decode(ours.payload(row)) for row, _ in chosen]
    same(np.concatenate([e.state[:-1] for e in episodes]), theirs["observation.state"])
    same(np.concatenate([e.action for e in episodes]), theirs["action"])
    same(np.concatenate([np.arange(e.ticks) / 30 for e in episodes]), theirs["timestamp"])
    entries = json.loads(str(theirs["entries"]))
    assert [e["episode_id"] for e in entries] == [e.header.episode_id for e in episodes]
    assert [e["success"] for e in entries] == [e.header.outcome == "success" for e in episodes]
    assert {e["robot_id"] for e in entries} == {e.header.robot for e in episodes}
    stats = json.loads(str(theirs["stats"]))
    action = np.concatenate([e.action for e in episodes])
    assert np.allclose(stats["action"]["mean"], action.mean(0), atol=1e-6)
    assert np.allclose(stats["action"]["q10"], np.quantile(action, 0.1, axis=0), atol=1e-6)
    film = root / "videos" / CAMERA / "chunk-000" / "file-000.mp4"
    with Video(film) as video:
        times = np.arange(len(action)) / 30
        decoded = [f.to_ndarray(format="rgb24") for f in video.read(times.tolist(), 1e-4)]
    off = np.abs(np.stack(decoded).astype(int) - theirs[CAMERA].transpose(0, 2, 3, 1)).max()
    assert off <= 2, f"pictures differ by {off} of 255"
    print(f"export: lerobot loads {len(action)} frames; pictures differ by at most {off} of 255")


def check_doctor(real: Real, folder: Path) -> None:
    """A killed recorder's dataset is whole after a repair."""
    whole = real.read(folder / "h264")
    root = real.record(folder / "killed", "h264", kill=True)
    assert real.run("read", root, folder / "none.npz").returncode != 0, "it was not damaged"
    findings = examine(root)
    outcomes = repair(root, findings)
    assert outcomes, "nothing was found"
    assert not [came for came in outcomes if came.startswith("left")], outcomes
    again = real.read(root)
    for name in set(whole) - {"entries", "stats"}:
        same(again[name], whole[name])
    entries = json.loads(str(again["entries"]))
    assert len(entries) == EPISODES
    print(
        f"doctor: {len(entries)} of {EPISODES} episodes of a killed recorder, none of them before"
    )


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """AssertionError unless two arrays agree as float32 or exactly."""
    exact = ours.dtype.kind != "f"
    given = ours if exact else ours.astype(np.float32)
    expected = theirs if exact else theirs.astype(np.float32)
    assert given.shape == expected.shape, (given.shape, expected.shape)
    assert np.array_equal(given, expected), np.argwhere(given != expected)[:5]


def main() -> None:
    """Run all checks; the first that fails ends it with a traceback."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--env", type=Path, default=Path(".lerobot"), help="lerobot's environment")
    real = Real(parser.parse_args().env.absolute())
    folder = Path(tempfile.mkdtemp(prefix="lwd-lerobot-"))
    try:
        ours = check_import(real, folder, "h264")
        check_import(real, folder, "libsvtav1").catalog.close()
        check_export(real, folder, ours)
        check_doctor(real, folder)
        ours.catalog.close()
    finally:
        shutil.rmtree(folder)
    print("all as with the real lerobot")


if __name__ == "__main__":
    main()
