"""A run of the real learner on images, from a catalog to a policy that acts on what it sees."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from learner.fleet import commit, learn, tiny
from learner.outcome import published, reports
from lwd.config import COMPACT, OptimiserConfig, PlaneConfig, StateLayout
from lwd.config.pretrained import PretrainedConfig
from lwd.errors import ConfigError
from lwd.learner.diagnose.trained import load
from lwd.learner.recipes import nets, recipe, suited
from lwd.models import presets
from lwd.models.artifact import FlowPolicy
from lwd.models.checkpoints import openpi
from lwd.models.checkpoints.tree import flatten
from lwd.models.presets import ROBOT_CAMERAS
from lwd.store import weights
from lwd.store.objects import Objects
from models.mini import mini


@pytest.fixture
def mini_preset(monkeypatch):
    monkeypatch.setitem(presets.VLA, "mini", mini)
    monkeypatch.setattr(presets, "PRESETS", (*presets.PRESETS, "mini"))
    return "mini"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_policy_that_sees_is_trained_published_and_acts(tmp_path, mini_preset):
    root = tmp_path / "run"
    commit(root, "demo", "demo", "rollout", "online", cameras=ROBOT_CAMERAS)
    config = tiny(updates=1, preset=mini_preset).with_stage("online", trained="expert", updates=2)
    config = replace(config, pretrained=PretrainedConfig(policy=str(tmp_path / "openpi")))
    began = drawn(nets(config).policy.init)
    openpi.save(tmp_path / "openpi", began)
    with pytest.raises(ConfigError, match="of no known kind"):
        learn(root, replace(config, tokenizer="words.txt"))
    assert learn(root, config)
    assert [report["stage"] for report in reports(root)] == ["sft", "offline", "online", "online"]

    rows, objects = published(root), Objects(PlaneConfig(root=root).objects)
    assert rows[-1].size_bytes < 0.5 * rows[0].size_bytes, "what is frozen is sent once"
    tensors, metadata = weights.fetch(objects, rows[-1], folder=tmp_path / "robot")
    offline, _ = weights.fetch(objects, rows[1], folder=tmp_path / "robot")
    policy = FlowPolicy(tensors, metadata, 1, control=COMPACT)

    def act(brightness: int) -> np.ndarray:
        images = {name: np.full((32, 32, 3), brightness, np.uint8) for name in ROBOT_CAMERAS}
        policy.reset(0)
        state = np.zeros(StateLayout().size, np.float32)
        seen = SimpleNamespace(state=state, images=images)
        return policy.chunk(seen, "put the red can on the shelf")

    assert act(200).shape == (10, 16)
    assert np.isfinite(act(200)).all()
    expert = [name for name in tensors if name.startswith("policy/") and "mlp_1" in name]
    vlm = [name for name in tensors if name.startswith("policy/PaliGemma/img")]
    assert any((tensors[name] != offline[name]).any() for name in expert)
    assert all((tensors[name] == offline[name]).all() for name in vlm)
    for name in vlm:
        of_the_checkpoint = flatten(began)[name.removeprefix("policy/")]
        np.testing.assert_allclose(offline[name].astype(np.float32), of_the_checkpoint, atol=0.02)
    assert load(root / "checkpoints").cameras == ROBOT_CAMERAS


def drawn(init):
    """Parameters of the shapes of `init`, without compiling it."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: (0.1 * rng.normal(size=x.shape)).astype(np.float32), shapes)


def test_a_recipe_for_a_preset_that_sees_freezes_it_online():
    tiny_settings, full = (suited(recipe("lwd"), name) for name in ("tiny", "pi05"))
    for settings in (tiny_settings, full):
        trained = {name: stage.trained for name, stage in settings.stages.items()}
        assert trained == {"sft": "all", "offline": "all", "online": "expert"}
        assert {stage.optimiser.policy for stage in settings.stages.values()} == {"adamw"}
    assert full.stage("offline").optimiser.policy_lr == 2e-5
    assert suited(recipe("lwd"), "state") == recipe("lwd")
    assert recipe("lwd").stage("sft").optimiser.policy == "muon"


def test_muon_is_refused_for_a_policy_that_sees(tmp_path):
    """It takes single matrices, and would leave most of these stacked ones to Adam at its rate."""
    config = tiny(preset="tiny").with_stage("sft", optimiser=OptimiserConfig(policy="muon"))
    with pytest.raises(ConfigError, match=r"sft learns by muon, .* preset tiny .* Give adamw"):
        learn(tmp_path, config)


@pytest.mark.parametrize("preset", presets.WIDTHS)
def test_policies_that_muon_is_for_have_no_stacked_matrices(preset):
    shapes = jax.eval_shape(presets.build(preset, COMPACT)[0].init, jax.random.key(0))
    assert {leaf.ndim for leaf in jax.tree.leaves(shapes)} == {1, 2}


def test_recap_is_refused_for_a_policy_that_sees():
    with pytest.raises(ConfigError, match=r"recap marks instructions .* preset tiny has another"):
        nets(suited(recipe("recap"), "tiny"))
