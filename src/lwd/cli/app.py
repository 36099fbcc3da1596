"""The command line: names of all commands, and what becomes of errors."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial

from tyro.conf import PositionalMetavarFromFieldName
from tyro.extras import SubcommandApp

from lwd.cli import fleet, overview, processes, records
from lwd.cli.diagnose import diagnose
from lwd.cli.exchange import data, export_, import_
from lwd.cli.prepare import normstats, plan
from lwd.cli.sim import sim
from lwd.cli.weights import weights
from lwd.errors import LwdError, unknown
from lwd.store.process import follow_parent

WHAT_FOR = "Learning while Deploying: robots at work teach the policy that they act with."
EXTRAS = {
    "plane": ("alembic", "bcrypt", "fastapi", "uvicorn"),
    "postgres": ("psycopg",),
    "learner": ("jax", "jaxtyping", "optax", "orbax"),
    "sim": ("daqp", "mink", "mujoco", "pydantic", "yaml"),
    "eval": ("matplotlib",),
    "vla": ("PIL", "sentencepiece", "tokenizers"),
    "lerobot": ("av",),
    "serve": ("fastapi", "msgpack", "prometheus_client", "starlette", "uvicorn", "websockets"),
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
SECTIONS: dict[str, tuple[Callable | str, ...]] = {
    "Begin here": (processes.demo, fleet.dashboard, records.status),
    "On a robot's machine": (processes.robot, processes.edge, records.spool),
    "The data plane": (
        processes.service,
        processes.queue,
        processes.coordinator,
        processes.token,
        processes.migrate,
    ),
    "Policies": (processes.learner, processes.serve, "weights", "diagnose", "normstats", plan),
    "Data": (
        records.episodes,
        "snapshots",
        records.lineage,
        records.amend,
        records.doctor,
        "import",
        "export",
        "data",
    ),
    "Simulation and trials": (fleet.fleet, "sim", fleet.suite, fleet.chaos),
}
"""Every command, functions and groups, under what it is for."""

app = SubcommandApp()
for command in (command for section in SECTIONS.values() for command in section):
    if isinstance(command, str):
        app.command(GROUPS[command][0], name=command, help=GROUPS[command][1])
    else:
        app.command(command)


def main() -> None:
    """Entry point: one line for an expected error, a traceback only for a bug."""
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(name)s %(message)s")
    logging.getLogger("lwd").setLevel(os.environ.get("LWD_LOG", "INFO"))
    try:
        if _overview(sys.argv[1:]):
            return
        _check(sys.argv[1:])
        follow_parent()
        if sys.argv[1:2] == ["learner"]:
            asked = partial(processes.learner, algorithm=processes.asked_recipe(sys.argv))
            app.command(name="learner")(asked)
        app.cli(prog="lwd", description=WHAT_FOR, config=(PositionalMetavarFromFieldName,))
    except LwdError as error:
        sys.exit(f"lwd: {error}")
    except ModuleNotFoundError as error:
        sys.exit(_not_installed(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output, `head` say, has enough; nothing is left for Python to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _overview(words: list[str]) -> bool:
    """Show what there is, if that is asked for: of everything, or of a group of commands."""
    if words in overview.ASKED:
        sections = {
            title: dict(
                (each, GROUPS[each][1]) if isinstance(each, str) else _named(each)
                for each in section
            )
            for title, section in SECTIONS.items()
        }
        overview.show("lwd", WHAT_FOR, sections)
        return True
    if words[0] in GROUPS and words[1:] in overview.ASKED:
        group, what_for = GROUPS[words[0]]
        targets = {name: spec.target for name, spec in group._subcommands.items()}
        commands = {n: overview.summary(t) for n, t in targets.items() if callable(t)}
        overview.show(f"lwd {words[0]}", what_for, {"Commands": commands})
        return True
    return False


def _check(words: list[str]) -> None:
    """ConfigError with the near misses if there is no such command."""
    group, name = app, "command"
    for word in words[:2]:
        if word not in group._subcommands and not word.startswith("-"):
            raise unknown(name, word, group._subcommands)
        if word not in GROUPS:
            return
        group, name = GROUPS[word][0], f"{word} command"


def _named(command: Callable) -> tuple[str, str]:
    return command.__name__, overview.summary(command)


def _not_installed(error: ModuleNotFoundError) -> str:
    """Which extra has the package; raises what is no package of ours again."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return (
                f"lwd: this command needs {package}, which is not installed: "
                f"pip install '.[{extra}]' in a checkout of lwd, or '.[all]' for every command."
            )
    raise error
