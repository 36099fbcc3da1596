"""Diagnosis of a run that was really trained, and of a training that is looked at."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from learner.diagnose.known import episodes
from learner.fleet import learn, tiny
from learner.outcome import assert_same, reports, saved
from lwd.errors import ConfigError
from lwd.learner.diagnose.report import as_json, diagnose
from lwd.learner.diagnose.trained import load
from lwd.learner.train import Learner


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_training_that_is_looked_at_is_the_same_and_can_be_examined(root, tmp_path, monkeypatch):
    unseen = tmp_path / "unseen"
    shutil.copytree(root, unseen)
    assert learn(root, tiny())
    looked = [report["stage"] for report in reports(root) if "probe/gain" in report]
    assert looked == ["offline", "online"], "once in each stage with a critic, at its end"
    monkeypatch.setattr(Learner, "_seen", lambda self, watch, *rest: watch.means())
    assert learn(unseen, tiny())
    at, state = saved(root)
    assert_same(saved(unseen)[1], state)

    trained = load(tiny(), root / "checkpoints")
    assert trained.at == at
    for name, network in trained.networks._asdict().items():
        assert_same(network, getattr(state, name))
    _check_that_a_diagnosis_is_whole(trained)
    with pytest.raises(ConfigError, match="checkpoint 99 is not there"):
        load(tiny(), root / "checkpoints", step=99)


def _check_that_a_diagnosis_is_whole(trained):
    found = diagnose(trained, episodes(8), samples=2)
    assert (found.stage, found.update, found.episodes, found.successes) == ("online", 2, 8, 4)
    assert found.slope.along == pytest.approx(1.0, abs=0.05)
    assert len(found.rankings) == 9 * 3 * 2, "alternatives, tasks and all, outcomes"
    assert {one.predictor for one in found.reliability} == {"V mean", "V at tau", "Q", "least Q"}
    flat = as_json(found)
    assert flat["slope"]["along"] == found.slope.along
    again = diagnose(trained, episodes(8), samples=2)
    assert as_json(again) == flat, "the same seed measures the same"


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="no folder"):
        load(tiny(), tmp_path / "absent")
    with pytest.raises(ConfigError, match="no checkpoint"):
        load(tiny(), tmp_path)


def test_json_has_no_numbers_that_json_has_not():
    assert as_json({"a": (float("nan"), 1.5), "b": [np.inf]}) == {"a": [None, 1.5], "b": [None]}
