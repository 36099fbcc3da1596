"""What a trained run is worth: its critic."""

import json
from pathlib import Path
from typing import Annotated

from tyro.conf import arg
from tyro.extras import SubcommandApp

from lwd.cli.flags import Plane, Rate
from lwd.config import (
    DiagnosisConfig,
    PlaneConfig,
    control,
)

Diagnosis = Annotated[DiagnosisConfig, arg(name="")]

diagnose = SubcommandApp()


@diagnose.command
def critic(
    wanted: Diagnosis = DiagnosisConfig(),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
    recipe: str = "lwd",
    rate: Rate = "compact",
    out: Path | None = None,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Examine a run's critic on episodes that it was not trained on: does it rank actions or only
    states, do V and Q mean what they say, how far does dQ/da reach.

    For example:
        lwd diagnose critic --root runs/demo --episodes 10

    Args:
        wanted: Episodes, and what is asked of them.
        plane: The run: its checkpoints, and its catalog where recorded episodes are wanted.
        recipe: Recipe of a run from before checkpoints kept their settings; others know theirs.
        rate: Control preset of such a run.
        out: Folder of critic.json and critic.png; ROOT/diagnosis if none is given.
        as_json: Print the findings as one JSON object instead of tables.
    """
    from rich.console import Console

    from lwd.eval.critic import examine, to_json, write
    from lwd.eval.critic_table import render
    from lwd.learner.recipes import recipe as find_recipe
    from lwd.sim.tasks import task

    for name in wanted.tasks:
        task(name)
    found = examine(plane, find_recipe(recipe, control(rate)), wanted)
    paths = write(found, out or plane.root / "diagnosis")
    if as_json:
        print(json.dumps(to_json(found)))
        return
    Console().print(render(found))
    print(*paths)
