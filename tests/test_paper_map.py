"""docs/paper-map.md is complete, and what it says about the code is so."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "paper-map.md").read_text()
NAMES = sorted(set(re.findall(r"`(lwd(?:\.\w+)+)`", PAGE)))


def rows(section: str) -> list[list[str]]:
    """Cells of the table below the heading that starts with `section`, without its heading."""
    body = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    text = next(part for part in body if part.startswith(section))
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def numbers(cell: str) -> list[int]:
    """`14–16, 20` to [14, 15, 16, 20]."""
    found = []
    for first, last in re.findall(r"(\d+)(?:–(\d+))?", cell):
        found += range(int(first), int(last or first) + 1)
    return found


def resolve(name: str) -> Any:
    """The module, function, class, method or dataclass field with this dotted name."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            fields = getattr(found, "__dataclass_fields__", {})
            found = fields[part] if part in fields else getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_page_exists(name):
    assert resolve(name) is not None


def test_the_resolver_refuses_names_that_do_not_exist():
    with pytest.raises(AttributeError):
        resolve("lwd.algorithms.divl.quantiles")
    with pytest.raises(ModuleNotFoundError):
        resolve("lwx.algorithms")


def test_every_equation_is_on_the_page_once():
    found = [number for row in rows("Equations") for number in numbers(row[0])]
    assert sorted(found) == list(range(1, 37))


@pytest.mark.parametrize(("algorithm", "lines"), [("Algorithm 1", 37), ("Algorithm 2", 12)])
def test_every_line_of_the_algorithms_is_on_the_page_once(algorithm, lines):
    found = [number for row in rows(algorithm) for number in numbers(row[0])]
    assert sorted(found) == list(range(1, lines + 1))


def cited(name: str) -> set[int]:
    """Equations that the object or the docstring of its module cites."""
    found = resolve(name)
    module = inspect.getdoc(importlib.import_module(found.__module__)) or ""
    text = f"{inspect.getsource(found)} {module}"
    return {
        int(n) for run in re.findall(r"Eq\.[\s(]*((?:\d+|, | and )+)", text) for n in numbers(run)
    }


@pytest.mark.parametrize("row", [row for row in rows("Equations") if "lwd.algorithms" in row[2]])
def test_the_maths_cites_the_equations_that_the_page_says_it_implements(row):
    names = re.findall(r"`(lwd\.algorithms[.\w]+)`", row[2])
    assert set(numbers(row[0])) <= set.union(*(cited(name) for name in names)), row


@pytest.mark.parametrize("row", rows("Hyperparameters"), ids=lambda row: row[0])
def test_the_defaults_are_those_on_the_page(row):
    field = resolve(row[2].strip("`"))
    assert isinstance(field, dataclasses.Field)
    assert field.default == pytest.approx(float(row[3]))


def test_the_default_discount_is_the_papers():
    control = resolve("lwd.config.FULL")
    assert control.discount() == pytest.approx(0.9999)
    compact = resolve("lwd.config.COMPACT")
    assert compact.discount() ** compact.rate_hz == pytest.approx(0.9999**30)


def test_every_path_on_the_page_exists():
    root = Path(__file__).parents[1]
    paths = re.findall(r"`((?:tests|docs|benchmarks)/[\w./-]+)`", PAGE)
    assert paths
    assert [path for path in paths if not (root / path).exists()] == []
