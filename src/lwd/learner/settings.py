"""The settings of a run as JSON: every checkpoint has those that its networks were trained with."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from lwd.config import LearnerConfig
from lwd.errors import unknown
from lwd.learner.recipes import recipe


def as_json(config: LearnerConfig) -> dict[str, Any]:
    """What JSON can hold: mappings by field, lists for tuples, "inf" for infinity."""
    return _plain(asdict(config))


def from_json(found: Mapping[str, Any]) -> LearnerConfig:
    """Inverse of `as_json`.

    A setting that is missing, because the version that wrote it did not have it, is that of the
    recipe. Raises ConfigError for one that this version does not have.
    """
    return _like(recipe(found["recipe"]), found)


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`name=before->after` of every setting that differs between two results of `as_json`."""
    before, after = _flat(then), _flat(now)
    return [
        f"{name}={before.get(name, 'absent')}->{after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, "absent") != after.get(name, "absent")
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _like(default: Any, found: Any) -> Any:
    """`found` with the types of `default`; ConfigError names a field or stage that it lacks."""
    if is_dataclass(default) and not isinstance(default, type):
        own = {field.name: getattr(default, field.name) for field in fields(default)}
        return replace(default, **_each("setting", own, found))
    if isinstance(default, dict) and all(map(is_dataclass, default.values())):
        return _each("stage", default, found)
    if isinstance(default, float):
        return float(found)
    return tuple(found) if isinstance(found, list) else found


def _each(kind: str, own: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    for name in found:
        if name not in own:
            raise unknown(f"the checkpoint was written by another version: its {kind}", name, own)
    return {name: _like(own[name], value) for name, value in found.items()}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    prefix = f"{name}." if name else ""
    return {k: v for key, item in value.items() for k, v in _flat(item, prefix + key).items()}
