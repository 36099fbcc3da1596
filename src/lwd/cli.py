"""The `lwd` command: every process and every tool, each a function with its flags.

What a command needs it imports itself, so that a robot's edge client loads no JAX.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from lwd.config import (
    DemoConfig,
    DiagnosisConfig,
    EdgeConfig,
    HostConfig,
    LearnerConfig,
    PlaneConfig,
    StageConfig,
    control,
)
from lwd.errors import LwdError
from lwd.exchange import COMMANDS as EXCHANGES
from lwd.fleet.command import COMMANDS as ROBOTS
from lwd.operate import COMMANDS, SIM_COMMANDS
from lwd.prepare import normstats, plan
from lwd.records import COMMANDS as ABOUT_RECORDS
from lwd.records import snapshots
from lwd.serve.command import COMMANDS as SERVING
from lwd.store.metrics import expose
from lwd.store.process import follow_parent

Rate = Literal["compact", "full"]
Scope = Literal["upload", "read", "publish", "consume", "operate"]
Plane = Annotated[PlaneConfig, arg(name="")]
Edge = Annotated[EdgeConfig, arg(name="")]
Algorithm = Annotated[LearnerConfig, arg(name="")]
Hosts = Annotated[HostConfig, arg(name="")]
Demo = Annotated[DemoConfig, arg(name="")]
Diagnosis = Annotated[DiagnosisConfig, arg(name="")]
UNTIL_ASKED = LearnerConfig(stages={"sft": StageConfig(updates=0, mixture={"demo": 1.0})})
"""Stands for the recipe that `lwd learner` is asked for; recipes load JAX."""
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

app = SubcommandApp()
for operator_command in (*COMMANDS, *ABOUT_RECORDS, *ROBOTS, *SERVING):
    app.command(operator_command)
app.command(snapshots, name="snapshots", help="Versions of the data set: compare, retain, collect.")
for exchange_name, exchange, what_for in EXCHANGES:
    app.command(exchange, name=exchange_name, help=what_for)
app.command(plan)
app.command(
    normstats, name="normstats", help="Statistics that states and actions are normalised by."
)
sim = SubcommandApp()
app.command(sim, name="sim", help="The simulated robots: measure, photograph, collect data.")
for simulator_command in SIM_COMMANDS:
    sim.command(simulator_command)
weights = SubcommandApp()
app.command(weights, name="weights", help="Published policies: which robot acts with which.")
diagnose = SubcommandApp()
app.command(diagnose, name="diagnose", help="What a trained run is worth: its critic.")


@app.command
def demo(config: Demo = DemoConfig()) -> None:  # noqa: B008
    """Run the whole ring on this machine: a simulated fleet teaches the policy that it runs."""
    from lwd.demo.run import run

    run(config)


@app.command
def edge(plane: Plane = PlaneConfig(), upload: Edge = EdgeConfig()) -> None:  # noqa: B008
    """Upload what the robots of this machine have spooled under ROOT/spool."""
    from lwd.edge.uploader import main

    expose(plane.metrics_port)
    main(plane.root / "spool", plane.objects, plane.service_url, edge=upload)


@app.command
def queue(
    root: Path = Path("runs/demo"),
    port: int = 4222,
    host: str = "127.0.0.1",
    tokens: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> None:
    """Run the embedded queue, a NATS JetStream server, and restart it when it dies.

    Args:
        root: Folder of the run; the queue keeps its files in ROOT/queue.
        port: Port to listen on.
        host: Address to listen on; others than the loopback need tokens and a certificate.
        tokens: File of the tokens that it accepts.
        tls_cert: Certificate chain (PEM), for tls:// queue URLs.
        tls_key: Private key (PEM) of the certificate.
    """
    from lwd.store.queue_config import Exposure
    from lwd.store.queue_server import serve_queue

    exposure = Exposure(host=host, tokens=tokens, tls_cert=tls_cert, tls_key=tls_key)
    serve_queue(root, port, exposure=exposure)


@app.command
def service(plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Run the metadata service, the one address that robots know besides the object store."""
    from lwd.store.service import serve

    expose(plane.metrics_port)
    serve(plane)


@app.command
def token(
    robot: Positional[str],
    tokens: Path = Path("tokens.json"),
    scopes: tuple[Scope, ...] = ("upload", "read"),
) -> None:
    """Issue a token for the metadata service or the queue and print it; it is stored nowhere.

    Args:
        robot: The robot whose episodes it may upload, `*` for any; or the queue's user.
        tokens: File of the hashes, which service and queue read at their start; made if missing.
        scopes: upload and read are a robot's; publish lets a service hand notices to the queue,
            consume lets a coordinator take them; operate lets a person act on the fleet's page.
    """
    from lwd.store.access import issue

    print(issue(tokens, robot, scopes))


@app.command
def migrate(plane: Plane = PlaneConfig(), to: str = "") -> None:  # noqa: B008
    """Bring the catalog's schema to a revision, with what is in it. Every process brings an older
    one up by itself; down it goes before an older lwd is installed.

    Args:
        plane: Which catalog.
        to: Revision, such as 0001; empty means the newest that this lwd knows.
    """
    from lwd.store.migrate import migrate_url
    from lwd.store.schema import HEAD

    print(migrate_url(plane.catalog, to or HEAD))


@app.command
def coordinator(plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Commit uploaded episodes to dataset snapshots."""
    from lwd.coordinator.service import run

    expose(plane.metrics_port)
    run(plane)


@app.command
def learner(
    plane: Plane = PlaneConfig(),  # noqa: B008
    algorithm: Algorithm = UNTIL_ASKED,
    hosts: Hosts = HostConfig(),  # noqa: B008
) -> None:
    """Train the stages of a recipe, from the newest checkpoint on."""
    from lwd.learner.process import run
    from lwd.store.process import stop_on_signals

    expose(plane.metrics_port)
    run(plane, algorithm, hosts, stop=stop_on_signals().is_set)


def asked_recipe(words: Sequence[str]) -> LearnerConfig:
    """Settings of the recipe and preset that are named: the defaults of the other flags."""
    from lwd.learner.recipes import recipe, suited

    joined = [part for word in words for part in word.split("=", 1)]
    named = {a: b for a, b in pairwise(joined) if a in ("--recipe", "--preset")}
    return suited(recipe(named.get("--recipe", "lwd")), named.get("--preset", "state"))


@weights.command(name="list")
def list_weights(plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Every published version: whence it came, who gets it, who acts with it."""
    from rich.console import Console
    from rich.table import Table

    from lwd.store.catalog import Catalog

    table = Table("version", "stage", "update", "snapshot", "bytes", "for", "note", "acting")
    with Catalog(plane.catalog) as catalog:
        acting = catalog.acting()
        for row in catalog.list_weights():
            robots = sorted(robot for robot, version in acting.items() if version == row.version)
            audience = row.audience.strip(",") or ("nobody" if row.audience else "all")
            numbers = (row.version, row.stage, row.update, row.snapshot, row.size_bytes)
            table.add_row(*map(str, numbers), audience, row.note, " ".join(robots))
    Console().print(table)


@weights.command
def promote(version: Positional[int], plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Give every robot the policy of a version, a canary's say. It becomes a new version, and what
    the learner publishes reaches robots again.

    Args:
        version: The version to give to all.
        plane: Which catalog.
    """
    from lwd.store.catalog import Catalog

    with Catalog(plane.catalog) as catalog:
        print(f"version {catalog.promote_weights(version).version}: promoted {version}")


@weights.command
def rollback(version: Positional[int], plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Give every robot the policy of an older version. It becomes a new version, and nothing that
    the learner publishes reaches a robot until something is promoted.

    Args:
        version: The version to go back to.
        plane: Which catalog.
    """
    from lwd.store.catalog import Catalog

    with Catalog(plane.catalog) as catalog:
        print(f"version {catalog.roll_back_weights(version).version}: rolled back to {version}")


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
        counts = {"successes": measured.successes, "episodes": measured.episodes}
        print(json.dumps({"task": task, "rate": rate, **counts, "score": measured.score}))
    else:
        print(f"{task}, {rate} rate: {measured.successes} of {measured.episodes} succeeded")


@sim.command
def sheet(
    out: Positional[Path],
    task: str = "restocking",
    seed: int = 0,
    rate: Rate = "compact",
    held_out: bool = False,
) -> None:
    """Photograph an episode of the expert as a PNG, one row of pictures for each second.

    Args:
        out: PNG file to write.
        task: Task to show.
        seed: Seed of the scene.
        rate: Control preset.
        held_out: Draw the scene from the held-out split.
    """
    from lwd.sim.render import contact_sheet

    out.write_bytes(contact_sheet(task, seed, control=control(rate), held_out=held_out))
    print(out)


def main() -> None:
    """Entry point: one line for an expected error, a traceback only for a bug."""
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(name)s %(message)s")
    logging.getLogger("lwd").setLevel(os.environ.get("LWD_LOG", "INFO"))
    try:
        follow_parent()
        if sys.argv[1:2] == ["learner"]:
            asked = partial(learner, algorithm=asked_recipe(sys.argv))
            app.command(name="learner", help=learner.__doc__)(asked)
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
