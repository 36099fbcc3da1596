"""Data that a stage cannot learn from is refused before the first update, by name."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from learner.fleet import commit, tiny
from lwd.config import COMPACT, DivlConfig, LearnerConfig, PlaneConfig
from lwd.errors import ConfigError
from lwd.learner import feed
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.recipes import shapes
from lwd.learner.settings import as_json
from lwd.learner.train import Learner, fit_normaliser, train
from lwd.models.sharding import mesh
from lwd.replay.bindings import Bindings
from lwd.replay.reader import Options, Reader
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects

DISCOUNT = COMPACT.discount()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Three successful demonstrations of 12 ticks."""
    commit(tmp_path, *3 * ["demo"])
    plane = PlaneConfig(root=tmp_path)
    with Catalog(plane.catalog) as catalog:
        reader = Reader(
            catalog, Objects(plane.objects), tmp_path / "cache",
            horizon=10, discount=DISCOUNT, options=Options(prefetcher=False),
        )  # fmt: skip
        reader.sync()
        yield reader
        reader.close()


@pytest.fixture
def learner(reader: Reader, tmp_path: Path) -> Iterator[Callable[[LearnerConfig], Learner]]:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    bindings = Bindings(reader, tmp_path / "bindings.jsonl", keep=True)
    yield lambda config: Learner(
        config, bindings, reader, checkpoints, lambda *_: None, lambda: False, mesh()
    )
    checkpoints.close()


def with_divl(**changes) -> LearnerConfig:
    config = tiny()
    stages = {
        name: replace(stage, divl=replace(stage.divl, **changes))
        for name, stage in config.stages.items()
    }
    return replace(config, stages=stages)


def test_the_returns_of_a_snapshot_are_discounted_to_every_start(reader):
    lowest, highest = reader.returns({"demo": 1.0})
    assert lowest == pytest.approx(DISCOUNT**11)
    assert highest == 1.0
    assert reader.returns({"online": 1.0}) == (0.0, 0.0)


def test_a_support_below_the_returns_is_refused_before_the_stage_starts(learner):
    with pytest.raises(ConfigError, match=r"support is \(-0.1, 0.9\), but the returns .* to 1: "):
        learner(with_divl(v_max=0.9)).check_data("sft")
    with pytest.raises(ConfigError, match="target_clip is"):
        learner(with_divl(target_clip=(0.0, 0.5))).check_data("sft")
    learner(tiny()).check_data("sft")


def test_episodes_of_another_control_rate_are_refused_with_the_flag_to_give(
    learner, reader, tmp_path
):
    assert reader.rates() == {10.0: 3}
    often = replace(tiny(), control=replace(COMPACT, rate_hz=30.0))
    said = r"episodes at 10.0 Hz \(3\), but control.rate_hz is 30.0. .* Give --control.rate-hz 10.0"
    with pytest.raises(ConfigError, match=said):
        learner(often).check_data("sft")
    commit(tmp_path, "online", seed=7, rate_hz=30.0)
    reader.sync()
    said = r"10.0 Hz \(3\) and 30.0 Hz \(1\), .* Give each rate a --root of its own"
    for config in (tiny(), often):
        with pytest.raises(ConfigError, match=said):
            learner(config).check_data("sft")


def stopped(learner: Callable[[LearnerConfig], Learner], at: Position) -> Learner:
    """A learner with a checkpoint of zeros."""
    first, config = learner(tiny()), tiny()
    zeros = jax.tree.map(
        lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding),
        feed.placed(shapes(config, at.stage), mesh()),
    )
    first.checkpoints.save(
        at, zeros, fit_normaliser(config, first.reader),
        snapshot=first.reader.version, policy=7, settings=as_json(config),
    )  # fmt: skip
    first.checkpoints._manager.wait_until_finished()
    return first


def test_a_resumed_learner_knows_which_policy_it_published(learner):
    stopped(learner, Position("sft", 1))
    resumed = learner(tiny())
    assert resumed.resume()[0] == Position("sft", 1)
    assert resumed.policy == 7


@pytest.mark.parametrize("at", [Position("offline", 1), Position("online", 0)])
def test_values_that_have_been_learnt_are_not_read_on_another_support(learner, at):
    stopped(learner, at)
    assert learner(with_divl(target_clip=(0.0, 1.0))).resume()[0] == at
    for moved in ({"v_max": 1.3}, {"v_min": 0.0}):
        expected = r"learnt V on the support \(-0.1, 1.1\), but divl.v_min and divl.v_max are"
        with pytest.raises(ConfigError, match=expected):
            learner(with_divl(**moved)).resume()


@pytest.mark.parametrize("at", [Position("sft", 2), Position("offline", 0)])
def test_before_values_are_learnt_the_support_may_still_change(learner, at):
    stopped(learner, at)
    assert learner(with_divl(v_max=1.3)).resume()[0] == at


def test_a_support_below_the_returns_is_refused_after_a_restart_too(learner):
    first, reports = stopped(learner, Position("sft", 1)), []
    with pytest.raises(ConfigError, match=r"support is \(-0.1, 0.5\), but the returns"):
        train(
            with_divl(v_max=0.5), first.reader, first.checkpoints, first.bindings,
            publish=lambda state, normaliser, at: 0, report=lambda *found: reports.append(found),
        )  # fmt: skip
    assert reports == [], "refused before any other update"


def test_a_part_of_the_mixture_that_does_not_exist_is_refused_with_near_misses(learner):
    with pytest.raises(ConfigError, match=r"part 'demos' is unknown\. Did you mean 'demo'"):
        learner(tiny().with_stage("sft", mixture={"demos": 1.0}))


def test_a_window_for_a_task_without_episodes_is_worth_a_warning(learner, caplog):
    task = learner(tiny()).reader.statistics()["demo"].tasks.popitem()[0]
    for n_step, warnings in (({task: 2}, 0), ({task: 2, "freezr": 10}, 1)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "lwd.learner.train"):
            learner(with_divl(n_step=n_step)).check_data("sft")
        assert caplog.text.count("tasks=freezr") == warnings


def test_windows_can_be_set_for_each_task(reader):
    """A window of two chunks sees the end of 12 ticks from tick 0; a window of one does not."""
    tasks = reader.statistics()["demo"].tasks
    seen = {}
    for n in (1, 2):
        divl = DivlConfig(n_step=dict.fromkeys(tasks, n))
        batch = reader.sample(0, {"demo": 1.0}, 64, n_step=divl.n_step)
        seen[n] = batch.returns[batch.tick == 0]
    assert set(seen[1]) == {0.0}
    assert seen[2] == pytest.approx(DISCOUNT**11)
