"""Exporting: what LeRobot finds in the dataset, and what comes back when it is imported again."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg

from lerobot.datasets import numbers, pictures
from lwd.cli import main
from lwd.config.lerobot import ExportConfig
from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.episode.types import Episode
from lwd.errors import ConfigError
from lwd.lerobot import writer as writing
from lwd.lerobot.doctor import examine
from lwd.lerobot.exporter import export_dataset, members
from lwd.lerobot.stats import Pictures, Rows, histogram, of_rows
from lwd.lerobot.video import Video
from lwd.lerobot.writer import DatasetWriter, Spec, Written
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from sample_episodes import make_episode

CAMERA = "observation.images.head"


def recorded(number: int, *, every: int = 1, **changes) -> Episode:
    """An episode of 12 ticks with real pictures."""
    episode = make_episode(12, seed=number, **changes)
    shown = [simplejpeg.encode_jpeg(p, quality=95) for p in pictures(number, 13)]
    kept = tuple(data if tick % every == 0 else None for tick, data in enumerate(shown))
    return replace(episode, images={"head": kept})


class Fleet:
    """A catalog and a store to put episodes into."""

    def __init__(self, root):
        self.root = root
        self.catalog = Catalog(f"sqlite:///{root / 'catalog.db'}")
        self.objects = Objects((root / "objects").as_uri())
        self.token = self.catalog.acquire_lease(COORDINATOR, "test", 1e9)

    def put(self, *episodes: Episode) -> list[str]:
        for episode in episodes:
            payload = encode(episode)
            row = describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
            self.objects.put(episode_key(row.sha256), payload)
            self.catalog.insert_episode(row)
        ids = [episode.header.episode_id for episode in episodes]
        assert self.token is not None
        self.catalog.commit_snapshot(ids, token=self.token)
        return ids

    def export(self, target, **settings):
        config = ExportConfig(**settings)
        fetch = lambda row: self.objects.get(episode_key(row.sha256), sha256=row.sha256)  # noqa: E731
        return export_dataset(members(self.catalog, config), fetch, target, config)


@pytest.fixture
def fleet(tmp_path):
    (tmp_path / "run").mkdir()
    made = Fleet(tmp_path / "run")
    yield made
    made.catalog.close()


def table(root):
    return pq.read_table(root / "data" / "chunk-000" / "file-000.parquet")


def entries(root):
    return pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def test_every_number_and_label_is_in_the_dataset(tmp_path, fleet):
    one, two = recorded(1), recorded(2, outcome="failure", held_out=True, robot="arm-9")
    fleet.put(two, one)
    report = fleet.export(tmp_path / "out")
    assert (report.exported, report.frames, report.repeated) == (2, 24, 0)
    rows, (first, second) = table(tmp_path / "out"), entries(tmp_path / "out")
    state = np.stack(rows["observation.state"].to_numpy())
    assert np.array_equal(state, np.concatenate([one.state[:-1], two.state[:-1]]))
    assert np.array_equal(
        np.stack(rows["action"].to_numpy()), np.concatenate([one.action, two.action])
    )
    assert np.flatnonzero(rows["next.success"]).tolist() == [11]
    assert np.flatnonzero(rows["next.done"]).tolist() == [11, 23]
    assert np.flatnonzero(rows["intervention"]).tolist() == [0, 1, 2, 12, 13, 14]
    time = (np.arange(12) / 10).astype(np.float32)
    assert np.array_equal(rows["timestamp"].to_numpy(), np.concatenate([time, time]))
    assert (first["success"], second["success"]) == (True, False)
    assert (second["robot_id"], second["policy_version"], second["held_out"]) == ("arm-9", 7, True)
    assert second["episode_id"] == two.header.episode_id
    assert np.array_equal(np.float32(first["final_state"]), one.state[-1])
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert info["splits"] == {"train": "0:1", "test": "1:2"}
    assert examine(tmp_path / "out") == []


def test_labels_that_people_gave_are_exported(tmp_path, fleet):
    (number,) = fleet.put(recorded(1))
    for change, value in (("outcome", '"failure"'), ("human", "[[4, 6]]")):
        fleet.catalog.amend(number, change, value, author="ana", reason="seen")
    fleet.catalog.commit_snapshot([], token=fleet.token)
    fleet.export(tmp_path / "out")
    fleet.export(tmp_path / "before", snapshot=1)
    rows = table(tmp_path / "out")
    assert not np.any(rows["next.success"])
    assert np.flatnonzero(rows["intervention"]).tolist() == [4, 5]
    assert np.any(table(tmp_path / "before")["next.success"])


def test_videos_have_exact_times_and_a_key_frame_where_an_episode_begins(tmp_path, fleet):
    fleet.put(recorded(1), recorded(2))
    fleet.export(tmp_path / "out")
    film = tmp_path / "out" / "videos" / CAMERA / "chunk-000" / "file-000.mp4"
    with Video(film) as video:
        frames = list(video.read([n / 10 for n in range(24)], 1e-9))
        assert [frame.time for frame in frames] == [n / 10 for n in range(24)]
        assert frames[12].key_frame
        assert video.codec == "h264"
    second = entries(tmp_path / "out")[1]
    assert second[f"videos/{CAMERA}/from_timestamp"] == 1.2
    assert second[f"videos/{CAMERA}/to_timestamp"] == 2.4


def test_pictures_that_were_not_kept(tmp_path, fleet):
    fleet.put(recorded(1, every=5), recorded(2))
    held = fleet.export(tmp_path / "held")
    assert (held.exported, held.repeated) == (2, 9)
    whole = fleet.export(tmp_path / "whole", images="whole")
    assert (whole.exported, "were not kept" in whole.problems[0][1]) == (1, True)
    fleet.export(tmp_path / "none", images="none")
    assert not (tmp_path / "none" / "videos").exists()


def test_what_does_not_fit_is_named_and_the_rest_is_written(tmp_path, fleet):
    odd = recorded(3, rate_hz=7.5)
    wide = replace(recorded(4), state=numbers(0, 13, 9))
    lost = recorded(5)
    fleet.put(recorded(1), recorded(2), odd, wide, lost)
    row = fleet.catalog.episode(lost.header.episode_id)
    assert row is not None
    fleet.objects.delete(episode_key(row.sha256))
    report = fleet.export(tmp_path / "out")
    problems = dict(report.problems)
    assert report.exported == 5 - len(problems)
    assert lost.header.episode_id in problems
    # The first usable episode decides about the size of the state, whichever it is.
    assert len(problems) in (3, 4)
    assert "7.5 Hz" in problems[odd.header.episode_id]


@pytest.mark.parametrize(
    ("settings", "said"), [({"snapshot": 9}, "newest is 1"), ({"task": "x"}, "no episode with")]
)
def test_what_is_not_there_is_named(tmp_path, fleet, settings, said):
    fleet.put(recorded(1))
    with pytest.raises(ConfigError, match=said):
        fleet.export(tmp_path / "out", **settings)


def test_a_failure_leaves_nothing_and_an_existing_folder_stays(tmp_path, fleet):
    fleet.put(recorded(1))
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="there already"):
        fleet.export(tmp_path / "mine")

    def broken(row):
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError):
        export_dataset(
            members(fleet.catalog, ExportConfig()), broken, tmp_path / "out", ExportConfig()
        )
    assert not any(p for p in tmp_path.iterdir() if p.name.endswith((".part", "out")))


def test_files_are_rotated_by_length_and_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MOST_S", 2.0)
    monkeypatch.setattr("lwd.lerobot.tables.DATA_FILE_MB", 0.001)
    spec = Spec(fps=10, columns={"action": ("float32", 1)}, cameras={"v": (32, 48)}, robot_type="")
    made = DatasetWriter(tmp_path / "out", spec)
    for index in range(5):
        action = numbers(index, 9, 1)
        made.add(Written(task="t", columns={"action": action}, pictures={"v": pictures(index, 9)}))
    made.close()
    assert len(list((tmp_path / "out" / "videos").rglob("*.mp4"))) == 3
    assert len(list((tmp_path / "out" / "data").rglob("*.parquet"))) > 1
    assert examine(tmp_path / "out") == []


def test_the_statistics_of_the_whole_are_those_of_all_rows():
    rows = [numbers(seed, 50 + seed, 3) * (seed + 1) + seed for seed in range(8)]
    taken = Rows()
    for one in rows:
        taken.add(one)
    whole, direct = taken.result(), of_rows(np.concatenate(rows))
    assert all(np.allclose(whole[name], direct[name]) for name in direct)


def test_a_bounded_draw_estimates_the_quantiles():
    taken = Rows(most=2000)
    for seed in range(40):
        taken.add(numbers(seed, 500, 2))
    found = taken.result()
    assert np.allclose(found["q10"], -1.2816, atol=0.1)
    assert found["count"] == 20_000


def test_the_statistics_of_pictures_are_exact():
    shown = list(pictures(0, 20))
    taken = Pictures()
    for picture in shown:
        taken.add(histogram(picture))
    found, values = taken.result(), np.stack(shown).reshape(-1, 3) / 255
    assert found["mean"].shape == (3, 1, 1)
    for name, expected in (
        ("mean", values.mean(0)),
        ("std", values.std(0)),
        ("max", values.max(0)),
        ("q50", np.quantile(values, 0.5, axis=0, method="inverted_cdf")),
    ):
        assert np.allclose(found[name].ravel(), expected)


def test_there_and_back_by_command_line(tmp_path, fleet, monkeypatch, capsys):
    mine = [recorded(1), recorded(2, outcome="timeout", kind="demo")]
    fleet.put(*mine)
    here, there = str(tmp_path / "run"), str(tmp_path / "elsewhere")
    for words in (
        ("export", "lerobot", "OUT", "--root", here),
        ("import", "lerobot", "OUT", "--root", here),
        ("import", "lerobot", "OUT", "--root", there),
    ):
        named = [str(tmp_path / "out") if word == "OUT" else word for word in words]
        monkeypatch.setattr("sys.argv", ["lwd", *named])
        main()
    said, shown = capsys.readouterr()
    assert "0 of 2 episodes imported" in said
    assert "2 of 2 episodes imported" in said
    assert re.search(r"frames, 0 there already, 0 not usable .* 2/2 ", shown)
    assert re.search(r"exporting .* 2/2 ", shown)
    with Catalog(f"sqlite:///{tmp_path / 'elsewhere' / 'catalog.db'}") as catalog:
        rows = {row.outcome: row for row in catalog.newest_episodes(9)}
    for episode in mine:
        header, row = episode.header, rows[episode.header.outcome]
        same = ("robot", "task", "kind", "policy_version", "instruction", "rate_hz")
        assert all(str(getattr(header, name)) == str(getattr(row, name)) for name in same)
        assert row.interventions == int((episode.source == 1).sum())


def test_a_new_catalog_gets_what_an_old_one_had(tmp_path, fleet, monkeypatch, capsys):
    fleet.put(recorded(1))
    fleet.export(tmp_path / "out")
    root = tmp_path / "elsewhere"
    words = ["import", "lerobot", str(tmp_path / "out"), "--root", str(root), "--json"]
    monkeypatch.setattr("sys.argv", ["lwd", *words])
    main()
    (root / "catalog.db").unlink()
    for path in (root / "imports").rglob("journal.jsonl"):
        path.unlink()
    main()
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [report["imported"] for report in said] == [1, 1]


def test_what_was_only_spooled_is_uploaded_by_the_next_run(tmp_path, fleet, monkeypatch, capsys):
    (number,) = fleet.put(recorded(1))
    fleet.export(tmp_path / "out")
    root = tmp_path / "elsewhere"
    words = ["lwd", "import", "lerobot", str(tmp_path / "out"), "--root", str(root)]
    monkeypatch.setattr("sys.argv", [*words, "--no-upload"])
    main()
    assert "`lwd edge` uploads them" in capsys.readouterr().out
    assert not (root / "catalog.db").exists()
    monkeypatch.setattr("sys.argv", words)
    main()
    with Catalog(f"sqlite:///{root / 'catalog.db'}") as catalog:
        (row,) = catalog.newest_episodes(9)
    assert row.episode_id != number
    assert list((root / "spool").rglob("pending/*.arrow")) == []
