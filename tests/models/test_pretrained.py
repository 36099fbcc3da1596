"""Checkpoints by path, in the formats that others write, on tiny models."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from lwd.errors import ConfigError, IntegrityError
from lwd.models import pi05, vlm_critic
from lwd.models.checkpoints import huggingface, openpi
from lwd.models.checkpoints.pretrained import (
    INDEX,
    load_backbone,
    load_pi05,
    read_safetensors,
    save_lerobot,
)
from lwd.models.checkpoints.tree import flatten
from lwd.models.presets import VLA
from models.goldens import CONFIG, random_params

CRITIC = VLA["tiny"](10, 11).critic


@pytest.fixture(scope="module")
def params():
    return random_params()


@pytest.fixture
def key():
    return jax.random.key(5)


@pytest.fixture(scope="module")
def backbone():
    rng = np.random.default_rng(3)
    fresh = jax.eval_shape(lambda: vlm_critic.init_backbone(jax.random.key(0), CRITIC))
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), fresh)


@pytest.fixture
def theirs(backbone, tmp_path):
    """Files of Gemma3 and of SigLIP, with what a released checkpoint also has."""
    gemma3 = huggingface.write_gemma3(backbone["llm"], CRITIC.text)
    siglip = huggingface.write_siglip(backbone["img"], CRITIC.vision)
    save_file(gemma3 | {"lm_head.weight": np.zeros((2, 2))}, tmp_path / "gemma3.safetensors")
    more = {"logit_scale": np.zeros(1), "vision_model.head.probe": np.zeros(1)}
    save_file(siglip | more, tmp_path / "siglip.safetensors")
    return tmp_path / "gemma3.safetensors", tmp_path / "siglip.safetensors"


def same(first, second) -> None:
    first, second = flatten(first), flatten(second)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[path], err_msg=path)


def test_the_kind_of_a_pi05_is_found(params, tmp_path, key, monkeypatch):
    monkeypatch.chdir(tmp_path)
    openpi.save(Path("openpi"), params)
    save_lerobot(Path("lerobot"), params, CONFIG)
    for source in ("openpi", "lerobot", "lerobot/model.safetensors"):
        same(load_pi05(Path(source), CONFIG, key), params)
        same(load_pi05(tmp_path / source, CONFIG, key), params)
    with pytest.raises(IntegrityError, match="holds no orbax checkpoint"):
        load_pi05(tmp_path, CONFIG, key)
    with pytest.raises(ConfigError, match="a state of 50 numbers as a token"):
        save_lerobot(tmp_path / "tiny", params, VLA["tiny"](10, 2).policy)


def test_paligemma_gets_a_fresh_expert(params, tmp_path, key):
    flat = flatten(params["PaliGemma"])
    kept = {f"params/{p}": x for p, x in flat.items() if not pi05.is_expert(f"PaliGemma/{p}")}
    np.savez(tmp_path / "pt_224.npz", **kept)
    made, like = flatten(load_pi05(tmp_path / "pt_224.npz", CONFIG, key)), flatten(params)
    assert {path: leaf.shape for path, leaf in made.items()} == {
        p: x.shape for p, x in like.items()
    }
    for path, leaf in made.items():
        if not pi05.is_expert(path):
            np.testing.assert_array_equal(leaf, like[path], err_msg=path)
    assert not np.asarray(made["action_out_proj/bias"]).any()
    assert np.asarray(made["action_out_proj/kernel"]).std() > 0.1


def test_bfloat16_and_several_files_are_read(params, tmp_path, key):
    tensors = huggingface.write_lerobot(params, CONFIG)
    rounded = {name: np.asarray(x, jnp.bfloat16) for name, x in tensors.items()}
    names = sorted(rounded)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    places = {}
    for file, part in halves.items():
        save_file({name: rounded[name] for name in part}, tmp_path / file)
        places |= dict.fromkeys(part, file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    loaded = load_pi05(tmp_path, CONFIG, key)
    same(loaded, jax.tree.map(lambda x: np.asarray(x, jnp.bfloat16), params))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places | {"more": "a.safetensors"}}))
    with pytest.raises(IntegrityError, match="lacks 1 tensors of its index:\n  missing: more"):
        load_pi05(tmp_path, CONFIG, key)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(IntegrityError, match="is no index of tensors"):
        load_pi05(tmp_path, CONFIG, key)


def test_the_critics_backbone_is_gemma3_and_siglip(backbone, theirs, key):
    loaded = load_backbone(*theirs, CRITIC, key)
    same(loaded["llm"], backbone["llm"])
    same(loaded["img"], backbone["img"])
    assert loaded.keys() == backbone.keys()
    assert loaded["readout"].shape == (64,)


def test_a_deeper_gemma3_is_not_cut(backbone, theirs, key):
    shallow = replace(CRITIC, text=replace(CRITIC.text, depth=1))
    with pytest.raises(IntegrityError, match=r"unexpected: layers\.1\.input_layernorm") as caught:
        load_backbone(*theirs, shallow, key)
    assert str(caught.value).count("\n  unexpected: layers.1.") == 13
    deep = replace(CRITIC, vision=replace(CRITIC.vision, depth=2))
    with pytest.raises(IntegrityError, match="the SigLIP checkpoint does not fit") as caught:
        load_backbone(*theirs, deep, key)
    assert str(caught.value).count("\n  missing: encoder.layers.1.") == 16


def test_what_is_no_checkpoint_is_said(tmp_path):
    with pytest.raises(IntegrityError, match=r"has neither model\.safetensors nor"):
        read_safetensors(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(IntegrityError, match="is no safetensors file"):
        read_safetensors(tmp_path)
    with pytest.raises(IntegrityError, match="is no safetensors file"):
        read_safetensors(tmp_path / "absent.safetensors")
    (tmp_path / "pt_224.npz").write_bytes(b"no")
    with pytest.raises(IntegrityError, match="is no npz file"):
        openpi.load_paligemma(tmp_path / "pt_224.npz", CONFIG)
