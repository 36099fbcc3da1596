"""The simulated robots: measure, photograph, collect data."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from lwd.cli.flags import AsJson, Rate
from lwd.config import control
from lwd.config.collection import CollectConfig
from lwd.errors import ConfigError

if TYPE_CHECKING:
    from lwd.sim.collect.composition import Buffer

Collect = Annotated[CollectConfig, arg(name="")]

sim = SubcommandApp()


@sim.command
def expert(
    task: str = "restocking",
    episodes: int = 50,
    seed: int = 0,
    rate: Rate = "compact",
    held_out: bool = False,
    workers: int = 2,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Measure the scripted expert of a task.

    For example:
        lwd sim expert --task freezer --episodes 20

    Args:
        task: Task to measure.
        episodes: Number of episodes.
        seed: Seed of the first episode; the others follow.
        rate: Control preset.
        held_out: Draw scenes from the held-out split.
        workers: Processes to share the episodes.
        as_json: Print one JSON object.
    """
    from lwd.sim.measure import expert_success

    measured = expert_success(
        task, episodes, seed, control(rate), held_out=held_out, workers=workers
    )
    if as_json:
        names = ("successes", "episodes", "invalid", "failed_seeds", "score", "mean_s", "cpu_s")
        counts = {name: getattr(measured, name) for name in names}
        print(json.dumps({"task": task, "rate": rate, "held_out": held_out, **counts}))
    else:
        print(measured)


@sim.command
def sheet(
    out: Positional[Path],
    task: str = "restocking",
    seed: int = 0,
    rate: Rate = "compact",
    held_out: bool = False,
    episode: Path | None = None,
    tasks: tuple[str, ...] = (),
) -> None:
    """Photograph an episode as a PNG, a row of pictures for each second, in long tasks more rarely:
    the expert's, from its seed, or a recorded one of whoever acted, from its seed and its actions.

    For example:
        lwd sim sheet expert.png --task restocking --seed 7
        lwd sim sheet recorded.png --episode runs/demo/spool/robot-0/done/ID.arrow

    Args:
        out: PNG file to write.
        task: Task that the expert shows.
        seed: Seed of the scene.
        rate: Control preset.
        held_out: Draw the scene from the held-out split.
        episode: File of a recorded episode, which says task, seed, rate and split by itself.
        tasks: All tasks of the robot that recorded it, in their order, if it had several.
    """
    from lwd.episode.payload import decode
    from lwd.sim.render import contact_sheet, sheet_of

    if not out.parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent} for {out.name}; make it first.")
    if episode is None:
        shown = contact_sheet(task, seed, control=control(rate), held_out=held_out)
    elif episode.is_file():
        shown = sheet_of(decode(episode), tasks=tasks)
    else:
        raise ConfigError(f"there is no episode {episode}; give the file of a recorded one.")
    out.write_bytes(shown)
    print(out)


@sim.command
def collect(config: Collect = CollectConfig(), as_json: AsJson = False) -> None:  # noqa: B008
    """Make the offline buffer of Table IV, scaled down: demonstrations, rollouts of earlier
    policies with both outcomes, play. `lwd edge` uploads it from the spool.

    For example:
        lwd sim collect --scale 0.001 --tasks restocking --root runs/buffer

    Args:
        config: What and how much.
        as_json: Print made and wanted robot seconds of every cell as one JSON object.
    """
    from rich.console import Console

    from lwd.eval.composition import line, missing, table, write
    from lwd.sim.collect.run import collect as fill
    from lwd.store.process import stop_on_signals

    console, stop = Console(highlight=False, stderr=True), stop_on_signals()
    with console.status("collecting") as shown:

        def look(buffer: "Buffer") -> None:
            shown.update(line(buffer))
            if not console.is_terminal:
                console.print(line(buffer), soft_wrap=True)

        buffer = fill(config, stop=stop, look=look)
    paths = write(buffer, config.root / "collect")
    if as_json:
        cells = {
            f"{t}/{c}": {"made_s": m, "wanted_s": w} for (t, c), (m, w) in buffer.seconds().items()
        }
        print(json.dumps({"scale": buffer.scale, "cells": cells, "invalid": buffer.invalid()}))
        return
    page = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    page.print(table(buffer), *missing(buffer), *paths, sep="\n")
