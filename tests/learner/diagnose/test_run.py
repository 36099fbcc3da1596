"""Diagnosis of a run that was really trained, and of a training that is looked at."""

from pathlib import Path

import numpy as np
import pytest

from learner.diagnose.known import episodes
from learner.fleet import learn, tiny
from learner.outcome import assert_same, reports, saved
from lwd.errors import ConfigError
from lwd.learner import train
from lwd.learner.diagnose.report import as_json, diagnose
from lwd.learner.diagnose.trained import load


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_training_that_is_looked_at_is_the_same_as_one_that_is_not(finished, root, monkeypatch):
    looked = [report["stage"] for report in reports(finished) if "probe/gain" in report]
    assert looked == ["offline", "online"], "once in each stage with a critic, at its end"
    monkeypatch.setattr(train, "compiled_probe", lambda *settings: lambda *seen: {})
    assert learn(root, tiny())
    assert_same(saved(root)[1], saved(finished)[1])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_can_be_examined_with_the_settings_that_it_had(finished):
    at, state = saved(finished)
    trained = load(finished / "checkpoints")
    assert trained.at == at
    assert trained.config == tiny(), "the settings of the run, not the recipe's"
    assert_same(trained.networks, state.networks)
    _check_that_a_diagnosis_is_whole(trained)
    with pytest.raises(ConfigError, match="checkpoint 99 is not there"):
        load(finished / "checkpoints", step=99)


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
        load(tmp_path / "absent")
    with pytest.raises(ConfigError, match="no checkpoint"):
        load(tmp_path, otherwise=tiny())


def test_json_has_no_numbers_that_json_has_not():
    assert as_json({"a": (float("nan"), 1.5), "b": [np.inf]}) == {"a": [None, 1.5], "b": [None]}
