"""`python -m benchmarks.ogbench.report` writes benchmarks/results/ogbench.md from the cells' files.

It needs neither the package nor its environments. Rates have Wilson intervals over all episodes;
with several seeds there is also a bootstrap over seeds, which is the wider and the honest one.
"""

import argparse
import json
import shlex
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ogbench.run import GRID
from benchmarks.record import REPOSITORY, header
from lwd.eval.intervals import compare, wilson

Cell = dict[str, Any]


def cells(folder: Path) -> list[Cell]:
    """All cells below a folder that have been evaluated."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/cell.json"))]
    return [cell for cell in found if cell["evaluations"]]


def seeds_at(group: list[Cell], updates: int) -> dict[str, list[int]]:
    """Successes by seed after so many updates."""
    entries = [entry for cell in group for entry in cell["evaluations"]]
    return {
        seed: successes
        for entry in entries
        if entry["updates"] == updates
        for seed, successes in entry["successes"].items()
    }


def over_seeds(rates: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean over seeds."""
    drawn = np.random.default_rng(0).choice(rates, size=(draws, len(rates))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def shown(successes: dict[str, list[int]]) -> str:
    """Rate and intervals of one place in the table."""
    if not successes:
        return "-"
    done, episodes = sum(map(sum, successes.values())), sum(map(len, successes.values()))
    low, high = wilson(done, episodes)
    text = f"{done / episodes:.0%} [{low:.0%}, {high:.0%}] ({done}/{episodes})"
    if len(successes) > 1:
        rates = np.array([np.mean(found) for found in successes.values()])
        low, high = over_seeds(rates)
        text += f"; {len(rates)} seeds [{low:.0%}, {high:.0%}]"
    return text


def against(group: list[Cell], reference: list[Cell], updates: int) -> str:
    """Rate minus that of the reference on the same starts of the same seeds, with interval."""
    first, second = seeds_at(group, updates), seeds_at(reference, updates)
    common = sorted(first.keys() & second.keys())
    if group == reference or not common:
        return "-"
    pooled = (
        np.concatenate([np.array(one[seed], bool) for seed in common]) for one in (first, second)
    )
    found = compare(*pooled)
    return f"{found.difference:+.0%} [{found.low:+.0%}, {found.high:+.0%}], p = {found.p_value:.2g}"


def table(found: list[Cell]) -> str:
    """Success by agent, cell and updates, and the last of them against one cell of the authors'
    code: the one that the grid has, else the first."""
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in found:
        groups[cell["agent"], cell["cell"]].append(cell)
    stops = sorted({entry["updates"] for cell in found for entry in cell["evaluations"]})
    ordered = sorted(groups.items(), key=_order)
    (first, name), official = ordered[0]  # the authors' code, if it ran
    reference = f"official {name}"
    if first != "official":
        reference, official = "official", []
    lines = ["| code | critic | extractor | T | ms/update | " + " | ".join(map(str, stops))]
    lines[0] += f" | minus {reference} at {stops[-1]} |"
    lines.append("|" + "---|" * (6 + len(stops)))
    for (agent, name), group in ordered:
        row = [agent, *name.split(":"), _fastest(group)]
        row += [shown(seeds_at(group, stop)) for stop in stops]
        lines.append("| " + " | ".join([*row, against(group, official, stops[-1])]) + " |")
    return "\n".join(lines)


def _order(item: tuple[tuple[str, str], list[Cell]]) -> tuple[bool, int, str]:
    """The authors' code first, then the grid from left to right."""
    (agent, name), _ = item
    return agent != "official", _column(name), name


def _column(name: str) -> int:
    """Where a cell stands in the grid; behind it if it is none of it."""
    return GRID.index(name) if name in GRID else len(GRID)


def _fastest(group: list[Cell]) -> str:
    """Milliseconds per update, if any process of the group trained."""
    times = [entry["ms_per_update"] for cell in group for entry in cell["evaluations"]]
    times = [ms for ms in times if ms is not None]
    return f"{min(times):.1f}" if times else "-"


def section(folder: Path) -> str:
    """Title, facts and table of the cells of one task, reward, size and training."""
    found = cells(folder)
    one = found[0]
    domain, kind, task = one["task"]
    commits = sorted({entry["commit"] for cell in found for entry in cell["evaluations"]})
    ran = {(cell["agent"], cell["cell"]) for cell in found}
    missing = [name for name in GRID if ("lwd", name) not in ran]
    if not any(agent == "official" for agent, _ in ran):
        missing.append("the authors' code")
    trained = f"batch {one['batch']}, learning rate {one['learning_rate']:g}"
    facts = {
        "command": f"`{_command(found)}`; the authors' code: `benchmarks.ogbench.official`",
        "commits of the runs": ", ".join(commits),
        "training transitions": ", ".join(sorted({str(cell["frames"]) for cell in found})),
        "not run": ", ".join(missing) or "nothing of the grid",
    }
    lines = [f"## {domain}-{kind}, task {task}, {one['size']} networks, {trained}\n"]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines.append("- columns of numbers: success after that many updates\n")
    return "\n".join(lines) + "\n" + table(found) + "\n"


def _command(found: list[Cell]) -> str:
    """What runs these cells of ours again."""
    one, entries = found[0], [entry for cell in found for entry in cell["evaluations"]]
    domain, kind, task = one["task"]
    chosen = {cell["cell"] for cell in found if cell["agent"] == "lwd"}
    asked: dict[str, list[Any]] = {
        "domain": [domain],
        "kind": [kind],
        "task": [task],
        "reward": [one["reward"]],
        # An episode of the data has 1000 transitions; the folder is named after the episodes.
        "data": [f"runs/ogbench/data/{one['frames'] // 1000}"],
        "cells": sorted(chosen, key=_column),
        "size": [one["size"]],
        "batch": [one["batch"]],
        "learning-rate": [one["learning_rate"]],
        "updates": [max(entry["updates"] for entry in entries)],
        "eval-episodes": [len(next(iter(entries[0]["successes"].values())))],
        "seeds": sorted({seed for cell in found for seed in cell["seeds"]}),
    }
    words = [word for name, values in asked.items() for word in (f"--{name}", *map(str, values))]
    return shlex.join(["python", "-m", "benchmarks.ogbench.run", *words])


ABOUT = """Success on OGBench, the package's own environments and measure, by offline agents trained
on data that the package's oracles made here (`benchmarks/ogbench/generate.py`). `official` is the
authors' QAM code, `lwd` this project's algorithms in agents of the same shape: same data, networks,
batch, updates, starts. Small networks and little data: the rates say nothing about published ones.
Small: 2 layers of 128, 2 critics; full: 4 layers of 512, 10 critics. Rewards: `package` counts the
objects that are out of place, `authors` is -1 until all are in place, as in the QAM paper for scene
and puzzle. Intervals are Wilson 95 % over episodes, differences are over the same starts with a
bootstrap interval and McNemar's p. ms/update is the fastest 100 updates of a run on a machine that
did other work at the same time: not a measurement of speed. Learning rate and number of updates
were chosen by iql x best_of_n, 20 episodes each, so that iql is favoured: qam_td's values are still
falling after 20000 updates. A cell with one seed has intervals that leave out what another seed of
training would give. A difference from `official` is one of code only where critic, extractor and T
are the same; inv_temp is the authors' for sparse rewards, with the package's it tilts further.
"""


def main() -> None:
    """Write the report of all cells there are."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--cells", type=Path, default=Path("benchmarks/results/ogbench"))
    ask.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks/results/ogbench.md")
    options = ask.parse_args()
    folders = [folder for folder in sorted(options.cells.glob("*")) if cells(folder)]
    if not folders:
        sys.exit(f"no evaluated cell below {options.cells}; see benchmarks/ogbench/README.md")
    command = shlex.join(["python", "-m", "benchmarks.ogbench.report", *sys.argv[1:]])
    parts = ["# OGBench: the project's algorithms and the authors' QAM code\n", header(command)]
    options.out.write_text("\n".join([*parts, ABOUT, *map(section, folders)]))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
