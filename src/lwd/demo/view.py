"""The live view of a run in the terminal."""

import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lwd.config import STAGES, DemoConfig
from lwd.demo.plan import Assignment
from lwd.demo.progress import (
    Progress,
    episode_latencies,
    model_latencies,
    percentiles,
    success_by_robot,
)
from lwd.episode.types import Kind, Outcome

BLOCKS = "▁▂▃▄▅▆▇█"
CURVES = (
    ("policy/sft_loss", "flow loss"),
    ("policy/qam_loss", "QAM loss"),
    ("value/loss", "V loss"),
    ("critic/loss", "Q loss"),
    ("value/tau", "τ"),
    ("value/entropy", "entropy"),
)
"""Metrics that are shown, with their names."""
KINDS = (
    (Kind.DEMO, "demo"),
    (Kind.PLAY, "play"),
    (Kind.ROLLOUT, "rollout"),
    (Kind.ONLINE, "online"),
)


def render(
    now: Progress, fleet: Sequence[Assignment], config: DemoConfig, started: float
) -> RenderableType:
    """The whole view."""
    updates = {s: getattr(config, f"{s}_updates") for s in STAGES}
    top = Table.grid(expand=True, padding=(0, 1))
    top.add_row(_learner(now, updates), _data(now))
    header = Text.assemble(
        ("Learning while Deploying", "bold"),
        f"   {config.robots} robots   seed {config.seed}   ",
        (now.phase, "bold cyan"),
        f"   {time.monotonic() - started:.0f} s",
    )
    return Group(header, top, _robots(now, fleet))


def line(now: Progress) -> str:
    """The view in one line, for logs."""
    report = now.metrics[-1] if now.metrics else {"stage": "-", "update": 0}
    rates = " ".join(f"{name}={_rate(now, kind)}" for kind, name in KINDS)
    return (
        f"{now.phase}: stage={report['stage']} update={report['update']} {rates} "
        f"produced={now.produced} acknowledged={now.acknowledged} "
        f"in_snapshot={len(now.episodes)} sampled={len(now.available)} weights={len(now.weights)}"
    )


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The last values as a row of blocks, scaled to their own range."""
    values = values[-width:]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((v - low) / span * (len(BLOCKS) - 1))] for v in values)


def console() -> Console:
    """Where the demo speaks."""
    return Console(highlight=False)


def _learner(now: Progress, updates: dict[str, int]) -> Panel:
    table = Table.grid(padding=(0, 1))
    report = now.metrics[-1] if now.metrics else {}
    for stage in STAGES:
        done = max((m["update"] for m in now.metrics if m["stage"] == stage), default=0)
        filled = round(20 * done / max(updates[stage], 1))
        bar = Text("━" * filled, "green") + Text("━" * (20 - filled), "bright_black")
        table.add_row(stage, bar, f"{done}/{updates[stage]}")
    for name, label in CURVES:
        values = [m[name] for m in now.metrics if m["stage"] == report.get("stage") and name in m]
        if values:
            table.add_row(label, Text(sparkline(values), "blue"), f"{values[-1]:.4g}")
    return Panel(table, title="learner", title_align="left")


def _data(now: Progress) -> Panel:
    table = Table.grid(padding=(0, 2))
    counts = (now.produced, now.acknowledged, len(now.episodes), len(now.available))
    for name, count in zip(("produced", "uploaded", "in snapshot", "sampled"), counts, strict=True):
        table.add_row(name, str(count))
    table.add_row("snapshot", f"v{now.snapshot}")
    for kind, name in KINDS:
        table.add_row(f"{name} success", _rate(now, kind))
    for name, found in (
        ("episode to learner", episode_latencies(now)),
        ("model to actor", model_latencies(now)),
    ):
        spread = percentiles(found)
        table.add_row(
            name, f"P50 {spread['p50']:.1f} s  P99 {spread['p99']:.1f} s" if found else "-"
        )
    return Panel(table, title="data", title_align="left")


def _robots(now: Progress, fleet: Sequence[Assignment]) -> Panel:
    versions = {load.robot: load.version for load in now.loads}
    online = success_by_robot(now.of(Kind.ONLINE))
    everything = success_by_robot(now.episodes)
    table = Table(box=None, padding=(0, 2), expand=True)
    for column in ("robot", "tasks", "weights", "episodes", "online", "success", "with help"):
        table.add_column(column, justify="left" if column in ("robot", "tasks") else "right")
    for robot in fleet:
        count = online[robot.name]
        table.add_row(
            robot.name,
            " ".join(robot.tasks),
            f"v{versions[robot.name]}" if robot.name in versions else "-",
            str(everything[robot.name]["episodes"]),
            str(count["episodes"]),
            f"{count['successes'] / count['episodes']:.0%}" if count["episodes"] else "-",
            str(count["human"]),
        )
    return Panel(table, title="fleet", title_align="left")


def _rate(now: Progress, kind: Kind) -> str:
    rows = now.of(kind)
    return f"{sum(r.outcome == Outcome.SUCCESS for r in rows)}/{len(rows)}" if rows else "-"
