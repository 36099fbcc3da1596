"""Composition of an offline buffer: Table IV and Fig. 7, of what was made next to what was wanted.

Takes a finished or unfinished buffer; draws on a figure of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from lwd.episode.types import Kind
from lwd.eval.figures import INK, STYLE
from lwd.sim.collect.composition import CELLS, Buffer, Stream
from lwd.store.disk import written_aside

TITLES = ("Demo", "Rollout (Succ)", "Rollout (Fail)", "Play")
SUCCESS, FAILURE = "#2f8f5b", "#c0504d"
SHADES = {"demo": 1.0, "success": 0.55, "failure": 1.0, "play": 0.55}
"""How strong a cell's colour is; demonstrations and successes are green, the rest is red."""
GROCERY = ("restocking", "correction", "freezer", "cooler")
_SMALL = 0.03
"""A wedge of less than this part has no label of its own."""

Seconds = Mapping[tuple[str, str], float]
"""(task, cell) to robot seconds."""


def made_and_wanted(buffer: Buffer) -> tuple[Seconds, Seconds]:
    """Robot seconds of every cell."""
    both = buffer.seconds()
    return {k: made for k, (made, _) in both.items()}, {k: w for k, (_, w) in both.items()}


def rows(buffer: Buffer) -> list[list[str]]:
    """Table IV: a row for each task and one for all, made / wanted hours; then what did not fit."""
    made, wanted = made_and_wanted(buffer)
    invalid, found = buffer.invalid(), []
    for name, tasks in [*((t, [t]) for t in buffer.tasks), ("all tasks", buffer.tasks)]:
        cells = [[(task, cell) for task in tasks] for cell in CELLS]
        pairs = [(sum(made[k] for k in c), sum(wanted[k] for k in c)) for c in cells]
        pairs.append((sum(p[0] for p in pairs), sum(p[1] for p in pairs)))
        attempts = [e for e in buffer.entries if e.task in tasks]
        kept = sum(bool(entry.cell) for entry in attempts)
        counts = (len(attempts), kept, sum(invalid[task] for task in tasks))
        found.append([name, *(f"{_h(m)} / {_h(w)}" for m, w in pairs), *map(str, counts)])
    return found


def line(buffer: Buffer) -> str:
    """How far a buffer has come, in one line."""
    made, wanted = made_and_wanted(buffer)
    kept = sum(bool(entry.cell) for entry in buffer.entries)
    return (
        f"{_h(sum(made.values()))} of {_h(sum(wanted.values()))} h, {kept} episodes kept of "
        f"{len(buffer.entries)} attempts, {sum(buffer.invalid().values())} invalid"
    )


HEAD = ("Task", *TITLES, "Total", "Attempts", "Kept", "Invalid")


def table(buffer: Buffer) -> Table:
    """The rows for a terminal."""
    shown = Table(title=f"offline buffer, hours made / wanted at scale {buffer.scale:g}")
    for name in HEAD:
        shown.add_column(name, justify="left" if name == "Task" else "right")
    for row in rows(buffer):
        shown.add_row(*row)
    return shown


def missing(buffer: Buffer) -> list[str]:
    """A line for each cell that is not full, and why."""
    return [
        f"{stream.task}, {cell}: {_h(stream.made[cell])} of {_h(stream.wanted[cell])} h after "
        f"{stream.attempts} attempts{_reason(stream, buffer)}"
        for stream in buffer.streams
        for cell in stream.wanted
        if stream.needs(cell)
    ]


def _reason(stream: Stream, buffer: Buffer) -> str:
    if stream.given_up:
        return ", as many as --effort allows"
    without = stream.kind is Kind.ROLLOUT and not buffer.policies
    return "; rollouts need --policies" if without else ""


def write(buffer: Buffer, folder: Path) -> tuple[Path, Path]:
    """Write table.md and composition.png into a folder."""
    lines = ["| " + " | ".join(row) + " |" for row in (HEAD, ["---"] * len(HEAD), *rows(buffer))]
    text = f"Hours made / wanted at scale {buffer.scale:g}.\n\n" + "\n".join(lines) + "\n"
    text += "".join(f"\nNot filled: {line}." for line in missing(buffer)) + "\n"
    with written_aside(folder / "table.md") as file:
        file.write(text.encode())
    with written_aside(folder / "composition.png") as file:
        draw(buffer).savefig(file, format="png", dpi=130)
    return folder / "table.md", folder / "composition.png"


def draw(buffer: Buffer) -> Figure:
    """Fig. 7: by task, and by source coloured by outcome; a thin ring is what was wanted."""
    made, wanted = made_and_wanted(buffer)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.6), layout="constrained")
        by_task, by_source = figure.subplots(1, 2)
        tasks = buffer.tasks
        of_task = _sums(made, tasks, 0), _sums(wanted, tasks, 0)
        # The small wedges in the middle of the right side, where their labels have most room.
        grocery = sum(part for task, part in zip(tasks, of_task[1], strict=True) if task in GROCERY)
        start = 180 * float(grocery) / max(float(of_task[1].sum()), 1e-9)
        _rings(by_task, tasks, *of_task, _task_colours(tasks), start=start)
        of_cell = _sums(made, CELLS, 1), _sums(wanted, CELLS, 1)
        colours = [_cell_colour(cell) for cell in CELLS]
        _rings(by_source, TITLES, *of_cell, colours)
        good = sum(s for (_, cell), s in made.items() if cell in ("demo", "success"))
        total = sum(made.values())
        share = good / total if total else 0.0
        by_task.set_title("(a) By task: grocery green, long-horizon red")
        by_source.set_title(f"(b) By source: {share:.1%} successful, {1 - share:.1%} failure")
        figure.suptitle(
            f"Offline buffer: {_h(total)} of {_h(sum(wanted.values()))} h. "
            "Broad ring: made. Thin outer ring: wanted."
        )
    return figure


def _rings(
    axes: Axes,
    names: Sequence[str],
    made: np.ndarray,
    wanted: np.ndarray,
    colours: list[str],
    *,
    start: float = 90.0,
) -> None:
    """Broad ring and thin ring, clockwise from an angle in degrees."""
    axes.set_axis_off()
    edge = {"edgecolor": "white", "linewidth": 1.0}
    total = max(made.sum(), 1e-9)
    axes.pie(
        wanted, radius=1.0, colors=colours, startangle=start, counterclock=False,
        wedgeprops={**edge, "width": 0.08, "alpha": 0.6},
    )  # fmt: skip
    labels = [
        f"{name}\n{part / total:.1%}, {_h(part)} h" if part / total >= _SMALL else ""
        for name, part in zip(names, made, strict=True)
    ]
    if made.sum() > 0:
        axes.pie(
            made, radius=0.88, colors=colours, startangle=start, counterclock=False,
            labels=labels, labeldistance=1.2, textprops={"fontsize": 8, "color": INK},
            wedgeprops={**edge, "width": 0.42},
        )  # fmt: skip


def _sums(seconds: Seconds, names: Sequence[str], part: int) -> np.ndarray:
    return np.array([sum(s for k, s in seconds.items() if k[part] == name) for name in names])


def _task_colours(tasks: Sequence[str]) -> list[str]:
    """Green shades for the grocery tasks, red ones for the others."""
    found = []
    for base, group in (
        (SUCCESS, [t for t in tasks if t in GROCERY]),
        (FAILURE, [t for t in tasks if t not in GROCERY]),
    ):
        for place in range(len(group)):
            found.append(_tint(base, 1.0 - 0.65 * place / max(len(group) - 1, 1)))
    return found


def _cell_colour(cell: str) -> str:
    return _tint(SUCCESS if cell in ("demo", "success") else FAILURE, SHADES[cell])


def _tint(colour: str, strength: float) -> str:
    """A colour mixed with white."""
    rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + strength * (part - 255)):02x}" for part in rgb)


def _h(seconds: float) -> str:
    """Hours with three digits that mean something."""
    return f"{seconds / 3600:.3g}"
