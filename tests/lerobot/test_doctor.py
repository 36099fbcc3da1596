"""The doctor: every kind of damage is found, and what is repaired reads like a whole dataset."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lerobot.datasets import FPS, LENGTHS, TOP, WRIST, change_rows, cut, v2, v3, with_column
from lwd.cli import main
from lwd.config.lerobot import ImportConfig
from lwd.errors import EpisodeError
from lwd.lerobot.doctor import Trouble, examine
from lwd.lerobot.episodes import read_episodes
from lwd.lerobot.importer import import_dataset
from lwd.lerobot.layout import read_info
from lwd.lerobot.repair import repair

FIRST = LENGTHS[0]


class Ids:
    """Takes whatever comes and keeps its id."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def has(self, episode_id: str) -> bool:
        return False

    def take(self, episode_id: str, payload: bytes) -> None:
        self.ids.append(episode_id)


def ids(root, tmp_path) -> list[str]:
    """What the episodes of a dataset are called here: by their numbers and pictures."""
    found = Ids()
    journal = tmp_path / f"journal-{len(list(tmp_path.glob('journal-*')))}"
    report = import_dataset(root, ImportConfig(), found, journal)
    assert report.problems == ()
    return found.ids


def footer(root):
    path = root / "data" / "chunk-000" / "file-000.parquet"
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    path.write_bytes(data[: -8 - size])


def entries(root, change):
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def info(root, **changes):
    path = root / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def killed(root):
    """As the real recorder leaves it: no footers, half of meta, counts that are ahead."""
    footer(root)
    cut(root / "meta" / "episodes" / "chunk-000" / "file-000.parquet", 0.5)


def unplaced(root):
    entries(root, lambda table: table.slice(0, 2))


def gap(root):
    entries(root, lambda table: pa.concat_tables([table.slice(0, 1), table.slice(2)]))


def wrong_fps(root):
    info(root, fps=3 * FPS)


def counts(root):
    info(root, total_episodes=40)


def tasks(root):
    (root / "meta" / "tasks.parquet").unlink()


def statistics(root):
    (root / "meta" / "stats.json").write_text("{")


ALL, BUT_1, BUT_LAST = [0, 1, 2, 3], [0, 2, 3], [0, 1, 2]


def missing_frame(root):
    change_rows(root, lambda t: pa.concat_tables([t.slice(0, FIRST + 4), t.slice(FIRST + 5)]))


def slower(root):
    def change(table):
        here = np.asarray(table["episode_index"]) == 1
        time = np.where(here, np.asarray(table["frame_index"]) / 7, np.asarray(table["timestamp"]))
        return with_column(table, "timestamp", time.astype(np.float32))

    change_rows(root, change)


def cut_video(root):
    """The end of a camera's file, the last episode's, is not there."""
    shorter = v3(root.with_name("shorter"), lengths=(*LENGTHS[:3], LENGTHS[3] - 4))
    name = f"videos/{WRIST}/chunk-000/file-000.mp4"
    (shorter / name).replace(root / name)


@pytest.mark.parametrize(
    ("damage", "trouble", "left"),
    [
        (footer, Trouble.FOOTER, ALL),
        (killed, Trouble.META, ALL),
        (unplaced, Trouble.PLACE, ALL),
        (gap, Trouble.GAP, ALL),
        (wrong_fps, Trouble.RATE, ALL),
        (counts, Trouble.COUNTS, ALL),
        (tasks, Trouble.TASKS, ALL),
        (statistics, Trouble.STATS, ALL),
        (missing_frame, Trouble.FRAMES, BUT_1),
        (slower, Trouble.RATE, BUT_1),
        (cut_video, Trouble.VIDEO, BUT_LAST),
    ],
)
def test_damage_is_found_and_repaired(tmp_path, damage, trouble, left):
    root = v3(tmp_path / "set")
    assert examine(root) == []
    whole = ids(root, tmp_path)
    damage(root)
    findings = examine(root)
    assert trouble in {finding.trouble for finding in findings}
    outcomes = repair(root, findings)
    assert [came for came in outcomes if came.startswith("left")] == []
    assert examine(root) == []
    assert json.loads((root / "meta" / "info.json").read_text())["total_episodes"] == len(left)
    if damage is not tasks:  # the instruction is part of what an episode is
        assert ids(root, tmp_path) == [whole[index] for index in left]


def test_statistics_of_a_repaired_dataset_are_those_of_the_whole(tmp_path):
    root = v3(tmp_path / "set")
    before = json.loads((root / "meta" / "stats.json").read_text())
    killed(root)
    repair(root, examine(root))
    after = json.loads((root / "meta" / "stats.json").read_text())
    for name, key in (("action", "mean"), ("observation.state", "q90"), ("index", "max")):
        assert np.allclose(before[name][key], after[name][key])
    assert np.allclose(before[TOP]["mean"], after[TOP]["mean"], atol=0.02)


def test_what_was_replaced_stays_beside(tmp_path):
    root = v3(tmp_path / "set")
    kept = tmp_path / "as-it-was"
    killed(root)
    shutil.copytree(root, kept)
    repair(root, examine(root))
    path = "meta/episodes/chunk-000/file-000.parquet"
    assert (root / "damaged-1" / path).read_bytes() == (kept / path).read_bytes()
    data = "data/chunk-000/file-000.parquet"
    assert (root / "damaged-1" / f"{data}.damaged").read_bytes() == (kept / data).read_bytes()


def test_who_is_held_out_stays_so_and_the_killed_recorders_last_ones_join_them(tmp_path):
    root = v3(tmp_path / "set")
    info(root, splits={"train": "0:2", "test": "2:3"})
    statistics(root)
    repair(root, examine(root))
    assert read_info(root).splits == {"train": (0, 2), "test": (2, 4)}


def test_a_split_that_would_not_be_a_range_is_refused_in_words(tmp_path):
    root = v3(tmp_path / "set")
    info(root, splits={"val": "1:2", "train": "0:4"})
    footer(root)
    statistics(root)
    with pytest.raises(EpisodeError, match=r"split 'train'.*Data and meta were not written again"):
        repair(root, examine(root))
    assert read_info(root).splits == {"val": (1, 2), "train": (0, 4)}


def test_what_is_known_of_one_episode_survives_that_it_is_not_known_of_the_first(tmp_path):
    root = v3(tmp_path / "set")
    entries(root, lambda t: t.append_column("held_out", pa.array([False, True, True, True])))
    entries(root, lambda table: table.slice(1))
    repair(root, examine(root))
    known = read_episodes(read_info(root), print)
    assert [known[n].extra.get("held_out") for n in range(4)] == [None, True, True, True]


def test_a_video_cut_in_the_middle_is_found_though_its_index_promises_all(tmp_path):
    root = v2(tmp_path / "set", lengths=(60, 9))
    path = root / "videos" / "chunk-000" / TOP / "episode_000000.mp4"
    fast_start(path)
    cut(path, 0.6)
    (finding,) = examine(root)
    assert (finding.trouble, finding.subject) == (Trouble.VIDEO, "episode 0")
    assert "whole frames; the episode needs 0 to 60" in finding.explanation
    assert not finding.repairable


def fast_start(path):
    """Move a video's index to the front, as LeRobot's recorder does."""
    import av

    moved = path.with_name("moved.mp4")
    with av.open(path) as old, av.open(moved, "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    moved.replace(path)


def test_a_folder_that_is_no_dataset_is_a_finding(tmp_path):
    (finding,) = examine(tmp_path)
    assert finding.trouble is Trouble.INFO
    assert repair(tmp_path, [finding]) == ["left: a person has to act"]


def test_what_a_killed_recorder_left_lying_is_named(tmp_path):
    root = v3(tmp_path / "set")
    (root / "images" / TOP).mkdir(parents=True)
    (root / "images" / TOP / "frame-000000.png").write_bytes(b"png")
    (finding,) = examine(root)
    assert (finding.trouble, finding.subject) == (Trouble.LEFTOVER, "images")


def test_the_command_says_what_it_found_and_did(tmp_path, monkeypatch, capsys):
    root = v3(tmp_path / "set")
    killed(root)
    monkeypatch.setattr("sys.argv", ["lwd", "data", "doctor", str(root), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert found[0]["trouble"] == "rows without a footer"
    monkeypatch.setattr("sys.argv", ["lwd", "data", "doctor", str(root), "--repair"])
    main()
    assert "4 row groups are back" in capsys.readouterr().out
