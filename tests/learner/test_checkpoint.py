"""A checkpoint says where a run stood, and why it cannot be used."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from learner.fleet import tiny
from learner.outcome import assert_same
from lwd.config import DivlConfig, LearnerConfig, OptimiserConfig
from lwd.errors import ConfigError, IntegrityError
from lwd.learner import feed
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.diagnose.trained import load
from lwd.learner.recipes import recipe, shapes
from lwd.learner.state import TrainState
from lwd.models.normaliser import Normaliser
from lwd.models.sharding import mesh

NORMALISER = Normaliser(
    state_mean=np.zeros(3, np.float32),
    state_scale=np.ones(3, np.float32),
    action_mean=np.zeros((2, 1), np.float32),
    action_scale=np.ones((2, 1), np.float32),
)


def like(config: LearnerConfig) -> TrainState:
    return feed.placed(shapes(config), mesh())


@pytest.fixture(scope="module")
def state() -> TrainState:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jax.device_put(rng.normal(size=x.shape).astype(x.dtype), x.sharding), like(tiny())
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory, state) -> Path:
    """Two checkpoints of one run."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for update in (1, 2):
        checkpoints.save(
            Position("sft", update), state, NORMALISER,
            snapshot=4, policy=update, settings={"seed": update},
        )  # fmt: skip
    checkpoints.close()
    return folder


@pytest.fixture
def opened(written, tmp_path) -> Iterator[Checkpoints]:
    """A copy that a test may damage, under `tmp_path / "copy"`."""
    shutil.copytree(written, tmp_path / "copy")
    checkpoints = Checkpoints(tmp_path / "copy")
    yield checkpoints
    checkpoints.close()


def test_what_muon_remembers_is_kept_too(tmp_path):
    config = tiny().with_stage("sft", optimiser=OptimiserConfig(policy="muon"))
    state = jax.tree.map(
        lambda x: jax.device_put(np.ones(x.shape, x.dtype), x.sharding), like(config)
    )
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(Position("sft", 1), state, NORMALISER, snapshot=1, policy=1, settings={})
    assert_same(checkpoints.restore(like(config)).state, state)
    assert len(jax.tree.leaves(state.optimiser)) != len(jax.tree.leaves(like(tiny()).optimiser))
    checkpoints.close()


def test_a_checkpoint_holds_networks_position_snapshot_and_policy(opened, state):
    saved = opened.restore(like(tiny()))
    assert saved.position == Position("sft", 2)
    assert (saved.snapshot, saved.policy, saved.settings) == (4, 2, {"seed": 2})
    assert_same(saved.state, state)
    assert Normaliser.from_tensors(saved.statistics).sha256 == NORMALISER.sha256


def test_a_checkpoint_holds_what_was_known_of_losses_or_nothing(opened, state):
    assert opened.restore(like(tiny())).priorities == {}
    known = {
        "update": np.array([-1, 7]),
        "episode": np.arange(32, dtype=np.uint8).reshape(2, 16),
        "loss": np.array([0.5, 0.25], np.float32),
    }
    opened.save(
        Position("online", 8), state, NORMALISER,
        snapshot=4, policy=2, settings={}, priorities=known,
    )  # fmt: skip
    opened._manager.wait_until_finished()
    found = opened.restore(like(tiny())).priorities
    assert found.keys() == known.keys()
    for name, array in known.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_there_is_nothing_to_restore_at_first(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.restore(like(tiny())) is None
    checkpoints.close()


def test_other_atoms_are_named_with_what_to_do(opened):
    divl = DivlConfig(atoms=31)
    stages = {name: replace(stage, divl=divl) for name, stage in tiny().stages.items()}
    expected = r"copy/2 has .*value\S* of shape \(51,\); these settings need \(31,\)\. Give the rec"
    with pytest.raises(ConfigError, match=expected):
        opened.restore(like(replace(tiny(), stages=stages)))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # orbax's other reads
@pytest.mark.parametrize("damage", ["state/_METADATA", "position/metadata", "state/manifest.ocdbt"])
def test_a_damaged_checkpoint_is_named_with_the_one_before_it(opened, tmp_path, damage):
    (tmp_path / "copy" / "2" / damage).write_bytes(b"not what was written")
    with pytest.raises(IntegrityError, match=r"copy/2 is damaged: .* there are \[1\]"):
        opened.restore(like(tiny()))
    shutil.rmtree(tmp_path / "copy" / "2")
    again = Checkpoints(tmp_path / "copy")
    assert again.restore(like(tiny())).position == Position("sft", 1)
    again.close()


def age(copy: Path, *, noted: tuple[str, ...]) -> None:
    """Turn the newest checkpoint into one of a version that noted only this of the run."""
    position = copy / "2" / "position" / "metadata"
    reached = json.loads(position.read_text())
    position.write_text(json.dumps({name: reached[name] for name in noted}))
    shutil.rmtree(copy / "2" / "settings")


def test_a_checkpoint_from_before_settings_were_kept_is_resumed_without_them(opened, tmp_path):
    age(tmp_path / "copy", noted=("stage", "update", "snapshot", "policy"))
    saved = opened.restore(like(tiny()))
    assert (saved.position, saved.snapshot, saved.settings) == (Position("sft", 2), 4, None)
    assert opened.settings() is None
    assert opened.settings(1) == {"seed": 1}


def test_a_checkpoint_from_before_the_snapshot_was_noted_is_refused_with_what_to_do(
    opened, tmp_path
):
    age(tmp_path / "copy", noted=("stage", "update"))
    expected = r"copy/2 is of an older version, .* its policy and snapshot: .* another --root"
    with pytest.raises(ConfigError, match=expected):
        opened.restore(like(tiny()))


def test_an_older_checkpoint_can_be_examined_with_settings_that_are_given(opened, tmp_path, state):
    age(tmp_path / "copy", noted=("stage", "update"))
    with pytest.raises(ConfigError, match=r"no checkpoint with its settings; .* name the recipe"):
        load(tmp_path / "copy")
    found = load(tmp_path / "copy", otherwise=tiny())
    assert found.at == Position("sft", 2)
    assert_same(found.networks, state.networks)


def test_a_stage_of_another_recipe_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"stage 'value_1' is unknown.*offline, online, sft"):
        recipe("lwd").stage("value_1")
