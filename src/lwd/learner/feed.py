"""From replay batches in robot units to arrays on the mesh in network units."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from lwd.learner.state import Transitions
from lwd.models.fns import Inputs
from lwd.models.inputs.preparation import Preparation
from lwd.models.sharding import everywhere, rows, shardings
from lwd.replay.batch import Batch


def transitions(batch: Batch, normaliser: Preparation, over: Mesh) -> Transitions:
    """This host's rows of the global batch, as network inputs on the mesh."""
    return _placed(batch, normaliser, rows(over))


def whole(batch: Batch, normaliser: Preparation, over: Mesh) -> Transitions:
    """Rows that every host has, as network inputs on every device."""
    return _placed(batch, normaliser, everywhere(over))


def _placed(batch: Batch, normaliser: Preparation, sharding: NamedSharding) -> Transitions:
    put, said = (
        partial(jax.make_array_from_process_local_data, sharding),
        batch.instruction.tolist(),
    )
    now = normaliser.observe(batch.state, batch.images or {}, said)
    then = normaliser.observe(batch.next_state, batch.next_images or {}, said)
    mask, own = batch.action_mask, batch.action.shape[-1]
    if normaliser.dimensions > own:
        mask = mask[:, :, None] & (np.arange(normaliser.dimensions) < own)
    return Transitions(
        inputs=Inputs(*jax.tree.map(put, now)),
        action=put(normaliser.action(batch.state, batch.action)),
        action_mask=put(mask),
        returns=put(batch.returns),
        discount=put(batch.discount),
        next_inputs=Inputs(*jax.tree.map(put, then)),
    )


def placed(shapes: Any, over: Mesh) -> Any:
    """Shapes and types with their places: what a checkpoint is read as, on whatever mesh."""
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes, shardings(shapes, over),
    )  # fmt: skip


def gathered(tree: Any) -> Any:
    """Whole arrays in the memory of every host, one array at a time."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)


def smallest(version: int) -> int:
    """The barrier of the readers: the newest snapshot that every host holds."""
    if jax.process_count() == 1:
        return version
    return int(multihost_utils.process_allgather(np.int64(version)).min())


def largest(version: int) -> int:
    """The version that one host has published, on all hosts."""
    if jax.process_count() == 1:
        return version
    return int(multihost_utils.process_allgather(np.int64(version)).max())


def any_host(flag: bool) -> bool:
    """True on every host as soon as it is true on one."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.bool_(flag)).any())
