"""Tables of names: where each tensor of a model is in somebody else's checkpoint, both ways.

Others store one tensor for each block and the transpose of our kernels; ours stack the blocks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lwd.models.checkpoints.tree import rearrange

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Name:
    """One of our tensors, or one part of it, and where others keep it."""

    ours: str
    """Path in our tree."""
    theirs: str
    """Name of theirs; `{layer}` stands for the number of the block, our first axis."""
    theirs_axes: str = ""
    """Axes as they store it, for example `(n h) d`; empty where both store the same."""
    ours_axes: str = ""
    """The same axes as we store it."""
    part: int | None = None
    """Index on our first axis after the block's, where several of theirs are one of ours."""

    @property
    def stacked(self) -> bool:
        """Whether there is one for each block."""
        return "{layer}" in self.theirs


def under(names: Iterable[Name], *, ours: str = "", theirs: str = "") -> list[Name]:
    """The same names with a prefix on either side."""
    return [replace(name, ours=ours + name.ours, theirs=theirs + name.theirs) for name in names]


def read(
    tensors: Tensors, names: Sequence[Name], *, depth: Mapping[str, int], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Our tensors by path, made of theirs. `depth` is the number of blocks by prefix of our paths,
    `sizes` that of the axes. KeyError names a tensor that is missing, see `shapes`."""
    ours: dict[str, list[tuple[int, np.ndarray]]] = {}
    for name in names:
        found = [_ours(np.asarray(tensors[n]), name, sizes) for n in _their_names(name, depth)]
        whole = np.stack(found) if name.stacked else found[0]
        ours.setdefault(name.ours, []).append((name.part or 0, whole))
    return {path: _whole(path, parts, names) for path, parts in ours.items()}


def shapes(
    like: Mapping[str, Any],
    names: Sequence[Name],
    *,
    depth: Mapping[str, int],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """What `read` needs for tensors of the shapes of `like`: their tensors by name, empty views of
    these shapes. Those of ours that they have no place for are among them under our names."""
    known = {name.ours for name in names}
    views = {path: np.broadcast_to(np.int8(0), leaf.shape) for path, leaf in like.items()}
    theirs = dict(_theirs(views, names, depth, sizes))
    return theirs | {path: view for path, view in views.items() if path not in known}


def write(
    ours: Mapping[str, Any],
    names: Sequence[Name],
    *,
    depth: Mapping[str, int],
    sizes: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """Their tensors by name, made of ours: the inverse of `read`."""
    return {name: np.ascontiguousarray(x) for name, x in _theirs(ours, names, depth, sizes)}


def _theirs(
    ours: Mapping[str, Any],
    names: Sequence[Name],
    depth: Mapping[str, int],
    sizes: Mapping[str, int],
) -> Iterator[tuple[str, np.ndarray]]:
    for name in names:
        whole = np.asarray(ours[name.ours])
        if name.part is not None:
            whole = whole[:, name.part] if name.stacked else whole[name.part]
        layers = whole if name.stacked else whole[None]
        for their_name, layer in zip(_their_names(name, depth), layers, strict=True):
            if name.theirs_axes:
                layer = rearrange(layer, name.ours_axes, name.theirs_axes, **sizes)
            yield their_name, layer


def _their_names(name: Name, depth: Mapping[str, int]) -> list[str]:
    if not name.stacked:
        return [name.theirs]
    prefix = next(prefix for prefix in depth if name.ours.startswith(prefix))
    return [name.theirs.format(layer=layer) for layer in range(depth[prefix])]


def _ours(tensor: np.ndarray, name: Name, sizes: Mapping[str, int]) -> np.ndarray:
    if not name.theirs_axes:
        return tensor
    return rearrange(tensor, name.theirs_axes, name.ours_axes, **sizes)


def _whole(path: str, parts: list[tuple[int, np.ndarray]], names: Sequence[Name]) -> np.ndarray:
    """Parts put together in their order."""
    name = next(name for name in names if name.ours == path)
    ordered = [whole for _, whole in sorted(parts, key=lambda item: item[0])]
    return ordered[0] if name.part is None else np.stack(ordered, axis=int(name.stacked))
