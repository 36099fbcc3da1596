"""A checkpoint says where a run stood, and why it cannot be used."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from learner.fleet import tiny
from learner.outcome import assert_same
from lwd.config import DivlConfig, LearnerConfig
from lwd.errors import ConfigError, IntegrityError
from lwd.learner import feed
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.recipes import fresh, recipe
from lwd.learner.state import TrainState
from lwd.models.normaliser import Normaliser

NORMALISER = Normaliser(
    state_mean=np.zeros(3, np.float32),
    state_scale=np.ones(3, np.float32),
    action_mean=np.zeros((2, 1), np.float32),
    action_scale=np.ones((2, 1), np.float32),
)


def blank(config: LearnerConfig) -> TrainState:
    shapes = jax.eval_shape(lambda: fresh(config, jax.random.key(0)))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return feed.replicate(zeros, feed.mesh())


@pytest.fixture(scope="module")
def state() -> TrainState:
    return jax.tree.map(lambda x: x + 1, blank(tiny()))


@pytest.fixture(scope="module")
def written(tmp_path_factory, state) -> Path:
    """Two checkpoints of one run."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for update in (1, 2):
        checkpoints.save(Position("sft", update), state, NORMALISER, snapshot=4, policy=update)
    checkpoints.close()
    return folder


@pytest.fixture
def opened(written, tmp_path) -> Iterator[Checkpoints]:
    """A copy that a test may damage, under `tmp_path / "copy"`."""
    shutil.copytree(written, tmp_path / "copy")
    checkpoints = Checkpoints(tmp_path / "copy")
    yield checkpoints
    checkpoints.close()


def test_a_checkpoint_holds_networks_position_snapshot_and_policy(opened, state):
    saved = opened.restore(blank(tiny()))
    assert saved.position == Position("sft", 2)
    assert (saved.snapshot, saved.policy) == (4, 2)
    assert_same(saved.state, state)
    assert saved.normaliser.sha256 == NORMALISER.sha256


def test_there_is_nothing_to_restore_at_first(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.restore(blank(tiny())) is None
    checkpoints.close()


def test_other_atoms_are_named_with_what_to_do(opened):
    divl = DivlConfig(atoms=31)
    stages = {name: replace(stage, divl=divl) for name, stage in tiny().stages.items()}
    expected = r"copy/2 has .*value\S* of shape \(51,\); these settings need \(31,\)\. Give the rec"
    with pytest.raises(ConfigError, match=expected):
        opened.restore(blank(replace(tiny(), stages=stages)))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # orbax's other reads
@pytest.mark.parametrize("damage", ["state/_METADATA", "position/metadata", "state/manifest.ocdbt"])
def test_a_damaged_checkpoint_is_named_with_the_one_before_it(opened, tmp_path, damage):
    (tmp_path / "copy" / "2" / damage).write_bytes(b"not what was written")
    with pytest.raises(IntegrityError, match=r"copy/2 is damaged: .* there are \[1\]"):
        opened.restore(blank(tiny()))
    shutil.rmtree(tmp_path / "copy" / "2")
    again = Checkpoints(tmp_path / "copy")
    assert again.restore(blank(tiny())).position == Position("sft", 1)
    again.close()


def test_a_stage_of_another_recipe_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"stage 'value_1' is unknown.*offline, online, sft"):
        recipe("lwd").stage("value_1")
