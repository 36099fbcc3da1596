"""Checks that refuse a setting by its name."""

import math
import re
from collections.abc import Callable
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lwd.errors import ConfigError, unknown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a robot, a task or a camera may be called: it becomes part of paths and addresses."""
PLAIN = "1 to 64 letters, digits, '.', '_' and '-', the first a letter or a digit"
"""The same in words."""


def require(condition: bool, message: str) -> None:
    """ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_each(
    config: Any, names: tuple[str, ...], holds: Callable[[Any], bool], expected: str
) -> None:
    """The same condition on several fields; the message names the first that breaks it."""
    for name in names:
        value = getattr(config, name)
        require(holds(value), f"{name} is {value}; {expected}.")


def require_positive(config: Any, *names: str) -> None:
    """Finite numbers above 0."""
    require_each(config, names, lambda x: 0 < x < math.inf, "it must be positive and finite")


def require_not_negative(config: Any, *names: str) -> None:
    """Finite numbers, 0 or above."""
    require_each(config, names, lambda x: 0 <= x < math.inf, "it must be finite and not negative")


def require_as_declared(config: Any) -> None:
    """Of every field: one of the names of its Literal, a whole number where its type is int."""
    for field in fields(config):
        value, known = getattr(config, field.name), _choices(field.type)
        if known and value not in known:
            raise unknown(field.name, str(value), [str(choice) for choice in known])
        if field.type is int:
            whole = isinstance(value, int)
            require(whole, f"{field.name} is {value!r}; it must be a whole number.")


def _choices(declared: Any) -> tuple[Any, ...]:
    """What a field of named choices may be; nothing for any other."""
    if get_origin(declared) is Literal:
        return get_args(declared)
    parts = get_args(declared) if get_origin(declared) in (Union, UnionType) else ()
    named = [choice for part in parts for choice in _choices(part)]
    return (*named, *([None] if named and type(None) in parts else []))


def require_name(field: str, given: str) -> None:
    """What can be part of a path."""
    require(
        NAME.fullmatch(given) is not None,
        f"{field} is {given[:80]!r}; expected {PLAIN}.",
    )
