"""Every process of the system, and the demo that starts them all."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from lwd.cli.flags import Actor, Plane, Rate
from lwd.config import (
    ActorConfig,
    DemoConfig,
    EdgeConfig,
    HostConfig,
    LearnerConfig,
    PlaneConfig,
    StageConfig,
    StateLayout,
    control,
)
from lwd.config.guidance import GuidanceConfig
from lwd.config.serving import ServeConfig
from lwd.store.metrics import expose

Scope = Literal["upload", "read", "publish", "consume", "operate"]
Edge = Annotated[EdgeConfig, arg(name="")]
Algorithm = Annotated[LearnerConfig, arg(name="")]
Hosts = Annotated[HostConfig, arg(name="")]
Demo = Annotated[DemoConfig, arg(name="")]
Serve = Annotated[ServeConfig, arg(name="")]
Guidance = Annotated[GuidanceConfig, arg(name="")]
TASKS = DemoConfig().tasks
UNTIL_ASKED = LearnerConfig(stages={"sft": StageConfig(updates=0, mixture={"demo": 1.0})})
"""Stands for the recipe that `lwd learner` is asked for; recipes load JAX."""


def demo(config: Demo = DemoConfig()) -> None:  # noqa: B008
    """Run the whole ring on this machine: a simulated fleet teaches the policy that it runs.

    For example:
        lwd demo
        lwd demo --robots 2 --tasks restocking --out runs/small
    """
    from lwd.demo.run import run

    run(config)


def robot(
    actor: Actor = ActorConfig(),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
    guidance: Guidance = GuidanceConfig(),  # noqa: B008
    tasks: tuple[str, ...] = TASKS,
    rate: Rate = "compact",
    held_out: bool = False,
    intervene: bool = True,
) -> None:
    """Run one simulated robot: act, record, spool, reload newer weights between episodes.

    For example:
        lwd robot --robot arm-1 --kind demo --episodes 20 --tasks restocking
        lwd robot --robot arm-2 --kind online --device gamepad

    Args:
        actor: Which robot, and what it records.
        plane: Where the parts of the data plane are.
        guidance: Who tells the robot what to do, besides the fleet's own policy.
        tasks: Tasks that the robot draws its episodes from.
        rate: Control preset: 10 Hz with chunks of 10 ticks, or 30 Hz with 30.
        held_out: Draw scenes from the held-out split.
        intervene: Online, a simulated human takes over when the policy is stuck.
    """
    from lwd.actor.process import main
    from lwd.episode.types import Kind
    from lwd.serve.rig import guided
    from lwd.sim.rig import Circumstances, rig
    from lwd.sim.tasks import task
    from lwd.store.process import stop_on_signals

    expose(plane.metrics_port)
    for name in tasks:
        task(name)
    stop, chosen = stop_on_signals(), control(rate)
    parts = rig(
        Kind(actor.kind),
        tasks,
        chosen,
        robot_id=actor.robot,
        held_out=held_out,
        intervene=intervene,
        circumstances=Circumstances(sight=actor.sight, tokenizer=actor.tokenizer),
    )
    joints = StateLayout().joints
    main(
        actor,
        plane,
        guided(parts, guidance, chosen, robot_id=actor.robot, joints=joints, stop=stop),
        stop=stop,
    )


def edge(plane: Plane = PlaneConfig(), upload: Edge = EdgeConfig()) -> None:  # noqa: B008
    """Upload what the robots of this machine have spooled under ROOT/spool.

    For example:
        lwd edge --root runs/demo
        lwd edge --objects-url s3://bucket/fleet --bytes-per-s 1e6 --first failure
    """
    from lwd.edge.uploader import main

    expose(plane.metrics_port)
    main(plane.root / "spool", plane.objects, plane.service_url, edge=upload)


def queue(
    root: Path = Path("runs/demo"),
    port: int = 4222,
    host: str = "127.0.0.1",
    tokens: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    metrics_port: int | None = None,
) -> None:
    """Run the embedded queue, a NATS JetStream server, and restart it when it dies.

    For example:
        lwd queue --root runs/demo
        lwd queue --root runs/demo --metrics-port 9103

    Args:
        root: Folder of the run; the queue keeps its files in ROOT/queue.
        port: Port to listen on.
        host: Address to listen on; others than the loopback need tokens and a certificate.
        tokens: File of the tokens that it accepts.
        tls_cert: Certificate chain (PEM), for tls:// queue URLs.
        tls_key: Private key (PEM) of the certificate.
        metrics_port: Port on the loopback for Prometheus metrics, its own and the server's; 0
            takes a free one, none serves none.
    """
    from lwd.store.queue_config import Exposure
    from lwd.store.queue_server import serve_queue

    exposure = Exposure(host=host, tokens=tokens, tls_cert=tls_cert, tls_key=tls_key)
    watched = expose(metrics_port) is not None
    serve_queue(root, port, exposure=exposure, watched=watched)


def service(plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Run the metadata service, the one address that robots know besides the object store.

    For example:
        lwd service --root runs/demo
    """
    from lwd.store.service import serve

    expose(plane.metrics_port)
    serve(plane)


def token(
    robot: Positional[str],
    tokens: Path = Path("tokens.json"),
    scopes: tuple[Scope, ...] = ("upload", "read"),
) -> None:
    """Issue a token for the metadata service or the queue and print it; it is stored nowhere.

    For example:
        lwd token robot-7
        lwd token coordinator-1 --scopes consume

    Args:
        robot: The robot whose episodes it may upload, `*` for any; or the queue's user.
        tokens: File of the hashes, which service and queue read at their start; made if missing.
        scopes: upload and read are a robot's; publish lets a service hand notices to the queue,
            consume lets a coordinator take them; operate lets a person act on the fleet's page.
    """
    from lwd.store.access import issue

    print(issue(tokens, robot, scopes))


def migrate(plane: Plane = PlaneConfig(), to: str = "") -> None:  # noqa: B008
    """Bring the catalog's schema to a revision, with what is in it. Every process brings an older
    one up by itself; down it goes before an older lwd is installed.

    For example:
        lwd migrate --catalog postgresql://lwd@db/lwd
        lwd migrate --root runs/demo --to 0001

    Args:
        plane: Which catalog.
        to: Revision, such as 0001; empty means the newest that this lwd knows.
    """
    from lwd.store.migrate import migrate_url
    from lwd.store.schema import HEAD

    print(migrate_url(plane.catalog, to or HEAD))


def coordinator(plane: Plane = PlaneConfig(), once: bool = False) -> None:  # noqa: B008
    """Commit uploaded episodes to dataset snapshots.

    For example:
        lwd coordinator --root runs/demo
        lwd coordinator --root runs/mine --once

    Args:
        plane: Which catalog, object store and queue.
        once: Only take in what is there, which needs no queue, and end; the exit status is 0 if
            nothing waits any more.
    """
    from lwd.coordinator.service import catch_up, run

    if once:
        version, waiting = catch_up(plane)
        print(f"the data set is at version {version}")
        if waiting:
            first = f"{waiting[0].episode_id}: {waiting[0].reason}"
            sys.exit(f"lwd: episodes that still wait: {len(waiting)}; the first, {first}")
        return
    expose(plane.metrics_port)
    run(plane)


def learner(
    plane: Plane = PlaneConfig(),  # noqa: B008
    algorithm: Algorithm = UNTIL_ASKED,
    hosts: Hosts = HostConfig(),  # noqa: B008
) -> None:
    """Train the stages of a recipe, from the newest checkpoint on.

    For example:
        lwd learner --root runs/demo
        lwd learner --root runs/demo --recipe recap --canary robot-00
    """
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


def serve(
    config: Serve = ServeConfig(),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
) -> None:
    """Serve the fleet's newest policy to robots over openpi's protocol, and record what they do.

    For example:
        lwd serve --root runs/demo
        lwd serve --root runs/demo --layout libero --record --task tidy-up --executed 10
        lwd serve --root runs/vla --tokenizer paligemma_tokenizer.model

    Args:
        config: What the server listens to, how it batches, what it records.
        plane: Where the parts of the data plane are; the tokens are those of the robots, too.
    """
    from lwd.models import artifact  # noqa: F401  (say at once what is not installed)
    from lwd.serve.policies import flows, served
    from lwd.serve.process import serve as run
    from lwd.serve.warm import example

    expose(plane.metrics_port)
    run(
        config,
        plane,
        lambda control: served(flows(control, config.tokenizer), config.batch, example),
    )
