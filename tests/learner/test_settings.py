"""Settings survive JSON, whatever recipe they are of."""

import json
import math
from dataclasses import replace

import pytest

from lwd.config import FULL, LearnerConfig
from lwd.errors import ConfigError
from lwd.learner.recipes import names, recipe
from lwd.learner.settings import as_json, changes, from_json


def through_json(config: LearnerConfig) -> LearnerConfig:
    return from_json(json.loads(json.dumps(as_json(config), allow_nan=False)))


@pytest.mark.parametrize("name", names())
def test_a_recipe_comes_back_with_what_only_its_stages_have(name):
    config = recipe(name, FULL, seed=3)
    found = through_json(config)
    assert found == config
    assert [type(stage) for stage in found.stages.values()] == [
        type(stage) for stage in config.stages.values()
    ]


def test_every_kind_of_setting_comes_back():
    config = recipe("lwd")
    stages = {
        name: replace(
            stage,
            updates_per_episode=math.inf,
            divl=replace(stage.divl, n_step={"freezer": 10}, target_clip=(0.0, 1.0)),
            qam=replace(stage.qam, gate=0.5, inv_temp=7.0, weighting="sigma"),
            optimiser=replace(stage.optimiser, value_ema_rate=0.01),
        )
        for name, stage in config.stages.items()
    }
    config = replace(config, stages=stages, preset="narrow")
    assert through_json(config) == config


def test_a_setting_that_the_writer_did_not_have_is_the_recipes():
    found = as_json(recipe("fql"))
    del found["stages"]["online"]["alpha"], found["max_skipped"]
    assert from_json(found) == recipe("fql")


def test_a_setting_or_stage_of_another_version_is_named():
    found = as_json(recipe("lwd"))
    found["stages"]["online"]["qam"]["inv_tempo"] = 1.0
    with pytest.raises(ConfigError, match=r"setting 'inv_tempo' is unknown\. Did you mean 'inv_t"):
        from_json(found)
    stages = as_json(recipe("recap"))["stages"]
    with pytest.raises(ConfigError, match="another version: its stage 'value_1' is unknown"):
        from_json(as_json(recipe("lwd")) | {"stages": stages})


def test_changes_name_what_differs_and_nothing_else():
    config = recipe("lwd")
    assert changes(as_json(config), as_json(config)) == []
    qam = replace(config.stage("online").qam, inv_temp=2.0, steps=8)
    other = replace(config.with_stage("online", qam=qam, mixture={"online": 1.0}), seed=1)
    assert changes(as_json(config), as_json(other)) == [
        "seed=0->1",
        "stages.online.mixture.offline=1.0->absent",
        "stages.online.qam.inv_temp=60.0->2.0",
        "stages.online.qam.steps=4->8",
    ]
