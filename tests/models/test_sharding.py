"""Where parameters go: rules by path, and meshes that cannot be."""

import jax
import pytest
from jax.sharding import PartitionSpec

from lwd.config import FULL
from lwd.errors import ConfigError
from lwd.models import sharding
from lwd.models.checkpoints.tree import flatten
from lwd.models.presets import build
from lwd.models.sharding import mesh, require_division, spec

MIB = 1 << 20


@pytest.mark.parametrize("which", ["policy", "critic"])
def test_eight_devices_hold_an_eighth_of_the_full_model_each(which):
    policy, critic = build("pi05", FULL)
    init = policy.init if which == "policy" else critic.init_q
    whole = part = 0
    for path, leaf in flatten(jax.eval_shape(init, jax.random.key(0))).items():
        split = spec(path, leaf.shape, 4, 8)
        whole += leaf.size
        part += leaf.size // 8 if any(split) else leaf.size
        assert any(split) or leaf.size * 4 < 4 * MIB, path
    assert part < 1.06 * whole / 8


@pytest.mark.parametrize(
    ("path", "shape", "wanted"),
    [
        ("PaliGemma/llm/embedder/input_embedding", (257_152, 2048), ("fsdp",)),
        ("llm/layers/mlp/linear", (18, 16_384, 2048), (None, "fsdp")),
        ("llm/layers/attn/q_einsum/w", (18, 8, 2048, 256), (None, None, "fsdp")),
        ("optimiser/policy/0/mu/img/encoderblock/MlpBlock_0/Dense_0/kernel", (27, 1152, 4304),
         (None, None, "fsdp")),
        ("anything", (4097, 1023), ()),  # nothing divides by eight
        ("final_norm/scale", (2048,), ()),  # small
    ],
)  # fmt: skip
def test_an_array_is_split_by_its_rule_or_along_its_longest_axis(path, shape, wanted):
    assert spec(path, shape, 4, 8) == PartitionSpec(*wanted)
    assert spec(path, shape, 4, 1) == PartitionSpec()


def test_a_mesh_or_a_batch_that_does_not_divide_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"fsdp is 3; there are 2 devices on 1 hosts.*1, 2"):
        mesh(3)
    over = mesh(2)
    assert dict(over.shape) == {"data": 1, "fsdp": 2}
    with pytest.raises(ConfigError, match=r"sft.batch is 7.*2 devices.*\(data 1 x fsdp 2\)"):
        require_division(7, over, "sft.batch")
    require_division(8, over, "sft.batch")


def test_the_parts_of_an_array_are_on_different_devices(monkeypatch):
    monkeypatch.setattr(sharding, "LEAST", 0)
    over = mesh(2)
    made = jax.jit(lambda: sharding.spread({"w": jax.numpy.ones((3, 4))}, over))()
    assert [part.data.shape for part in made["w"].addressable_shards] == [(3, 2), (3, 2)]
