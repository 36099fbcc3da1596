"""A small storm over real processes ends clean, and says so on one line."""

import json
import sys

import pytest

from lwd.chaos.audit import Evidence, audit
from lwd.chaos.run import Result, run
from lwd.cli import main
from lwd.config import ChaosConfig
from lwd.errors import ConfigError
from lwd.store.catalog import Catalog
from sample_rows import row


@pytest.mark.slow
def test_a_storm_loses_and_doubles_nothing(tmp_path, monkeypatch, capsys):
    words = "chaos --episodes 30 --kills 6 --faults 13 --seed 3 --seconds 8 --robots 2 --json"
    monkeypatch.setattr(sys, "argv", ["lwd", *words.split(), "--root", str(tmp_path)])
    main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found)[-6:] == [
        "acknowledged",
        "in_snapshots",
        "lost",
        "doubled",
        "kills",
        "faults",
    ]
    assert (found["lost"], found["doubled"], found["findings"]) == (0, 0, [])
    assert found["kills"] == 6
    assert found["acknowledged"] >= 30
    assert found["in_snapshots"] + found["corrupted"] >= found["acknowledged"]
    assert found["faults"] == sum(found["faults_by_kind"].values()) > 0
    assert found["crashes"] == {}
    assert found["policies"] > 1
    assert found["episodes_acted"] >= 30


@pytest.mark.parametrize("as_json", [True, False])
def test_a_storm_that_lost_something_says_which_seed_repeats_it(monkeypatch, capsys, as_json):
    evidence = Evidence(acknowledged=frozenset("a"), begun=frozenset("a"), sizes=[], members=[])
    result = Result(
        report=audit(evidence),
        policies=0,
        episodes_acted=0,
        kills=1,
        faults={},
        crashes={},
        seconds=1.0,
        seed=4711,
    )
    monkeypatch.setattr("lwd.chaos.run.run", lambda config: result)
    monkeypatch.setattr(sys, "argv", ["lwd", "chaos", *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert ('"seed": 4711' if as_json else "--seed 4711") in said
    assert ('"lost": 1' if as_json else "gone without a trace") in said


def test_somebodys_catalog_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/catalog.db"
    with Catalog(url) as catalog:
        catalog.insert_episode(row(1))
    with pytest.raises(ConfigError, match="has episodes of robot 'arm-1'"):
        run(ChaosConfig(root=tmp_path, catalog_url=url))
