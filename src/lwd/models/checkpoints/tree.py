"""Parameter trees by path, and the comparison that never lets a model be silently random."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lwd.errors import IntegrityError
from lwd.models.fns import Params


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

    `like` may hold arrays or their shapes.
    """
    wanted = flatten(like)
    require_same(flat, wanted, what)
    return nest({path: flat[path] for path in wanted})


def require_same(given: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """IntegrityError unless both have the same names and shapes; it lists every tensor that is
    missing, is unexpected, or has another shape. Both hold arrays or their shapes by name."""
    other = {
        name: f"{_shape(given[name])}, expected {_shape(wanted[name])}"
        for name in sorted(wanted.keys() & given.keys())
        if _shape(given[name]) != _shape(wanted[name])
    }
    found = {
        "missing": {name: _shape(wanted[name]) for name in sorted(wanted.keys() - given.keys())},
        "unexpected": {name: _shape(given[name]) for name in sorted(given.keys() - wanted.keys())},
        "of another shape": other,
    }
    if any(found.values()):
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in found.items() if names)
        raise IntegrityError(
            f"{what} does not fit the model: {counts}.\n{_listed(found)}\nNothing was loaded; "
            "choose the configuration that the checkpoint was trained with."
        )


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


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf.shape)


def _listed(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One tensor to a line."""
    return "\n".join(
        f"  {kind}: {name} {what}" for kind, names in found.items() for name, what in names.items()
    )
