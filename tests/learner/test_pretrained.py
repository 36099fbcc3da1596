"""A run begins with checkpoints of others, wherever its arrays are."""

from typing import Any, cast

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from lwd.config import COMPACT
from lwd.config.pretrained import PretrainedConfig
from lwd.errors import ConfigError
from lwd.learner.pretrained import begin_with, require_present
from lwd.learner.state import OptimiserStates, TrainState
from lwd.models.checkpoints import huggingface, openpi
from lwd.models.fns import take
from lwd.models.pi05 import is_expert
from lwd.models.presets import VLA, build

SIZES = VLA["tiny"](COMPACT.horizon, 2)


def drawn(init, seed: int):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


@pytest.fixture
def state() -> TrainState:
    policy, critic = build("tiny", COMPACT, atoms=2)
    theta, phi = (jax.device_put(drawn(init, 0)) for init in (policy.init, critic.init_q))
    nothing = cast(OptimiserStates, None)
    return TrainState(
        policy=theta, reference=take(theta, is_expert), value={}, target_value=None, q=phi,
        target_q=phi, extra={}, optimiser=nothing, update=jax.numpy.zeros((), int),
    )  # fmt: skip


def same(first: Any, second: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_policy_and_reference_are_the_checkpoints(state, tmp_path):
    theirs = drawn(build("tiny", COMPACT)[0].init, 7)
    openpi.save(tmp_path / "pi05", theirs)
    wanted = PretrainedConfig(policy=str(tmp_path / "pi05"))
    begun = begin_with(state, wanted, "tiny", COMPACT, jax.random.key(1))
    same(begun.policy, theirs)
    same(begun.reference, take(theirs, is_expert))
    leaves = [jax.tree.leaves(tree) for tree in (begun.policy, state.policy)]
    assert all(a.sharding == b.sharding for a, b in zip(*leaves, strict=True))
    same(begun.q, state.q)


def test_the_critics_backbone_is_gemma3_and_siglip(state, tmp_path):
    theirs = drawn(build("tiny", COMPACT)[1].init_q, 7)["backbone"]
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in ("gemma3", "siglip")}
    save_file(huggingface.write_gemma3(theirs["llm"], SIZES.critic.text), paths["gemma3"])
    save_file(huggingface.write_siglip(theirs["img"], SIZES.critic.vision), paths["siglip"])
    wanted = PretrainedConfig(**paths)
    begun = begin_with(state, wanted, "tiny", COMPACT, jax.random.key(1))
    for tree in (begun.q, begun.target_q):
        same(tree["backbone"]["llm"], theirs["llm"])
        same(tree["backbone"]["img"], theirs["img"])
        same(tree["heads"], state.q["heads"])
    same(begun.policy, state.policy)


def test_what_cannot_begin_so_is_said(state):
    assert begin_with(state, PretrainedConfig(), "state", COMPACT, jax.random.key(1)) is state
    with pytest.raises(ConfigError, match="preset 'state' begins with no checkpoint of others"):
        begin_with(state, PretrainedConfig(policy="x"), "state", COMPACT, jax.random.key(1))
    with pytest.raises(ConfigError, match=r"pretrained\.policy is /nowhere; no such file"):
        require_present(PretrainedConfig(policy="/nowhere"), "tiny")
    with pytest.raises(ConfigError, match="give both or neither"):
        PretrainedConfig(gemma3="x")
