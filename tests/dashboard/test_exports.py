"""Episodes and metrics for other people's viewers, read back with their own readers."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dashboard.pictures import jpeg
from lwd.dashboard import event_files, rerun_file
from lwd.errors import ConfigError
from sample_episodes import make_episode


def report(stage: str, update: int, **metrics: float) -> str:
    return json.dumps({"time": 100.0 + update, "stage": stage, "update": update, **metrics})


def test_tensorboard_reads_every_metric_at_its_update(tmp_path: Path):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    source = tmp_path / "learner.jsonl"
    lines = [report("sft", 10, loss=2.0), report("sft", 20, loss=1.5), report("rl", 10, q=0.5)]
    source.write_text("\n".join(lines) + "\n")
    assert event_files.export(source, tmp_path / "tb") == 3
    (path,) = (tmp_path / "tb").glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        body = data[12 : 12 + length]
        assert int.from_bytes(data[12 + length : 16 + length], "little") == masked_crc32c(body)
        event = Event.FromString(body)
        found += [(v.tag, event.step, v.simple_value, event.wall_time) for v in event.summary.value]
        data = data[16 + length :]
    assert found == [("loss", 10, 2.0, 110.0), ("loss", 20, 1.5, 120.0), ("q", 30, 0.5, 110.0)]
    with pytest.raises(ConfigError, match="another folder"):
        event_files.export(source, tmp_path / "tb")


def test_a_run_without_a_learner_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="whose learner has begun"):
        event_files.export(tmp_path / "learner.jsonl", tmp_path / "tb")


def test_rerun_reads_the_recording_of_an_episode(tmp_path: Path):
    pytest.importorskip("rerun", reason="the extra `rerun` is not installed")
    images = {"head": tuple(jpeg(t) if t % 10 == 0 else None for t in range(31))}
    episode = replace(make_episode(30), images=images)
    path = rerun_file.export(episode, tmp_path / "x.rrd", {"mean": [0.5] * 31})
    assert [p.name for p in tmp_path.iterdir()] == ["x.rrd"]
    tool = [sys.executable, "-m", "rerun", "rrd"]
    subprocess.run([*tool, "verify", str(path)], check=True, capture_output=True, timeout=60)
    shown = subprocess.run(
        [*tool, "print", "-v", str(path)], capture_output=True, timeout=60, text=True
    )
    for entity in ("/camera/head", "/action/executed", "/value/mean", "/source", "/header"):
        assert entity in shown.stdout
    assert episode.header.episode_id in shown.stdout


def test_weights_and_biases_gets_an_offline_run(tmp_path: Path):
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    code = "import sys; from pathlib import Path; from lwd.dashboard.wandb_run import export\n"
    code += "print(export(Path(sys.argv[1]), Path(sys.argv[2])))"
    source = tmp_path / "learner.jsonl"
    source.write_text(report("sft", 10, loss=2.0) + "\n" + report("rl", 10, q=0.5) + "\n")
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "out")]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (path,) = Path(made.stdout.split()[-1]).glob("run-*.wandb")
    data = path.read_bytes()
    for word in (b"loss", b"stage", b'"sft"', b'"rl"'):
        assert word in data
