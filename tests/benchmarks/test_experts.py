import json

import pytest

from benchmarks import experts
from lwd.actor.robot import Status
from lwd.config import CONTROL
from lwd.sim.measure import Attempt, ExpertSuccess


@pytest.mark.parametrize("cut", [1, 30], ids=["before the line end", "in the middle"])
def test_cells_go_on_after_a_kill_that_cut_the_last_line(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(experts, "KEPT", tmp_path / "experts.jsonl")
    monkeypatch.setattr(experts, "PAGE", tmp_path / "experts.md")
    monkeypatch.setattr(experts, "TASKS", ["shoes", "tea"])
    measured = []

    def succeed(task, episodes, seed, control, *, held_out):
        measured.append((task, control.rate_hz, held_out))
        done = Attempt(seed=seed, status=Status.SUCCESS, robot_s=20.0, cpu_s=2.0)
        return ExpertSuccess(task=task, attempts=(done,))

    monkeypatch.setattr(experts, "expert_success", succeed)
    everything = 2 * len(CONTROL) * len(experts.SPLITS)
    experts.main([])
    assert len(measured) == everything
    whole = experts.KEPT.read_bytes()
    experts.KEPT.write_bytes(whole[:-cut])
    experts.main(["--summary"])
    assert len(measured) == everything
    experts.main([])
    assert measured[everything:] == [measured[everything - 1]]
    assert [json.loads(line) for line in experts.KEPT.read_bytes().splitlines()] == [
        json.loads(line) for line in whole.splitlines()
    ]
