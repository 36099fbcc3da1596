"""Every recipe of the learner trained to its end on the toy's two throws, from the same data.

    python -m benchmarks.recipes [--seeds 6] [--only lwd recap] [--knobs 3]

Somebody throws at five spots; two hits in a row win (examples/01_divl_and_qam_on_a_toy.py). All
recipes get the record of the same games, the same supervised policy, as many updates after it and
as many games of their own. The rules know how often a policy wins, so that nothing is left to luck
but the training: seeds differ in record, networks and draws. Writes benchmarks/results/recipes.md
after every recipe; what is in --kept is not trained again, and the page names the commit it was
trained at.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.ogbench.ledger import replace
from benchmarks.recipes.games import BATCH, GAMES, RECORD, ROUNDS, throws
from benchmarks.recipes.nets import WIDTH
from benchmarks.recipes.training import (
    INV_TEMP,
    KNOBS,
    OFFLINE,
    ONLINE,
    SFT,
    Run,
    settings,
)
from benchmarks.record import REPOSITORY, commit, header
from lwd.algorithms.categorical import support


class Cell(NamedTuple):
    """What one recipe came to."""

    wins: np.ndarray
    """[seeds]"""
    commit: str
    """Of the code that trained it."""


def keep(path: Path, cell: Cell) -> None:
    """Write it whole or not at all."""
    replace(path, lambda file: np.savez(file, **cell._asdict()))


def kept(path: Path) -> Cell:
    """What `keep` wrote."""
    with np.load(path) as file:
        return Cell(file["wins"], str(file["commit"]))


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval (Student's t) in percent, over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    mean = 100 * values.mean()
    return f"{mean:.1f} [{mean - 100 * half:.1f}, {mean + 100 * half:.1f}]"


def table(found: Mapping[tuple[str, float], Cell], sft: Cell) -> list[str]:
    """Markdown rows; differences are paired over seeds."""
    base = found.get(("lwd", INV_TEMP))
    lines = [
        "| recipe | knob | wins after training, % | minus SFT | minus lwd, inv_temp 5 | commit |",
        "|---|---|---|---|---|---|",
        f"| SFT | | {interval(sft.wins)} | | | {sft.commit} |",
    ]
    rows = sorted(found.items(), key=lambda row: (list(KNOBS).index(row[0][0]), row[0][1]))
    for (name, strength), cell in rows:
        knob = "" if name == "hg_dagger" else f"{KNOBS[name][0]} {strength:g}"
        other = "" if base is None or cell is base else interval(cell.wins - base.wins)
        numbers = f"{interval(cell.wins)} | {interval(cell.wins - sft.wins)} | {other}"
        lines.append(f"| {name} | {knob} | {numbers} | {cell.commit} |")
    return lines


def main(arguments: Sequence[str] = ()) -> None:
    """Train all, write the table after each: the middle value of every knob, then the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=list(KNOBS))
    parser.add_argument("--knobs", type=int, choices=(1, 3), default=3)
    parser.add_argument("--kept", type=Path, default=Path("runs/recipes"))
    options = parser.parse_args(arguments)
    code = commit()  # of what is imported now, whatever is committed while it runs
    supervised, wins = start(options.seeds)
    found: dict[tuple[str, float], Cell] = {}
    for name, strength in order(options.only, options.knobs):
        path = options.kept / f"{name}-{strength:g}-seeds-{options.seeds}.npz"
        if not path.exists():
            run = Run(name, strength, options.seeds, supervised)
            run.to_the_end()
            keep(path, Cell(run.wins(), code))
        cell = found[name, strength] = kept(path)
        print(name, strength, interval(cell.wins), cell.commit, file=sys.stderr, flush=True)
        out = REPOSITORY / "benchmarks" / "results" / "recipes.md"
        out.write_text(page(options, table(found, Cell(wins, code))))


def order(names: Sequence[str], knobs: int) -> list[tuple[str, float]]:
    """Which recipes with which strength, the middle ones first."""
    values = [(name, KNOBS[name][1]) for name in names]
    middle = [(name, each[len(each) // 2]) for name, each in values]
    others = [(name, one) for name, each in values for one in each if (name, one) not in middle]
    return middle + (others if knobs == 3 else [])


def start(seeds: int) -> tuple[Any, np.ndarray]:
    """The supervised policies that all recipes start from, and how often they win."""
    plain = Run("lwd", INV_TEMP, seeds)
    return plain.supervise(), plain.wins()


def page(options: argparse.Namespace, rows: list[str]) -> str:
    """What is written."""
    ceiling = 100 * float(throws.chance(np.arange(2), throws.TARGETS).prod())
    return (
        f"# Every recipe on two throws\n\n{header(_command(options))}\n"
        f"Wins by the rules of the toy. {RECORD} recorded games, {SFT} supervised updates, then "
        f"{OFFLINE + ONLINE} updates and {ROUNDS * GAMES} games of its own for each recipe, batch "
        f"{BATCH}, two layers of {WIDTH}; {options.seeds} seeds of record and networks, mean and "
        f"95 % interval over them, differences paired. The record's exact tilt at inv_temp "
        f"{INV_TEMP:g}, by the exact critic of `lwd`, wins {100 * exact_tilt():.1f} %, which "
        f"bounds no recipe: all learn from games of their own, too; whoever always throws at the "
        f"targets {ceiling:.1f} %. The knob is what says how far a recipe leaves the supervised "
        f"policy; nothing was chosen by the results, all that was run is shown. `qam_edit` and "
        f"`qam_fql` have inv_temp {INV_TEMP:g}; all else is as the recipes have it. Nobody "
        f"intervenes, so that `hg_dagger` imitates the record and the games that were won.\n\n"
    ) + "\n".join([*rows, ""])


def exact_tilt() -> float:
    """How often the record wins, tilted by its own Q with V at the levels of `lwd`'s RL stages."""
    (divl,) = {
        stage.divl for name, stage in settings("lwd", INV_TEMP).stages.items() if name != "sft"
    }
    levels = {name: getattr(divl, name) for name in ("tau_base", "alpha", "tau_min", "tau_max")}
    exact = throws.solve(INV_TEMP, support(divl.v_min, divl.v_max, divl.atoms), levels)
    hits = [throws.chance(turn, one.tilted).mean() for turn, one in enumerate(exact)]
    return float(np.prod(hits))


def _command(options: argparse.Namespace) -> str:
    chosen = "" if options.only == list(KNOBS) else f" --only {' '.join(options.only)}"
    return f"python -m benchmarks.recipes --seeds {options.seeds} --knobs {options.knobs}{chosen}"


if __name__ == "__main__":
    main(sys.argv[1:])
