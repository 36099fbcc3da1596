"""The `lwd` command as a user types it: its errors are one line, never a traceback."""

import json
import subprocess
import sys

import pytest

from lwd.cli import main


def lwd(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lwd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (("demo", "--tasks", "restokcing"), ("'restokcing'", "Did you mean 'restocking'")),
        (("robot", "--tasks", "freeser"), ("'freeser'", "Did you mean 'freezer'")),
        (("sim", "expert", "--task", "restock"), ("'restock'", "Did you mean 'restocking'")),
        (("learner", "--preset", "stat"), ("'stat'", "Did you mean 'state'")),
        (("sim", "expert", "--episods", "1"), ("--episods", "--episodes")),
        (("demoo",), ("demoo", "demo")),
        (("robot", "--rate", "fast"), ("fast", "compact", "full")),
        (("demo", "--robots", "0"), ("robots is 0", "at least 1")),
        (("robot", "--robot", "../other"), ("robot is '../other'", "letters")),
        (("robot", "--cameras", "head", "--image-size", "100"), ("is 100", "64, 96, 224")),
        (("robot", "--cameras", "head", "head"), ("cameras are head, head", "once")),
        (("sim", "sheet", "no/such/x.png"), ("no folder no/such",)),
        (("sim", "sheet", "x.png", "--seed", "-1"), ("seed is -1", "not be negative")),
        (("sim", "sheet", "x.png", "--episode", "none.arrow"), ("no episode none.arrow",)),
        (("suite", "metaworld", "--kind", "online"), ("no server", "demo or play")),
        (("suite", "metaworld", "--cameras", "head"), ("--cameras", "--cameras-px")),
        (("sim", "collect", "--robot", "a/b"), ("robot is 'a/b'", "letters")),
        (("fleet", "paper", "--episodes", "-1"), ("episodes is -1",)),
    ],
)
def test_a_mistake_is_answered_with_what_would_have_worked(
    arguments, hints, tmp_path, monkeypatch, capsys
):
    if arguments[0] in ("demo", "learner"):
        arguments = (*arguments, "--out" if arguments[0] == "demo" else "--root", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["lwd", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    said = f"{shown.out}{shown.err}{ended.value.code}"
    assert ended.value.code not in (0, None)
    for hint in hints:
        assert hint in said, said


def test_the_expert_is_measured_as_json():
    done = lwd("sim", "expert", "--json", "--episodes", "2", "--workers", "1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["task"] == "restocking"
    assert found["rate"] == "compact"
    assert found["episodes"] == 2
    assert found["successes"] + len(found["failed_seeds"]) == 2
    assert (found["invalid"], found["held_out"]) == (0, False)


def test_help_names_every_command():
    done = lwd("--help")
    assert done.returncode == 0
    for command in ("demo", "robot", "edge", "queue", "service", "coordinator", "learner", "sim"):
        assert command in done.stdout
