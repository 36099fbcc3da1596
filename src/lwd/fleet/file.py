"""Fleet files: YAML read into `FleetConfig`, with the line and the field of every mistake."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import TypeAdapter, ValidationError

from lwd.config.fleet import (
    DisturbanceConfig,
    FieldError,
    FleetConfig,
    LinkConfig,
    RobotConfig,
)
from lwd.errors import ConfigError, unknown
from lwd.sim.cameras import CAMERAS
from lwd.sim.tasks import TASKS

At: TypeAlias = tuple[str | int, ...]
"""The way to a field: names and places in lists."""
SECTIONS: Mapping[str, type] = {
    "disturbances": DisturbanceConfig,
    "links": LinkConfig,
    "robots": RobotConfig,
}
"""What the entries of a section are."""
_YAML = {"a valid array": "a list", "an object": "fields with values"}
"""What pydantic calls by its JSON name."""


def shipped() -> dict[str, Path]:
    """Fleet files that come with the package, by name."""
    folder = Path(str(resources.files("lwd.fleet")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Path:
    """A file, or a shipped one by its name; ConfigError says which there are."""
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix or "/" in name:
        raise ConfigError(f"there is no fleet file {name}; give a file, or {', '.join(shipped())}.")
    if name not in shipped():
        raise unknown("fleet", name, shipped())
    return shipped()[name]


def read(
    path: Path, *, tasks: Collection[str] = TASKS, cameras: Collection[str] = CAMERAS
) -> FleetConfig:
    """The fleet of a file; ConfigError lists every mistake with its line and what is allowed."""
    try:
        text = path.read_text()
        lines, content = _lines(yaml.compose(text)), yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"fleet file {path} cannot be read: {error}.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}, line {line}: not YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}.") from error
    strangers = list(_strangers(lines, content, tasks, cameras))
    try:
        # JSON in between: strict about types, but a list will do for a tuple.
        whole = json.dumps(content, default=str)
        fleet = TypeAdapter(FleetConfig).validate_json(whole)
    except ValidationError as error:
        # A misspelt task is also missing in the allotment: that is no second mistake.
        others = [each for each in error.errors() if each["loc"] or not strangers]
        raise _wrong(path, lines, [*strangers, *map(_mistake, others)]) from error
    if strangers:
        raise _wrong(path, lines, strangers)
    return fleet


def _strangers(
    lines: Iterable[At], content: Any, tasks: Collection[str], cameras: Collection[str]
) -> Iterator[tuple[At, str]]:
    """Names that the simulator does not know, in a file that may have other mistakes."""
    for at in lines:
        match at:
            case ("allotment", name) if name not in tasks:
                yield at, str(unknown("task", str(name), tasks))
            case ("robots", int(place), "tasks" | "cameras" as what, int(index)):
                name, known = (
                    content["robots"][place][what][index],
                    {"tasks": tasks, "cameras": cameras}[what],
                )
                if isinstance(name, str) and name not in known:
                    yield at, str(unknown(what[:-1], name, known))


def _lines(root: yaml.Node | None) -> dict[At, int]:
    """Line, from 1, of every field of a document; ConstructorError for a key that comes twice."""
    lines: dict[At, int] = {}

    def walk(node: yaml.Node, at: At) -> None:
        lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for place, entry in enumerate(node.value):
                walk(entry, (*at, place))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = (*at, str(key.value))
                if below in lines:
                    problem = f"{key.value!r} was given before, in line {lines[below]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                lines[below] = key.start_mark.line + 1
                walk(value, below)

    if root is not None:
        walk(root, ())
    return lines


def _mistake(error: Mapping[str, Any]) -> tuple[At, str]:
    """Where pydantic found something, and what it is in our words."""
    at: At = error["loc"]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return (*at, *cause.at), str(cause).removeprefix(f"{cause.at[-1]} ")
    if error["type"] == "unexpected_keyword_argument":
        kind = SECTIONS.get(str(at[0]), FleetConfig) if len(at) > 1 else FleetConfig
        return at, str(unknown("field", str(at[len(at) - 1]), [f.name for f in fields(kind)]))
    if error["type"].startswith("missing"):
        return at, "is missing."
    allowed = error["msg"].removeprefix("Input should be ")
    return at, f"is {repr(error['input'])[:80]}; allowed: {_YAML.get(allowed, allowed)}."


def _wrong(path: Path, lines: Mapping[At, int], found: Iterable[tuple[At, str]]) -> ConfigError:
    """One line for each mistake: file, line, field, what was given and what is allowed."""
    said = []
    for at, message in found:
        known = next(at[:n] for n in range(len(at), -1, -1) if at[:n] in lines or n == 0)
        said.append(f"{path}, line {lines.get(known, 1)}, {_field(at)}: {message}")
    return ConfigError("\n".join(said))


def _field(at: At) -> str:
    """A way as people write it: robots[3].tasks[0]."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at)
    return words.lstrip(".") or "the file"
