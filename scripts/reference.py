"""Writes docs/reference: every command and every setting, from the code. `make reference`.

tests/test_docs.py compares the pages with what is written here, and the flags with tyro's own.
"""

import ast
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from docstring_parser import parse
from tyro.conf import Positional
from tyro.extras import SubcommandApp

from lwd.cli.app import GROUPS, SECTIONS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"
CONFIG = ROOT / "src" / "lwd" / "config"
WRITTEN = "<!-- `make reference` writes this page from the code; changes go there. -->"
ABOUT_COMMANDS = """\
An expected error is one line and exit status 1, a bug a traceback, a wrong flag exit status 2.
`LWD_LOG=DEBUG` says more. Where a command has the flags of a class of settings, the link leads to
them."""
ABOUT_SETTINGS = """\
Frozen dataclasses of `lwd.config`. A field `tau_base` is the flag `--tau-base`, in a part of
another class with the way to that part: `--sft.divl.tau-base`. A field that is yes or no has a
second flag: `--no-intervene`. The [commands](cli.md) say which classes they have; what no command
has belongs to a [fleet's file](../fleet.md) or to the code. An unusable value is refused by its
name before anything runs."""
UNITS = {
    "_per_s": "1/s",
    "_per_h": "1/h",
    "bytes_per_s": "bytes/s",
    "_s": "s",
    "_hz": "Hz",
    "_px": "pixels",
    "_bytes": "bytes",
    "_gib": "GiB",
    "_days": "days",
    "_n": "N",
}
"""End of a name to the unit of the value; the longest one that fits counts."""


class Flag(NamedTuple):
    """One thing that a command can be told."""

    names: str
    kind: str
    default: str
    said: str


def commands() -> Iterator[tuple[str, tuple[str, ...], Callable]]:
    """Section, words and function of every command, in the order of `lwd --help`."""
    for title, section in SECTIONS.items():
        for each in section:
            if isinstance(each, str):
                group: SubcommandApp = GROUPS[each][0]
                for name, spec in group._subcommands.items():
                    assert callable(spec.target)
                    yield title, (each, name), spec.target
            else:
                yield title, (each.__name__,), each


def examples(command: Callable) -> list[str]:
    """The command lines in what a command says about itself."""
    return re.findall(r"^    (lwd .*)$", inspect.cleandoc(command.__doc__ or ""), re.MULTILINE)


def settings(command: Callable) -> list[type]:
    """The classes of settings whose fields are flags of a command, with those inside them that
    add no name of their own to a flag."""
    hints = typing.get_type_hints(command)
    found = [hint for hint in hints.values() if is_dataclass(hint)]
    return [each for outer in found for each in (outer, *_inside(outer))]


def _inside(outer: type) -> list[type]:
    hints = typing.get_type_hints(outer, include_extras=True).values()
    named = [typing.get_args(hint) for hint in hints if typing.get_origin(hint) is typing.Annotated]
    return [hint for hint, *marks in named if is_dataclass(hint) and marks[0].name == ""]


def own_flags(command: Callable) -> tuple[list[Flag], list[Flag]]:
    """Arguments by place, and flags, that are no field of a class of settings."""
    documented = {p.arg_name: p.description or "" for p in parse(command.__doc__ or "").params}
    hints = typing.get_type_hints(command, include_extras=True)
    placed, named = [], []
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(typing.get_type_hints(command)[name]):
            continue
        hint, marks = hints[name], ()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *marks = typing.get_args(hint)
        said = " ".join(documented.get(name, "").split())
        shown = "required" if parameter.default is parameter.empty else _shown(parameter.default)
        if set(marks) & set(typing.get_args(Positional[int])[1:]):
            placed.append(Flag(name.upper(), _kind(hint), shown, said))
        else:
            renamed = next((mark.name for mark in marks if getattr(mark, "name", None)), name)
            named.append(Flag(_flag(renamed, hint), _kind(hint), shown, said))
    return placed, named


def cli_page() -> str:
    """docs/reference/cli.md."""
    lines = ["# Commands", "", WRITTEN, ""]
    lines += [ABOUT_COMMANDS, ""]
    here = ""
    for title, words, command in commands():
        if title != here:
            lines += [f"## {title}", ""]
            here = title
        lines += [*_command(" ".join(words), command), ""]
    return "\n".join(lines[:-1]) + "\n"


def _command(name: str, command: Callable) -> Iterator[str]:
    placed, named = own_flags(command)
    yield f"### lwd {name}"
    yield ""
    said = parse(command.__doc__ or "").description or ""
    yield _paragraphs(said.partition("For example:")[0].strip())
    yield ""
    yield "```sh"
    yield from examples(command)
    yield "```"
    if placed or named:
        yield ""
        yield "| argument | type | default | meaning |"
        yield "|---|---|---|---|"
        yield from (_row(f"`{flag.names}`", flag) for flag in (*placed, *named))
    if found := settings(command):
        links = (f"[{each.__name__}](config.md#{each.__name__.lower()})" for each in found)
        yield ""
        yield f"{'Also the' if placed or named else 'The'} flags of {', '.join(links)}."


def config_page() -> str:
    """docs/reference/config.md."""
    lines = ["# Settings", "", WRITTEN, ""]
    lines += [ABOUT_SETTINGS, ""]
    users: dict[type, list[str]] = {}
    for _, words, command in commands():
        for each in settings(command):
            users.setdefault(each, []).append(" ".join(("lwd", *words)))
    for path in sorted(CONFIG.glob("*.py")):
        tree = ast.parse(path.read_text())
        classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and _is_config(n)]
        if not classes:
            continue
        lines += [f"## {ast.get_docstring(tree)}".rstrip("."), ""]
        module = importlib.import_module(f"lwd.config.{path.stem}")
        for node in classes:
            config = getattr(module, node.name)
            lines += [*_class(node, config, users.get(config, ())), ""]
    return "\n".join(lines[:-1]) + "\n"


def _class(node: ast.ClassDef, config: type, users: Sequence[str]) -> Iterator[str]:
    yield f"### {node.name}"
    yield ""
    yield _paragraphs(inspect.cleandoc(ast.get_docstring(node) or ""))
    yield ""
    if users:
        links = [f"[{words}](cli.md#{words.replace(' ', '-')})" for words in users]
        yield f"Flags of {', '.join(links) if len(links) < 6 else 'most commands'}."
        yield ""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    hints = typing.get_type_hints(config)
    defaults = {each.name: each for each in fields(config)}
    for here, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(here, ast.AnnAssign):
            name = ast.unparse(here.target)
            assert isinstance(after, ast.Expr)
            said = " ".join(str(ast.literal_eval(after.value)).split())
            kind = _kind(hints[name])
            if unit := _unit(name):
                kind += f", {unit}"
            shown = _source(here.value, defaults[name].default)
            yield _row(f"`{name}`", Flag(name, kind, shown, said))


def _is_config(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def _row(name: str, flag: Flag) -> str:
    cells = (name, flag.kind, flag.default, flag.said)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _flag(name: str, hint: Any) -> str:
    plain = name.replace("_", "-")
    return f"--{plain}, --no-{plain}" if hint is bool else f"--{plain}"


def _unit(name: str) -> str:
    fits = [end for end in UNITS if name.endswith(end)]
    return UNITS[max(fits, key=len)] if fits else ""


def _kind(hint: Any) -> str:
    """A type in words: `int`, `one of demo, play`, `path or none`, `names`."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _kind(inside[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{each}`" for each in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("none" if each is type(None) else _kind(each) for each in inside)
    if origin is tuple and inside[-1] is ...:
        return f"any number of {_kind(inside[0])}"
    if origin is tuple:
        return f"{len(inside)} of {_kind(inside[0])}"
    if origin is not None and len(inside) == 2:
        return f"{_kind(inside[1])} by name"
    if is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    named = {Path: "path", str: "text", bool: "yes or no"}
    return named.get(hint, getattr(hint, "__name__", "any"))


def _source(node: ast.expr | None, value: Any) -> str:
    """A default as a person writes it: the value where it is plain, else its expression."""
    if node is None:
        return "required"
    if isinstance(node, ast.Name):
        return _shown(value)
    try:
        return _shown(ast.literal_eval(node))
    except ValueError:
        pass
    text = ast.unparse(node)
    if found := re.fullmatch(r"Path\('(.*)'\)", text):
        return f"`{found[1]}`"
    if text.startswith("field(default="):
        return _shown(value)
    if text.startswith("field(default_factory=dict"):
        return ""
    if text.startswith("field(") or re.fullmatch(r"\w+\(\)", text):
        return "its own defaults"
    return f"`{text}`"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f"`{' '.join(map(str, value))}`" if value else ""
    return f"`{value}`" if str(value) else ""


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def pages() -> dict[Path, str]:
    """Every page and its text."""
    return {PAGES / "cli.md": cli_page(), PAGES / "config.md": config_page()}


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
