"""Parameter trees by path, and the comparison that never lets a model be silently random."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lwd.errors import IntegrityError
from lwd.models.fns import Params

_NAMED = 8
"""Tensors that an error names of each kind."""


def flatten(tree: Params) -> dict[str, Any]:
    """Leaves of nested dictionaries by their path with slashes."""
    return dict(_leaves(tree, ""))


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries of leaves by path."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *folders, name = path.split("/")
        at = tree
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = leaf
    return tree


def fit(flat: Mapping[str, Any], like: Params, what: str) -> Params:
    """The tree of `flat` if its paths and shapes are those of `like`; IntegrityError if not.

    `like` may hold arrays or their shapes. The error lists what is missing, what is unexpected and
    what has another shape.
    """
    wanted = flatten(like)
    missing = sorted(wanted.keys() - flat.keys())
    extra = sorted(flat.keys() - wanted.keys())
    other = [
        f"{path} {tuple(flat[path].shape)}, expected {tuple(wanted[path].shape)}"
        for path in sorted(wanted.keys() & flat.keys())
        if tuple(flat[path].shape) != tuple(wanted[path].shape)
    ]
    problems = {"missing": missing, "unexpected": extra, "of another shape": other}
    if any(problems.values()):
        found = "; ".join(
            f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names
        )
        raise IntegrityError(
            f"{what} does not fit the model: {found}. Nothing was loaded; choose the configuration "
            "that the checkpoint was trained with."
        )
    return nest({path: flat[path] for path in wanted})


def rearrange(x: np.ndarray, source: str, target: str, **sizes: int) -> np.ndarray:
    """Axes of `x` named, split, permuted and merged: "(n h) d" to "n d h".

    `sizes` gives the axes of a group in parentheses, all but one of each.
    """
    groups = _groups(source)
    if len(groups) != x.ndim:
        raise ValueError(f"an array of shape {x.shape} is not {source!r}.")
    known = dict(sizes)
    for group, length in zip(groups, x.shape, strict=True):
        rest = int(np.prod([known[axis] for axis in group if axis in known]))
        if unknown := [axis for axis in group if axis not in known]:
            known[unknown[0]] = length // rest
        if int(np.prod([known[axis] for axis in group])) != length:
            raise ValueError(f"an array of shape {x.shape} is not {source!r} with {known}.")
    axes = [axis for group in groups for axis in group]
    wanted = _groups(target)
    order = [axes.index(axis) for group in wanted for axis in group]
    shape = [int(np.prod([known[axis] for axis in group])) for group in wanted]
    return x.reshape([known[axis] for axis in axes]).transpose(order).reshape(shape)


def _groups(axes: str) -> list[list[str]]:
    """Axes by position: "(n h) d" is [[n, h], [d]]."""
    groups: list[list[str]] = []
    inside = False
    for word in axes.replace("(", " ( ").replace(")", " ) ").split():
        if word in "()":
            inside = word == "("
            groups += [[]] if inside else []
        elif inside:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _leaves(tree: Params, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for name, part in tree.items():
            yield from _leaves(part, f"{path}/{name}" if path else str(name))
    else:
        yield path, tree


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
