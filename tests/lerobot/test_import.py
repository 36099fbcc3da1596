"""Importing: what becomes of rows, pictures and labels; what is reported; what is never doubled."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import simplejpeg

from lerobot.datasets import (
    FPS,
    LENGTHS,
    TOP,
    WRIST,
    change_rows,
    cut,
    numbers,
    pictures,
    v2,
    v3,
    with_column,
)
from lwd.config.lerobot import ImportConfig
from lwd.episode.payload import decode
from lwd.episode.types import Kind, Outcome, Source
from lwd.errors import ConfigError, ConflictError, EpisodeError
from lwd.lerobot.columns import INTERVENTIONS, REWARD, SUCCESSES
from lwd.lerobot.importer import Report, import_dataset
from lwd.lerobot.journal import Journal
from lwd.store.catalog import Catalog


class Kept:
    """Keeps what is imported."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}
        self.taken = 0
        self.refuse = False

    def has(self, episode_id: str) -> bool:
        return episode_id in self.payloads

    def take(self, episode_id: str, payload: bytes) -> None:
        if self.refuse:
            raise EpisodeError("nobody wants it.")
        self.taken += 1
        self.payloads[episode_id] = payload

    @property
    def episodes(self):
        return [decode(payload) for payload in self.payloads.values()]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def bring(kept, tmp_path):
    """Imports a dataset into `kept`."""

    def _bring(root, *, journal="journal", **settings) -> Report:
        return import_dataset(root, ImportConfig(**settings), kept, tmp_path / journal)

    return _bring


def reasons(report: Report) -> dict[int | None, str]:
    return dict(report.problems)


def test_every_number_and_every_picture_of_v3_arrives(tmp_path, bring, kept):
    report = bring(v3(tmp_path / "set"))
    assert (report.imported, report.frames, report.problems) == (4, sum(LENGTHS), ())
    for index, made in enumerate(kept.episodes):
        rows = LENGTHS[index]
        assert np.array_equal(made.state[:-1], numbers(index, rows, 6))
        assert np.array_equal(made.action, numbers(100 + index, rows, 4))
        assert np.allclose(np.diff(made.time), 1 / FPS, atol=1e-5)
        assert made.header.instruction == f"pick the cube {index % 2}"
        for camera, number in (("top", 0), ("wrist", 1)):
            seen = [simplejpeg.decode_jpeg(data) for data in made.images[camera][:-1]]
            true = list(pictures(10 * index + number, rows))
            # Lossy video and JPEG: near the right picture, and far from its neighbour.
            right = np.abs(np.stack(seen).astype(int) - np.stack(true)).mean()
            wrong = np.abs(np.stack(seen[1:]).astype(int) - np.stack(true[:-1])).mean()
            assert right < 6 < 12 < wrong


def test_the_state_after_the_last_action_is_said_twice_and_has_no_picture(tmp_path, bring, kept):
    bring(v3(tmp_path / "set", lengths=(5,)))
    (made,) = kept.episodes
    assert made.ticks == 5
    assert np.array_equal(made.state[5], made.state[4])
    assert made.images["top"][5] is None


def test_labels_and_who_acted(tmp_path, bring, kept):
    bring(v3(tmp_path / "set"))
    outcomes = [made.header.outcome for made in kept.episodes]
    assert outcomes == [Outcome.SUCCESS, Outcome.FAILURE] * 2
    second = kept.episodes[1]
    assert np.flatnonzero(second.source == Source.HUMAN).tolist() == [3, 4, 5]
    assert second.header.kind is Kind.ROLLOUT
    assert np.isnan(second.action_policy[3:6]).all()
    assert np.array_equal(second.action_policy[:3], second.action[:3])
    assert "set, episode 1, split train" in second.events[0][0]


def renamed(root: Path, old: str, new: str) -> None:
    """Call a column as another recorder does; a success is a reward where rewards are meant."""
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    feature = info["features"].pop(old)
    info["features"][new] = feature | ({"dtype": "float32"} if new == "next.reward" else {})
    path.write_text(json.dumps(info))

    def change(rows: pa.Table) -> pa.Table:
        names = [new if name == old else name for name in rows.column_names]
        return rows.rename_columns(names)

    change_rows(root, change)


@pytest.mark.parametrize("success", [*SUCCESSES, REWARD])
@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_labels_by_every_name_that_somebody_gives_them(
    tmp_path, bring, kept, success, intervention
):
    root = v3(tmp_path / "set", lengths=(7, 7), cameras=())
    renamed(root, "next.success", success)
    renamed(root, "intervention", intervention)
    assert bring(root).problems == ()
    assert [made.header.outcome for made in kept.episodes] == [Outcome.SUCCESS, Outcome.FAILURE]
    people = [np.flatnonzero(made.source == Source.HUMAN).tolist() for made in kept.episodes]
    assert people == [[], [3, 4, 5]]


@pytest.mark.parametrize("codec", ["mpeg4", "libvpx-vp9", "libsvtav1"])
def test_videos_of_other_codecs_arrive(tmp_path, bring, kept, codec):
    root = v2(tmp_path / "set", lengths=(6,))
    film = root / "videos" / "chunk-000" / TOP / "episode_000000.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        (stream.height, stream.width), stream.pix_fmt = (64, 96), "yuv420p"
        shown = [picture.repeat(2, 0).repeat(2, 1) for picture in pictures(0, 6)]
        for picture in shown:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert bring(root).problems == ()
    (made,) = kept.episodes
    seen = [simplejpeg.decode_jpeg(data) for data in made.images["top"][:-1]]
    right = np.abs(np.stack(seen).astype(int) - np.stack(shown)).mean()
    wrong = np.abs(np.stack(seen[1:]).astype(int) - np.stack(shown[:-1])).mean()
    assert right < wrong / 2


def test_v2_as_rlinf_writes_it(tmp_path, bring, kept):
    report = bring(v2(tmp_path / "set"))
    assert (report.imported, report.problems) == (4, ())
    episodes = kept.episodes
    assert [made.ticks for made in episodes] == list(LENGTHS)
    assert [made.header.outcome == "success" for made in episodes] == [True, True, False, True]
    assert [int((made.source == Source.HUMAN).sum()) for made in episodes] == [0, 1, 2, 3]
    assert [made.header.held_out for made in episodes] == [False, False, False, True]
    assert episodes[2].header.task == "open_the_drawer"
    assert set(episodes[0].images) == {"image", "top"}
    shown = simplejpeg.decode_jpeg(episodes[1].images["image"][3]).astype(int)
    assert np.abs(shown - list(pictures(11, 9))[3]).mean() < 6


def test_repeating_and_copies_and_other_labels_double_nothing(tmp_path, bring, kept):
    first = v3(tmp_path / "set")
    bring(first)
    again = bring(first)
    assert (again.imported, again.already) == (0, 4)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", first, copy], check=True)
    os.utime(copy / "meta" / "info.json", (1, 1))
    change_rows(copy, lambda rows: with_column(rows, "next.success", [False] * len(rows)))
    elsewhere = bring(copy, journal="another", image_every=3, jpeg_quality=50, task="other")
    assert (elsewhere.imported, elsewhere.already) == (0, 4)
    assert kept.taken == 4


def test_an_episode_that_differs_in_one_number_or_picture_is_another(tmp_path, bring, kept):
    bring(v3(tmp_path / "set", lengths=(5,)))
    changed = v3(tmp_path / "other", lengths=(5,))
    values = numbers(0, 5, 6)
    values[4, 2] += 1e-3
    change_rows(changed, lambda rows: with_column(rows, "observation.state", values.tolist()))
    assert bring(changed).imported == 1
    assert bring(v3(tmp_path / "view", lengths=(5,), cameras=(WRIST, TOP))).imported == 1


@pytest.mark.parametrize(
    ("given", "outcome", "kind", "unlabelled"),
    [
        ({}, Outcome.SUCCESS, Kind.DEMO, 1),
        ({"unlabelled": "failure"}, Outcome.FAILURE, Kind.PLAY, 1),
        ({"unlabelled": "interrupted", "kind": "online"}, Outcome.INTERRUPTED, Kind.ONLINE, 1),
        ({"labels": '{"episode_index": 0, "success": false}'}, Outcome.FAILURE, Kind.PLAY, 0),
    ],
)
def test_an_episode_that_does_not_say_how_it_ended(
    tmp_path, bring, kept, given, outcome, kind, unlabelled
):
    if "labels" in given:
        (tmp_path / "labels.jsonl").write_text(given["labels"])
        given = {"labels": tmp_path / "labels.jsonl"}
    report = bring(v3(tmp_path / "set", lengths=(5,), labels=False), **given)
    (made,) = kept.episodes
    assert (made.header.outcome, made.header.kind, report.unlabelled) == (outcome, kind, unlabelled)


def test_unlabelled_episodes_can_be_skipped(tmp_path, bring):
    report = bring(v3(tmp_path / "set", lengths=(5,), labels=False), unlabelled="skip")
    assert "--unlabelled" in reasons(report)[0]


def test_pictures_are_kept_once_a_chunk_if_asked(tmp_path, bring, kept):
    bring(v3(tmp_path / "set", lengths=(7,)), image_every=3, cameras=(WRIST,))
    (made,) = kept.episodes
    assert [data is not None for data in made.images["wrist"]] == [True, False, False] * 2 + [
        True,
        False,
    ]


def gap(rows: pa.Table) -> pa.Table:
    """Frame 4 of the second episode is not there."""
    return pa.concat_tables([rows.slice(0, LENGTHS[0] + 4), rows.slice(LENGTHS[0] + 5)])


def slow(rows: pa.Table) -> pa.Table:
    """The second episode was recorded at 7 Hz."""
    here = np.asarray(rows["episode_index"]) == 1
    time = np.where(here, np.asarray(rows["frame_index"]) / 7, np.asarray(rows["timestamp"]))
    return with_column(rows, "timestamp", time.astype(np.float32))


def huge(rows: pa.Table) -> pa.Table:
    """The second episode has an infinite state."""
    state = np.stack(rows["observation.state"].to_numpy())
    state[LENGTHS[0] + 2, 1] = np.inf
    return with_column(rows, "observation.state", state.tolist())


@pytest.mark.parametrize(
    ("change", "reason"), [(gap, "meta says 9 frames"), (slow, "7.00 Hz"), (huge, "not finite")]
)
def test_a_bad_episode_is_named_and_the_others_come(tmp_path, bring, change, reason):
    root = v3(tmp_path / "set")
    change_rows(root, change)
    report = bring(root)
    assert (report.imported, report.skipped) == (3, 1)
    assert reason in reasons(report)[1]


def test_a_missing_and_a_cut_off_video_are_named(tmp_path, bring):
    root = v2(tmp_path / "set")
    films = root / "videos" / "chunk-000" / TOP
    (films / "episode_000000.mp4").unlink()
    cut(films / "episode_000001.mp4", 0.5)
    (films / "episode_000002.mp4").write_bytes(b"no video")
    strange = films / "episode_000003.mp4"
    strange.write_bytes(strange.read_bytes().replace(b"avc1", b"zzz1"))
    report = bring(root)
    assert (report.imported, report.skipped) == (0, 4)
    assert "not there" in reasons(report)[0]
    assert all("no whole video" in reasons(report)[index] for index in (1, 2))
    assert "a codec that PyAV cannot decode" in reasons(report)[3]


def test_a_video_that_is_too_short_or_too_slow_is_named(tmp_path, bring):
    root = v2(tmp_path / "set")
    films = root / "videos" / "chunk-000" / TOP
    os.replace(films / "episode_000001.mp4", films / "episode_000000.mp4")
    report = bring(root)
    assert "no frame at 0.9000 s (frame 9 of 12" in reasons(report)[0]
    assert report.imported == 2


def test_a_file_without_a_footer_costs_only_its_own_episodes(tmp_path, bring):
    root = v2(tmp_path / "set")
    cut(root / "data" / "chunk-000" / "episode_000002.parquet", 0.6)
    report = bring(root)
    assert report.imported == 3
    assert "in no file that can be read" in reasons(report)[2]
    assert "episode_000002.parquet is not readable" in reasons(report)[None]


def test_what_will_never_be_accepted_is_a_problem(tmp_path, bring, kept):
    kept.refuse = True
    report = bring(v3(tmp_path / "set", lengths=(5,)))
    assert (report.imported, report.skipped) == (0, 1)
    assert "nobody wants it" in reasons(report)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codebase_version": "v1.6"}, "v3.0, v2.1 and v2.0"),
        ({"fps": 0}, "fps is 0"),
        ({"features": {}}, "features"),
        ({"data_path": "../{file_index}"}, "leaves the dataset"),
        ({"data_path": "{file_index.__class__}"}, "is not one like"),
        ({"features": {"action": {"dtype": "float32", "shape": [2]}}}, "--state"),
    ],
)
def test_a_dataset_that_cannot_be_understood_says_why(tmp_path, bring, changes, said):
    root = v2(tmp_path / "set", lengths=(3,))
    path = root / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConfigError, match=said):
        bring(root)


@pytest.mark.parametrize("wrong", [{"image_every": 0}, {"jpeg_quality": 101}, {"tolerance_s": 0.0}])
def test_a_setting_out_of_bounds_is_named(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        ImportConfig(**wrong)


def test_a_folder_without_a_dataset(tmp_path, bring):
    with pytest.raises(ConfigError, match="Give the folder of a LeRobotDataset"):
        bring(tmp_path)


def test_an_unknown_feature_names_those_there_are(tmp_path, bring):
    with pytest.raises(ConfigError, match=r"no feature 'gripper'; it has .*next\.success"):
        bring(v3(tmp_path / "set", lengths=(3,)), state=("gripper",))


def test_two_imports_of_one_dataset_at_once(tmp_path, bring):
    root = v3(tmp_path / "set", lengths=(3,))
    with Journal(tmp_path / "journal"), pytest.raises(ConflictError, match="being imported"):
        bring(root)


IMPORT = "import sys; from lwd.cli import main; sys.argv = ['lwd', *sys.argv[1:]]; main()"


def lwd(*words: object, **settings) -> subprocess.Popen:
    command = [sys.executable, "-c", IMPORT, *map(str, words)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **settings)


def test_a_killed_import_goes_on_and_doubles_nothing(tmp_path):
    root, words = v3(tmp_path / "set", lengths=(20,) * 16), ("import", "lerobot")
    where = ("--root", tmp_path / "run", "--json")
    first = lwd(*words, root, *where, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    journal = tmp_path / "run" / "imports"
    while time.monotonic() < deadline:
        lines = [p.read_text().count("\n") for p in journal.glob("*/journal.jsonl")]
        if lines and lines[0] >= 3:
            break
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    second = lwd(*words, root, *where, stderr=subprocess.DEVNULL)
    out, _ = second.communicate(timeout=60)
    report = json.loads(out)
    assert report["already"] >= 3
    assert report["imported"] + report["already"] == 16
    assert report["imported"] > 0
    with Catalog(f"sqlite:///{tmp_path / 'run' / 'catalog.db'}") as catalog:
        assert catalog.count_episodes() == len(catalog.hashes()) == 16
