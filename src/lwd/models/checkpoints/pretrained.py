"""Checkpoints by path: what kind one is, and a model of it. Nothing is downloaded."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax import Array
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lwd.errors import IntegrityError
from lwd.models import pi05, vlm_critic
from lwd.models.checkpoints import huggingface, openpi
from lwd.models.checkpoints.tree import flatten, nest
from lwd.models.fns import Params
from lwd.models.pi05 import Pi05Config
from lwd.models.vlm_critic import VlmCriticConfig

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""What Hugging Face and LeRobot call a model in one file, and the list of those of a large one."""


def load_pi05(source: Path, config: Pi05Config, key: Array) -> Params:
    """Parameters from an orbax folder of openpi, a safetensors file or folder of LeRobot, or
    PaliGemma's npz, whose action expert is a fresh one of `key`.

    IntegrityError says what was found instead, or names every tensor that does not fit.
    """
    if source.suffix == ".npz":
        return _with_fresh_expert(openpi.load_paligemma(source, config), config, key)
    if source.suffix == ".safetensors" or any((source / name).exists() for name in (FILE, INDEX)):
        return huggingface.read_lerobot(read_safetensors(source), config)
    return openpi.load(source, config)


def load_backbone(gemma3: Path, siglip: Path, config: VlmCriticConfig, key: Array) -> Params:
    """Backbone of the critic from safetensors of Gemma3's text model and of SigLIP; projection and
    readout token are fresh ones of `key` (IV-D)."""
    read = {
        "llm": huggingface.read_gemma3(read_safetensors(gemma3), config.text),
        "img": huggingface.read_siglip(read_safetensors(siglip), config.vision),
    }
    return jax.jit(lambda k: vlm_critic.init_backbone(k, config))(key) | read


def save_lerobot(folder: Path, params: Params, config: Pi05Config) -> None:
    """Write parameters as LeRobot loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = huggingface.write_lerobot(params, config)
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, folder / FILE)


def read_safetensors(source: Path) -> dict[str, np.ndarray]:
    """Tensors of a file, or of a folder with one or with several and their index."""
    if not source.is_dir():
        return _tensors(source)
    if (source / FILE).exists():
        return _tensors(source / FILE)
    if not (source / INDEX).exists():
        raise IntegrityError(f"{source} has neither {FILE} nor {INDEX}; give the model's folder.")
    try:
        places: Mapping[str, str] = json.loads((source / INDEX).read_text())["weight_map"]
        files = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{source / INDEX} is no index of tensors: {error!r}.") from error
    tensors = {name: x for file in files for name, x in _tensors(source / file).items()}
    if missing := sorted(places.keys() - tensors.keys()):
        listed = "\n".join(f"  missing: {name} of {places[name]}" for name in missing)
        raise IntegrityError(f"{source} lacks {len(missing)} tensors of its index:\n{listed}")
    return tensors


def _tensors(file: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{file} is no safetensors file: {error}.") from error


def _with_fresh_expert(paligemma: Params, config: Pi05Config, key: Array) -> Params:
    def expert(key: Array) -> dict[str, Array]:
        made = flatten(pi05.init(key, config))
        return {path: leaf for path, leaf in made.items() if pi05.is_expert(path)}

    read = {f"PaliGemma/{path}": leaf for path, leaf in flatten(paligemma).items()}
    return nest(read | jax.jit(expert)(key))
