"""The header of an episode as JSON, read back with every type checked."""

import json
from dataclasses import MISSING, asdict, fields
from enum import StrEnum
from typing import Any, NoReturn

from lwd.episode.types import Header, Kind, Outcome
from lwd.errors import EpisodeError

_ENUMS: dict[str, type[StrEnum]] = {"kind": Kind, "outcome": Outcome}
_INTEGERS = ("policy_version", "horizon", "seed")
_NUMBERS = ("rate_hz", "started_at", "ended_at")
_BOOLEANS = ("terminated", "truncated", "held_out")


def to_json(header: Header) -> str:
    """Header as JSON with sorted keys: the same header gives the same text."""
    return json.dumps(asdict(header), sort_keys=True, allow_nan=False)


def from_json(text: str | bytes) -> Header:
    """Header from JSON; EpisodeError names the field that is missing, unknown or mistyped."""
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise EpisodeError(f"the header is not JSON: {error}.") from None
    if not isinstance(values, dict):
        raise EpisodeError(f"the header is a {type(values).__name__}, not an object.")
    known = {f.name: f for f in fields(Header)}
    if unknown := sorted(set(values) - set(known)):
        raise EpisodeError(f"the header has the unknown field {unknown[0]!r}.")
    for name, f in known.items():
        if name not in values and f.default is MISSING:
            raise EpisodeError(f"the header lacks the field {name!r}.")
    return Header(**{name: _field(name, value) for name, value in values.items()})


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _field(name: str, value: Any) -> Any:
    if name in _ENUMS:
        return _member(name, value)
    if name == "substeps":
        _expect(name, value, isinstance(value, list) and all(map(_is_number, value)), "numbers")
        return tuple(map(float, value))
    if name in _BOOLEANS:
        return _expect(name, value, isinstance(value, bool), "true or false")
    if name in _INTEGERS:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        return _expect(name, value, is_integer, "an integer")
    if name in _NUMBERS:
        return float(_expect(name, value, _is_number(value), "a number"))
    return _expect(name, value, isinstance(value, str), "a string")


def _member(name: str, value: Any) -> StrEnum:
    allowed = [str(member) for member in _ENUMS[name]]
    _expect(name, value, value in allowed, f"one of {', '.join(allowed)}")
    return _ENUMS[name](value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _expect(name: str, value: Any, valid: bool, wanted: str) -> Any:
    if not valid:
        raise EpisodeError(f"header field {name!r} is {repr(value)[:80]}; expected {wanted}.")
    return value
