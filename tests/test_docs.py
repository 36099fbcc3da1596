"""What README and the pages say is so: commands parse, links lead somewhere, code runs."""

import ast
import functools
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tyro
from scripts import reference
from tyro.conf import PositionalMetavarFromFieldName
from tyro.extras import SubcommandApp

import lwd
from lerobot.datasets import v3
from lwd import cli
from lwd.cli.processes import asked_recipe
from lwd.config import PlaneConfig
from lwd.learner.recipes import recipe
from lwd.store.catalog import Catalog

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LINKED = [*PAGES, *reference.pages()]
SOURCES = sorted((ROOT / "src" / "lwd").rglob("*.py"))


def fences(page: Path, language: str) -> list[str]:
    """Bodies of the code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def code_lines(page: Path) -> Iterator[str]:
    """Lines of shell blocks without comments, and code spans in the text."""
    for block in fences(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            yield re.sub(r"\s+#.*", "", line).strip()
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    yield from (span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text))


def lines_with(program: str) -> list[str]:
    """What the pages run with a program, each once, environment variables left out."""
    found = {re.sub(r"^(\w+=\S+ )+", "", line) for page in PAGES for line in code_lines(page)}
    return sorted(line for line in found if line.startswith(f"{program} "))


def functions(group: SubcommandApp, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], Callable]:
    """Words of every command in a group to its function."""
    found = {}
    for name, command in group._subcommands.items():
        if isinstance(command.target, SubcommandApp):
            found |= functions(command.target, (*words, name))
        else:
            found[*words, name] = command.target
    return found


FUNCTIONS = functions(cli.app)


def parse(line: str) -> None:
    """Parse a command line as `lwd` does, without doing what it says; SystemExit if it cannot.

    A command without its arguments, as a text mentions it, only has to be there.
    """
    _, *words = shlex.split(line)
    path = next((path for path in FUNCTIONS if list(path) == words[: len(path)]), None)
    if path is None:
        if words == ["--help"] or words in [[*path[:1]] for path in FUNCTIONS]:
            return
        sys.exit(f"{line}: there is no such command")

    @functools.wraps(FUNCTIONS[path])
    def nothing(*arguments: object, **settings: object) -> None:
        """Stands in for the command."""

    given = words[len(path) :]
    if given not in ([], ["--help"]):
        settings = {"algorithm": asked_recipe(given)} if path == ("learner",) else {}
        tyro.cli(functools.partial(nothing, **settings), args=given)


@pytest.mark.parametrize("line", lines_with("lwd"))
def test_every_command_on_the_pages_parses(line):
    parse(line)


@pytest.mark.parametrize("line", ["lwd fly", "lwd edge --rooot x", "lwd queue --port ten"])
def test_a_wrong_command_does_not_parse(line, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(line)
    assert ended.value.code != 0


def test_every_command_is_on_a_page():
    said = [tuple(line.split()[1:3]) for line in lines_with("lwd")]
    missing = [path for path in FUNCTIONS if not any(words[: len(path)] == path for words in said)]
    assert missing == []
    assert len(FUNCTIONS) >= 9


@pytest.mark.parametrize("path", reference.pages(), ids=lambda path: path.name)
def test_a_page_of_the_reference_is_what_the_code_says(path):
    assert path.read_text() == reference.pages()[path], "stale: run `make reference`"


@pytest.mark.parametrize("path", FUNCTIONS, ids=" ".join)
def test_a_command_has_an_example_and_its_flags_on_the_page(path, capsys):
    examples = reference.examples(FUNCTIONS[path])
    assert examples
    assert all(tuple(shlex.split(line)[1 : 1 + len(path)]) == path for line in examples)
    for line in examples:
        parse(line)
    with pytest.raises(SystemExit):
        tyro.cli(FUNCTIONS[path], args=["--help"], config=(PositionalMetavarFromFieldName,))
    helped = capsys.readouterr().out
    assert all(line in helped for line in examples)
    shown = set(re.findall(r"^[│ ] (--[a-z][\w-]*)(?![\w.-])", helped, re.MULTILINE))
    placed, named = reference.own_flags(FUNCTIONS[path])
    here = {flag.names.partition(",")[0] for flag in named}
    for settings in reference.settings(FUNCTIONS[path]):
        here |= {f"--{field.replace('_', '-')}" for field in settings.__annotations__}
    assert shown <= here | {"--catalog", "--objects"}, "tyro has flags that the page lacks"
    assert {flag.names.partition(",")[0] for flag in named} <= shown
    assert [flag.names for flag in placed if f" {flag.names}" not in helped.replace("[", "")] == []


def test_the_episodes_recorded_by_hand_are_those_that_the_learner_waits_for():
    stages = recipe("lwd").stages
    robots = [shlex.split(line) for line in lines_with("lwd") if line.startswith("lwd robot ")]
    asked = {
        words[words.index("--kind") + 1]: int(words[words.index("--episodes") + 1])
        for words in robots
        if "--episodes" in words
    }
    assert asked["demo"] == stages["sft"].episodes
    assert asked["demo"] + asked["rollout"] == stages["offline"].episodes
    text = (ROOT / "README.md").read_text()
    assert f"SFT at {stages['sft'].episodes} demonstrations" in text
    assert f"offline RL at {stages['offline'].episodes} episodes" in text


def test_every_target_on_the_pages_is_in_the_makefile():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = {word for line in lines_with("make") for word in re.findall(r" ([a-z]+)\b(?!=)", line)}
    assert {"demo", "test", "check", "bench"} <= said
    assert said <= set(targets)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    paths = [target.partition("#")[0] for target in targets if "://" not in target]
    assert [path for path in paths if not (page.parent / path).exists()] == []


def anchors(page: Path) -> set[str]:
    """What a link may name on a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_into_a_page_leads_to_a_heading(page):
    links = re.findall(r"\]\(([\w./-]*\.md)#([\w-]+)\)", page.read_text())
    assert [link for link in links if link[1] not in anchors(page.parent / link[0])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page):
    spans = re.findall(r"`((?:src|tests|docs|benchmarks|\.ci)/[\w./-]+)`", page.read_text())
    assert [path for path in spans if not (ROOT / path).exists()] == []


@pytest.fixture
def signals() -> Iterator[None]:
    """A process of `lwd` takes SIGTERM and SIGINT; give them back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if fences(page, "python")], ids=lambda page: page.name
)
def test_the_code_on_a_page_runs(page, tmp_path, monkeypatch, signals):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for number, block in enumerate(fences(page, "python")):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def section(page: Path, title: str) -> str:
    """The text below a heading, up to the next one."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page.read_text(), re.M | re.S)
    return found


def test_the_quickstart_takes_in_a_dataset_and_gives_it_back_corrected(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    v3(tmp_path / "datasets" / "pick_cube", lengths=(4, 5, 6))
    text = section(ROOT / "docs" / "quickstart.md", "Five minutes: your data")
    (block,) = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    for line in block.splitlines():
        words = [os.path.expanduser(word) for word in shlex.split(line, comments=True)]
        if words[1] == "dashboard":  # what a person does on the page
            with Catalog(PlaneConfig(root=Path("runs/mine")).catalog) as catalog:
                last = catalog.newest_episodes(1)[0].episode_id
                catalog.amend(last, "tombstone", "", author="me", reason="the camera was covered")
        else:
            monkeypatch.setattr(sys, "argv", words)
            cli.main()
    said = capsys.readouterr().out
    assert "3 of 3 episodes imported" in said
    assert f"2 of 2 episodes, 9 frames: {tmp_path}/datasets/corrected" in said


def templates() -> str:
    """All texts in the source, one a line, with … where a value is filled in."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            constants = [part.value if isinstance(part, ast.Constant) else "…" for part in parts]
            text = "".join(part for part in constants if isinstance(part, str))
            found.append(re.sub(r"%[-.\d]*[sdf]", "…", text))
    return "\n".join(found)


def test_the_messages_on_the_page_are_those_of_the_code():
    known = templates()
    blocks = fences(ROOT / "docs" / "troubleshooting.md", "text")
    quoted = [line.removeprefix("lwd: ") for block in blocks for line in block.splitlines()]
    assert len(quoted) > 10
    assert [line for line in quoted if line not in known] == []


def test_the_files_of_a_run_have_the_names_that_the_code_gives_them():
    blocks = fences(ROOT / "docs" / "architecture.md", "")
    (tree,) = (block for block in blocks if block.startswith("ROOT/"))
    names = re.findall(r"^  ([\w.]+)", tree, re.MULTILINE)
    known = templates()
    missing = [name for name in names if not re.search(rf"^(…/)?{re.escape(name)}$", known, re.M)]
    assert missing == []
    assert len(names) > 10


def undocumented() -> list[str]:
    """Fields of `lwd.config` that no docstring follows, as CLASS.FIELD."""
    found = []
    sources = sorted((ROOT / "src" / "lwd" / "config").glob("*.py"))
    for node in (node for source in sources for node in ast.parse(source.read_text()).body):
        if isinstance(node, ast.ClassDef):
            for here, after in zip(node.body, [*node.body[1:], None], strict=True):
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if isinstance(here, ast.AnnAssign) and not said:
                    found.append(f"{node.name}.{ast.unparse(here.target)}")
    return found


def test_every_setting_is_documented():
    assert undocumented() == []
    assert len(list((ROOT / "src" / "lwd" / "config").glob("*.py"))) > 3


def test_the_readme_shows_one_real_run():
    text = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"<!-- demo-output -->(.*?)<!-- /demo-output -->", text, re.DOTALL)
    assert "held-out success" in shown
    assert re.search(r"0 lost,( \d+ invalid,)? 0 doubled", shown)


def test_everybody_agrees_on_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == lwd.__version__
    assert f"\nversion: {lwd.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {lwd.__version__} - " in (ROOT / "CHANGELOG.md").read_text()


def test_an_unknown_benchmark_is_answered_with_all_there_are():
    command = [sys.executable, "-m", "benchmarks", "sim_sped"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Did you mean 'sim_speed'?" in ended.stderr
