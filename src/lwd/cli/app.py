"""The command line: names of all commands, and what becomes of errors."""

import logging
import os
import sys
from functools import partial

from tyro.extras import SubcommandApp

from lwd.cli import fleet, processes, records
from lwd.cli.diagnose import diagnose
from lwd.cli.exchange import data, export_, import_
from lwd.cli.prepare import normstats, plan
from lwd.cli.sim import sim
from lwd.cli.weights import weights
from lwd.errors import LwdError
from lwd.store.process import follow_parent

EXTRAS = {
    "plane": ("alembic", "bcrypt", "fastapi", "uvicorn"),
    "postgres": ("psycopg",),
    "learner": ("jax", "jaxtyping", "optax", "orbax"),
    "sim": ("daqp", "mink", "mujoco", "pydantic", "yaml"),
    "eval": ("matplotlib", "PIL"),
    "vla": ("PIL", "sentencepiece", "tokenizers"),
    "lerobot": ("av",),
    "serve": ("fastapi", "msgpack", "prometheus_client", "uvicorn", "websockets"),
    "observe": ("prometheus_client", "tensorboardX"),
    "rerun": ("rerun",),
    "wandb": ("wandb",),
}
"""Packages that only some commands need, by the extra that installs them."""
GROUPS = {
    "weights": (weights, "Published policies: which robot acts with which."),
    "snapshots": (records.snapshots, "Versions of the data set: compare, retain, collect."),
    "diagnose": (diagnose, "What a trained run is worth: its critic."),
    "normstats": (normstats, "Statistics that states and actions are normalised by."),
    "sim": (sim, "The simulated robots: measure, photograph, collect data."),
    "import": (import_, "Bring recordings in other formats into the fleet's data."),
    "export": (export_, "Write the fleet's data in other formats."),
    "data": (data, "Datasets in other formats: find and repair damage."),
}
"""Commands of two words: the first, and what the group is for."""

app = SubcommandApp()
for command in (*processes.COMMANDS, *fleet.COMMANDS, *records.COMMANDS, plan):
    app.command(command)
for name, (group, what_for) in GROUPS.items():
    app.command(group, name=name, help=what_for)


def main() -> None:
    """Entry point: one line for an expected error, a traceback only for a bug."""
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(name)s %(message)s")
    logging.getLogger("lwd").setLevel(os.environ.get("LWD_LOG", "INFO"))
    try:
        follow_parent()
        if sys.argv[1:2] == ["learner"]:
            asked = partial(processes.learner, algorithm=processes.asked_recipe(sys.argv))
            app.command(name="learner", help=processes.learner.__doc__)(asked)
        app.cli(prog="lwd", description="Learning while Deploying.")
    except LwdError as error:
        sys.exit(f"lwd: {error}")
    except ModuleNotFoundError as error:
        sys.exit(_not_installed(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _not_installed(error: ModuleNotFoundError) -> str:
    """Which extra has the package; raises what is no package of ours again."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return (
                f"lwd: this command needs {package}, which is not installed: "
                f"pip install 'lwd[{extra}]', or 'lwd[all]' for every command."
            )
    raise error
