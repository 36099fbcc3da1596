"""openpi's checkpoints: orbax folders of released and trained models, PaliGemma.

A released model is a plain tree under `params`; a trained one has a leaf named `value` below every
parameter. Our own pi0.5 is saved in the first form, which openpi loads. Its norm stats are read and
written by `lwd.models.inputs.norm_stats`.
"""

from pathlib import Path
from zipfile import BadZipFile

import jax
import numpy as np
import orbax.checkpoint as ocp

from lwd.errors import IntegrityError
from lwd.models import pi05
from lwd.models.checkpoints.tree import fit, flatten, nest
from lwd.models.fns import Params
from lwd.models.pi05 import Pi05Config

_VALUE = "/value"


def load(folder: Path, config: Pi05Config) -> Params:
    """Parameters of an orbax checkpoint: `folder` holds `params`, or is that folder itself.

    IntegrityError if there is none, or names every tensor that is missing, unexpected, or of
    another shape.
    """
    at = (folder / "params" if (folder / "params").is_dir() else folder).absolute()
    if not (at / "_METADATA").exists():
        raise IntegrityError(
            f"{folder} holds no orbax checkpoint: neither it nor its folder params has a file "
            "_METADATA. Give the step's folder, for example checkpoints/NAME/EXPERIMENT/29999."
        )
    with ocp.PyTreeCheckpointer() as checkpointer:
        like = checkpointer.metadata(at).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
        tree = checkpointer.restore(at, restore_args=as_numpy)
    flat = flatten(tree.get("params", tree))
    if all(path.endswith(_VALUE) for path in flat):  # SigLIP has a subtree of that name, too
        flat = {path.removesuffix(_VALUE): leaf for path, leaf in flat.items()}
    return fit(flat, _shapes(config), f"the checkpoint in {folder}")


def save(folder: Path, params: Params) -> None:
    """Write parameters as openpi releases them; `folder` must not exist."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save((folder / "params").absolute(), {"params": params})


def load_paligemma(file: Path, config: Pi05Config) -> Params:
    """Vision tower and language model of PaliGemma's npz (`params/img/...`, `params/llm/...`).

    They are what a pi0.5 of one's own begins with; the action expert is not among them.
    IntegrityError as from `load`.
    """
    try:
        with np.load(file) as arrays:
            flat = {name.removeprefix("params/"): arrays[name] for name in arrays.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise IntegrityError(f"{file} is no npz file of arrays: {error}.") from error
    like = {
        path: leaf
        for path, leaf in flatten(_shapes(config)["PaliGemma"]).items()
        if not pi05.is_expert(f"PaliGemma/{path}")
    }
    return fit(flat, nest(like), f"PaliGemma in {file}")


def _shapes(config: Pi05Config) -> Params:
    return jax.eval_shape(lambda key: pi05.init(key, config), jax.random.key(0))
