"""From replay batches in robot units to arrays on the mesh in network units."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lwd.learner.state import Transitions
from lwd.models.fns import Inputs
from lwd.models.normaliser import Normaliser
from lwd.models.tokenizer import tokenize
from lwd.replay.batch import Batch


def mesh() -> Mesh:
    """All devices of all hosts on one data axis; parameters are replicated over it."""
    return Mesh(np.array(jax.devices()), ("data",))


def transitions(batch: Batch, normaliser: Normaliser, over: Mesh) -> Transitions:
    """This host's rows of the global batch, as network inputs on the mesh."""
    return _placed(batch, normaliser, NamedSharding(over, PartitionSpec("data")))


def whole(batch: Batch, normaliser: Normaliser, over: Mesh) -> Transitions:
    """Rows that every host has, as network inputs on every device."""
    return _placed(batch, normaliser, everywhere(over))


def _placed(batch: Batch, normaliser: Normaliser, sharding: NamedSharding) -> Transitions:
    put = partial(jax.make_array_from_process_local_data, sharding)
    tokens = put(_tokens(batch.instruction))
    return Transitions(
        inputs=Inputs(put(normaliser.state(batch.state)), tokens),
        action=put(normaliser.action(batch.state, batch.action)),
        action_mask=put(batch.action_mask),
        returns=put(batch.returns),
        discount=put(batch.discount),
        next_inputs=Inputs(put(normaliser.state(batch.next_state)), tokens),
    )


def everywhere(over: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(over, PartitionSpec())


def placed(shapes: Any, over: Mesh) -> Any:
    """Shapes and types with a place: whole copies on every device. What a checkpoint is read as."""
    place = everywhere(over)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)


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


def _tokens(instructions: np.ndarray) -> np.ndarray:
    """[batch, tokens] int32; each distinct instruction is tokenised once."""
    distinct, index = np.unique(instructions, return_inverse=True)
    return tokenize(distinct.tolist())[index]


def any_host(flag: bool) -> bool:
    """True on every host as soon as it is true on one."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.bool_(flag)).any())
