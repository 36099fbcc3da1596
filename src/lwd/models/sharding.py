"""Which axis of a parameter is split over devices, by its path (fully sharded data parallelism).

Parameters, their averages and what optimisers remember of them have the same last part of a path
and the same shape, so one rule serves the whole state of a learner. Every device holds its part and
gathers a block's parameters when it computes that block.
"""

import math
import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lwd.errors import ConfigError

DATA, FSDP = "data", "fsdp"
"""Axes of a mesh: copies of the parameters, and devices that share one copy."""
LEAST = 4 << 20
"""Bytes of an array that is worth splitting; smaller ones are copied."""
RULES = ((re.compile(r"embedder/input_embedding$|embed_tokens/weight$"), 0),)
"""Path to the axis that is split: the vocabulary, whose rows are looked up one by one."""
STACKED = re.compile(r"(layers|encoderblock|heads)/")
"""Paths of parameters whose first axis counts blocks or heads, which is not split."""


def mesh(fsdp: int = 1) -> Mesh:
    """All devices of all hosts; ConfigError unless `fsdp` divides their number."""
    count = jax.device_count()
    if fsdp < 1 or count % fsdp:
        sizes = [size for size in range(1, count + 1) if count % size == 0]
        raise ConfigError(
            f"fsdp is {fsdp}; there are {count} devices on {jax.process_count()} hosts, which does "
            f"not divide. Choose one of {', '.join(map(str, sizes))}, or other hosts."
        )
    auto = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((count // fsdp, fsdp), (DATA, FSDP), axis_types=auto)


def require_division(batch: int, over: Mesh, what: str) -> None:
    """ConfigError unless a global batch divides among the devices of a mesh."""
    if batch % over.size:
        shape = " x ".join(f"{name} {size}" for name, size in over.shape.items())
        raise ConfigError(
            f"{what} is {batch}; it does not divide among the {over.size} devices of the mesh "
            f"({shape}). Choose a multiple of {over.size}."
        )


def spec(path: str, shape: tuple[int, ...], itemsize: int, parts: int) -> PartitionSpec:
    """How an array is split into `parts`: by its rule, else along its longest axis that divides.

    Empty where it is small or no axis divides: every device has a copy.
    """
    if parts == 1 or math.prod(shape) * itemsize < LEAST:
        return PartitionSpec()
    ruled = [axis for pattern, axis in RULES if pattern.search(path)]
    free = range(1 if STACKED.search(path) else 0, len(shape))
    for axis in ruled or sorted(free, key=lambda axis: -shape[axis]):
        if shape[axis] % parts == 0:
            return PartitionSpec(*(FSDP if a == axis else None for a in range(axis + 1)))
    return PartitionSpec()


def shardings(tree: Any, over: Mesh) -> Any:
    """The place of every array (or shape) of a tree."""

    def place(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        size = leaf.dtype.itemsize
        return NamedSharding(over, spec(name, leaf.shape, size, over.shape.get(FSDP, 1)))

    return jax.tree_util.tree_map_with_path(place, tree)


def spread(tree: Any, over: Mesh) -> Any:
    """Inside a jitted function: the same tree with every array in its place."""
    return jax.lax.with_sharding_constraint(tree, shardings(tree, over))


def rows(over: Mesh) -> NamedSharding:
    """The place of a batch: every device has its own rows."""
    return NamedSharding(over, PartitionSpec(tuple(over.axis_names)))


def everywhere(over: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(over, PartitionSpec())
