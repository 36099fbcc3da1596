"""`lwd normstats` and `lwd plan`."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lwd.cli import prepare
from lwd.config import COMPACT, PlaneConfig
from lwd.config.machine import Machine
from lwd.episode.payload import encode
from lwd.errors import ConfigError
from lwd.models import presets
from lwd.models.inputs.format import ABSOLUTE, InputFormat
from lwd.models.inputs.norm_stats import NormStats, read_norm_stats, write_norm_stats
from sample_episodes import make_episode

FORMAT = InputFormat(
    cameras=(), image=8, tokens=8, vocabulary=10, state=(0, 1, 2, 3),
    anchors=(0, 1, 2, ABSOLUTE), action=4,
)  # fmt: skip


@pytest.fixture
def inputs(tmp_path):
    file = tmp_path / "inputs.json"
    file.write_text(FORMAT.to_json())
    return file


@pytest.fixture
def payloads(tmp_path):
    folder = tmp_path / "payloads"
    (folder / "more").mkdir(parents=True)
    for number, kind in enumerate(("demo", "demo", "online")):
        data = encode(make_episode(20, seed=number, kind=kind))
        (folder / ("more" if number else ".") / str(number)).write_bytes(data)
    (folder / "notes.txt").write_text("no payload")
    return folder


def test_statistics_of_a_folder_are_openpis_and_say_what_of(payloads, inputs, tmp_path, capsys):
    out = tmp_path / "norm_stats.json"
    prepare.compute(out, folder=payloads, inputs=inputs, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["episodes"], said["ticks"]) == (2, 40)
    stats = read_norm_stats(out)
    assert {name: len(each.mean) for name, each in stats.items()} == {"state": 4, "actions": 4}
    beside = json.loads(out.read_text())["lwd"]
    assert beside["episodes"] == 2
    assert InputFormat.from_json(json.dumps(beside["inputs"])) == FORMAT
    with pytest.raises(
        ConfigError, match=r"4 numbers of the state, 0, 1, 2, 3; here .* 16, 0, 1, 2"
    ):
        prepare.check(out, preset="pi05")
    prepare.compute(out, folder=payloads, inputs=inputs, absolute=True)
    assert "2 episodes, 40 ticks" in capsys.readouterr().out
    assert np.abs(read_norm_stats(out)["actions"].std - stats["actions"].std)[:3].min() > 0.1


def test_a_check_refuses_statistics_of_more_than_is_read(tmp_path):
    stats = NormStats(*(np.arange(14.0) + shift for shift in (0, 1, -1, 2)))
    file, inputs = tmp_path / "norm_stats.json", tmp_path / "inputs.json"
    write_norm_stats(file, {"state": stats, "actions": stats})
    inputs.write_text(replace(FORMAT, state=tuple(range(7, 14))).to_json())
    with pytest.raises(ConfigError, match=r"state have 14 dimensions .* the 7 numbers 7, 8, 9"):
        prepare.check(file, inputs=inputs)


def test_relative_statistics_are_of_chunks_of_one_length(payloads, inputs, tmp_path):
    out, longer = tmp_path / "norm_stats.json", replace(COMPACT, horizon=30)
    robot = replace(FORMAT, vocabulary=1024)
    prepare.compute(out, folder=payloads, inputs=inputs)
    presets.prepare_as("pi05", COMPACT, out, robot=robot)
    said = "relative actions over chunks of 10 ticks; here they have 30. .* --horizon 30"
    with pytest.raises(ConfigError, match=said):
        presets.prepare_as("pi05", longer, out, robot=robot)
    with pytest.raises(ConfigError, match=said):
        prepare.check(out, inputs=inputs, horizon=30)
    prepare.check(out, inputs=inputs)
    short = read_norm_stats(out)["actions"]
    prepare.compute(out, folder=payloads, inputs=inputs, horizon=30)
    presets.prepare_as("pi05", longer, out, robot=robot)
    assert (read_norm_stats(out)["actions"].std != short.std)[:3].all()
    prepare.compute(out, folder=payloads, inputs=inputs, absolute=True)
    read_norm_stats(out, horizon=30)
    with pytest.raises(ConfigError, match="horizon is 0"):
        prepare.compute(out, folder=payloads, inputs=inputs, horizon=0)


def test_nothing_to_measure_is_said(payloads, inputs, tmp_path):
    with pytest.raises(ConfigError, match="has no episode of kind play"):
        prepare.compute(tmp_path / "out", folder=payloads, inputs=inputs, kind=("play",))
    plane = PlaneConfig(root=tmp_path)
    with pytest.raises(ConfigError, match="Snapshot 7 is not there"):
        prepare.compute(tmp_path / "out", plane, snapshot=7, inputs=inputs)
    with pytest.raises(ConfigError, match="is not there; give the JSON file of an input format"):
        prepare.check(tmp_path / "norm_stats.json", inputs=tmp_path / "no.json")


def test_a_check_warns_of_absolute_actions(inputs, tmp_path, capsys, rng):
    from lwd.models.inputs import norm_stats

    joints = np.array([1.0, -2.0, 1.5, 0.5]) + rng.uniform(-0.3, 0.3, (500, 4))
    stats = {"state": norm_stats.of(joints), "actions": norm_stats.of(joints)}
    write_norm_stats(tmp_path / "norm_stats.json", stats)
    prepare.check(tmp_path / "norm_stats.json", inputs=inputs)
    assert "frame: actions: the statistics look like those of absolute" in capsys.readouterr().out
    prepare.compare(tmp_path / "norm_stats.json", tmp_path / "norm_stats.json")
    assert capsys.readouterr().out == "nothing odd\n"


def test_a_plan_says_whether_it_fits(capsys):
    machine = Machine(devices=2, memory_gib=1.0)
    prepare.plan(machine, "tiny", rate="compact", batch=16, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["samples"], said["fits"]) == (8, True)
    assert said["total"] == sum(said["bytes"].values())
    with pytest.raises(SystemExit) as ended:
        prepare.plan(Machine(memory_gib=0.001), "tiny", rate="compact", batch=16)
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "optimiser of the policy" in printed
    assert "it does not fit: 0.0 of 0.001 GiB may be used, not even one sample" in printed
