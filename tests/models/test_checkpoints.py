"""Checkpoints of others: round trips in their real formats, and errors that name every tensor."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file, save_file

from lwd.errors import IntegrityError
from lwd.models.checkpoints import huggingface, openpi
from lwd.models.checkpoints.tree import flatten, nest, rearrange
from models.goldens import CONFIG, GOLDEN, random_params


@pytest.fixture(scope="module")
def params():
    return random_params()


def same(first, second) -> None:
    first, second = flatten(first), flatten(second)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[path], err_msg=path)


def test_lerobots_safetensors_round_trip(params, tmp_path):
    save_file(huggingface.write_lerobot(params, CONFIG), tmp_path / "model.safetensors")
    same(huggingface.read_lerobot(load_file(tmp_path / "model.safetensors"), CONFIG), params)


def test_lerobot_finds_every_tensor_it_looks_for(params):
    """Names and shapes that LeRobot's own pi05 wrote: of the first block, of another vocabulary."""
    wanted = {name: shape for name, shape in json.loads((GOLDEN / "lerobot_pi05.json").read_text())}
    written = {
        name: tensor
        for name, tensor in huggingface.write_lerobot(params, CONFIG).items()
        if ".layers." not in name or ".layers.0." in name
    }
    unused = ("vision_model.head.", "gemma_expert.lm_head.")
    assert written.keys() == {n for n in wanted if not any(u in n for u in unused)}
    for name, tensor in written.items():
        shape = [512 if size == 257_152 else size for size in wanted[name]]
        assert list(tensor.shape) == shape, name


def test_the_embedding_may_be_kept_under_the_tied_head_alone(params):
    tensors = huggingface.write_lerobot(params, CONFIG)
    embedding = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
    del tensors[embedding]
    same(huggingface.read_lerobot(tensors, CONFIG), params)
    prefixed = {f"model.{name}": tensor for name, tensor in tensors.items()}
    same(huggingface.read_lerobot(prefixed, CONFIG), params)


def test_every_tensor_of_lerobots_that_does_not_fit_is_listed(params):
    tensors = huggingface.write_lerobot(params, CONFIG)
    norms = {n for n in tensors if "layernorm" in n}
    assert len(norms) > 8
    kept = {n: t for n, t in tensors.items() if n not in norms}
    strange = {f"more.{n}": np.zeros(2) for n in range(9)}
    short = {"action_in_proj.bias": np.zeros(63, np.float32)}
    with pytest.raises(IntegrityError) as caught:
        huggingface.read_lerobot(kept | strange | short, CONFIG)
    counts, *listed, todo = str(caught.value).splitlines()
    assert f"{len(norms)} missing, 9 unexpected, 1 of another shape." in counts
    named = [f"  missing: {n} {tensors[n].shape}" for n in sorted(norms)]
    named += [f"  unexpected: {n} (2,)" for n in sorted(strange)]
    assert listed == [*named, "  of another shape: action_in_proj.bias (63,), expected (64,)"]
    assert "Nothing was loaded" in todo


def test_shapes_of_theirs_take_no_memory(params):
    like = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in flatten(params).items()}
    found = huggingface.shapes(like, huggingface.PI05, **huggingface._axes(CONFIG))
    written = huggingface.write_lerobot(params, CONFIG)
    assert {n: x.shape for n, x in found.items()} == {
        n: x.shape for n, x in written.items() if n != huggingface._TIED
    }
    assert not any(np.asarray(x.strides).any() for x in found.values()), "views of one number"


@pytest.mark.parametrize("trained", [False, True])
def test_openpis_orbax_layouts_are_read(params, tmp_path, trained):
    tree = nest({f"{path}/value": x for path, x in flatten(params).items()}) if trained else params
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "29999" / "params", {"params": tree})
    same(openpi.load(tmp_path / "29999", CONFIG), params)
    same(openpi.load(tmp_path / "29999" / "params", CONFIG), params)


def test_what_we_save_openpi_reads(params, tmp_path):
    openpi.save(tmp_path / "ours", params)
    same(openpi.load(tmp_path / "ours", CONFIG), params)


def test_another_architecture_lists_what_differs(params, tmp_path):
    broken = nest({p: x for p, x in flatten(params).items() if not p.startswith("time_mlp_in")})
    broken["state_proj"] = {"kernel": np.zeros((8, 64), np.float32)}
    broken["action_in_proj"] = {"kernel": np.zeros((7, 64)), "bias": np.zeros(64)}
    openpi.save(tmp_path / "pi0", broken)
    with pytest.raises(IntegrityError) as caught:
        openpi.load(tmp_path / "pi0", CONFIG)
    assert str(caught.value).splitlines()[1:-1] == [
        "  missing: time_mlp_in/bias (64,)",
        "  missing: time_mlp_in/kernel (64, 64)",
        "  unexpected: state_proj/kernel (8, 64)",
        "  of another shape: action_in_proj/kernel (7, 64), expected (8, 64)",
    ]
    with pytest.raises(IntegrityError, match="no orbax checkpoint"):
        openpi.load(tmp_path, CONFIG)


def test_paligemmas_npz_is_read(params, tmp_path):
    flat = flatten(params["PaliGemma"])
    kept = {f"params/{p}": x for p, x in flat.items() if p.startswith("img/") or "_1" not in p}
    np.savez(tmp_path / "pt_224.npz", **kept)
    loaded = flatten(openpi.load_paligemma(tmp_path / "pt_224.npz", CONFIG))
    assert {f"params/{path}" for path in loaded} == kept.keys()
    for path, leaf in loaded.items():
        np.testing.assert_array_equal(leaf, flat[path])


def test_axes_are_split_permuted_and_merged():
    x = np.arange(24).reshape(6, 4)
    split = rearrange(x, "(n h) d", "n d h", n=2)
    np.testing.assert_array_equal(split, x.reshape(2, 3, 4).swapaxes(1, 2))
    np.testing.assert_array_equal(rearrange(split, "n d h", "(n h) d"), x)
    with pytest.raises(ValueError, match="is not"):
        rearrange(x, "(n h) d", "n d h", n=5)
