"""The learner's reports, as they are written and as they are drawn."""

import json
from pathlib import Path

from lwd.dashboard.curves import Reports, curves


def report(stage: str, update: int, **metrics) -> dict:
    return {"time": float(update), "stage": stage, "update": update, **metrics}


def test_updates_count_on_over_stages_and_gaps_are_null():
    found = curves(
        [report("sft", 10, loss=2.0), report("sft", 20, loss=1.0), report("rl", 10, q=0.5)]
    )
    assert found["update"] == [10, 20, 30]
    assert found["metrics"] == {"loss": [2.0, 1.0, None], "q": [None, None, 0.5]}
    assert found["stages"] == [
        {"stage": "sft", "from": 0, "to": 20},
        {"stage": "rl", "from": 20, "to": 30},
    ]


def test_many_reports_are_averaged_into_few_points():
    found = curves([report("sft", i, loss=float(i)) for i in range(1, 101)], points=10)
    assert len(found["update"]) == 10
    assert found["metrics"]["loss"][0] == 5.5
    assert found["update"][-1] == 100


def test_only_whole_lines_are_read_and_a_new_file_starts_anew(tmp_path: Path):
    path = tmp_path / "learner.jsonl"
    reports = Reports(path)
    assert reports.look() == 0
    line = json.dumps(report("sft", 10, loss=1.0))
    path.write_text(f"{line}\n{line[:20]}")
    assert reports.look() == 1
    path.write_text(f"{line}\n{line}\nnot json\n")
    assert reports.look() == 2
    path.write_text(f"{line}\n")
    assert reports.look() == 1
