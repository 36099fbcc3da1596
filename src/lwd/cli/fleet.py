"""Commands of whoever operates a fleet."""

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from lwd.cli.flags import Actor, AsJson, Plane
from lwd.config import BLIND, ActorConfig, ChaosConfig, PlaneConfig
from lwd.errors import ConfigError
from lwd.store.metrics import expose

Chaos = Annotated[ChaosConfig, arg(name="")]


def chaos(config: Chaos = ChaosConfig(), as_json: AsJson = False) -> None:  # noqa: B008
    """Let a storm loose on a fleet of cheap robots, then prove that nothing was lost or doubled.

    The exit status is 0 only if nothing was.

    For example:
        lwd chaos --episodes 200 --kills 20 --faults 20

    Args:
        config: The fleet and the storm.
        as_json: Print one JSON object.
    """
    from rich.console import Console

    from lwd.chaos.report import render
    from lwd.chaos.run import run

    result = run(config)
    if as_json:
        print(json.dumps(result.to_json()))
    else:
        Console().print(render(result))
    if not result.report.clean:
        sys.exit(1)


def fleet(
    file: Positional[str],
    plane: Plane = PlaneConfig(),  # noqa: B008
    kind: Literal["demo", "play", "rollout", "online"] = "online",
    episodes: int | None = None,
    upload: bool = True,
    tokenizer: str = "",
    drive: tuple[str, ...] = (),
) -> None:
    """Run a simulated fleet from a file, and start again whatever robot dies.

    For example:
        lwd fleet paper --kind demo --episodes 10 --root runs/fleet
        lwd fleet my-robots.yaml --root runs/fleet

    Args:
        file: YAML file of a fleet, or the name of a shipped one: `paper`.
        plane: Where the parts of the data plane are.
        kind: What is recorded; `rollout` and `online` need a service that has weights.
        episodes: Episodes to save by each robot, over restarts; without it until stopped.
        upload: Upload what is recorded, each robot over its own link; else it stays in ROOT/spool.
        tokenizer: Path or URL of this machine's copy of the tokenizer that the weights were trained
            with, where it is not where the learner had it.
        drive: Run only these robots, in this process and unsupervised.
    """
    from rich.console import Console

    from lwd.fleet.drive import Order
    from lwd.fleet.drive import drive as drive_here
    from lwd.fleet.file import find, read
    from lwd.fleet.report import line, table
    from lwd.fleet.run import run, standings
    from lwd.store.process import stop_on_signals

    source = find(file)
    wanted = read(source)
    order = Order(kind=kind, episodes=episodes, upload=upload, tokenizer=tokenizer)
    stop = stop_on_signals()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    expose(plane.metrics_port)
    if drive:
        drive_here(wanted, drive, plane, order, stop)
        return
    restarts = run(
        source, wanted, plane, order, stop, lambda *seen: console.print(line(*seen), soft_wrap=True)
    )
    console.print(table(standings(plane.root, wanted)))
    console.print(f"processes restarted: {restarts}")


def dashboard(
    plane: Plane = PlaneConfig(),  # noqa: B008
    url: str = "http://127.0.0.1:8080",
    every_s: float = 1.0,
) -> None:
    """Show the fleet in a browser: robots, success, episodes, learner; correct episodes, release
    policies.

    For example:
        lwd dashboard --root runs/demo

    Args:
        plane: Which catalog, objects and run; where tokens and certificate are.
        url: Where to listen; others than the loopback need tokens.
        every_s: Seconds between two looks at the catalog.
    """
    from lwd.dashboard.serve import serve

    expose(plane.metrics_port)
    serve(
        plane,
        url,
        every_s=every_s,
        started=lambda bound: print(f"open {bound}", flush=True),
    )


def suite(
    name: Positional[str],
    actor: Actor = ActorConfig(kind="demo"),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
    tasks: tuple[str, ...] = (),
    cameras_px: int = 0,
    server: str = "",
    layout: str = "lwd",
) -> None:
    """Run one robot of another simulator: `metaworld`, `ogbench`, `libero`.

    The suite's experts demonstrate; with `--server` and `--kind rollout` a policy server is
    evaluated. The success rates that it prints are of the episodes of this call, with the
    demonstrations that failed and are not kept.

    For example:
        lwd suite ogbench --tasks cube-single --episodes 10
        lwd suite libero --kind rollout --server ws://127.0.0.1:8000 --layout libero

    Args:
        name: Suite; each is installed in an environment of its own by `make suites`.
        actor: Which robot, and what it records.
        plane: Where the parts of the data plane are.
        tasks: Tasks, or beginnings of their names, that the robot draws its episodes from; all of
            the suite if none is named.
        cameras_px: Side of the images that are kept, in pixels; 0 keeps none.
        server: Policy server that drives the robot, ws://HOST:PORT: openpi's, or `lwd serve`.
        layout: Names that the server has for observations: `lwd`, or openpi's `libero`.
    """
    from lwd.actor.process import AUTONOMOUS, main
    from lwd.episode.types import Header, Kind
    from lwd.serve.client import Server
    from lwd.suites import load, rig, scores

    expose(plane.metrics_port)
    if (Kind(actor.kind) in AUTONOMOUS) != bool(server):
        raise ConfigError(
            f"kind {actor.kind} with {f'server {server!r}' if server else 'no server'}: a policy "
            "server drives --kind rollout or online, the suite's experts --kind demo or play."
        )
    if actor.sight != BLIND:
        raise ConfigError(
            "--cameras, --image-size and --image-every are a simulated robot's; a suite has its "
            "own cameras, whose images --cameras-px keeps."
        )
    before, looks = _saved(actor, plane, evaluates=bool(server)), cameras_px > 0
    found = load(name, cameras_px)
    asked = Server(url=server, layout=layout, robot=actor.robot) if server else None
    ended: list[Header] = []
    robot = actor.robot
    parts = rig(found, tasks, robot_id=robot, cameras=looks, server=asked, ended=ended.append)
    main(actor, plane, parts)
    _print_rates(scores(ended))
    if before:
        print(
            f"{len(ended)} episodes now; the {before} of kind {actor.kind} that {robot} had saved "
            "before are not counted"
        )


def _saved(actor: ActorConfig, plane: PlaneConfig, *, evaluates: bool) -> int:
    """Episodes of the kind that the robot saved before this call.

    ConfigError where they fill the quota of an evaluation: nothing would run, and their rate may be
    another policy's.
    """
    from lwd.actor.ledger import read

    saved = read(plane.root / "actors" / actor.robot).saved.get(actor.kind, 0)
    if evaluates and actor.episodes is not None and saved >= actor.episodes:
        raise ConfigError(
            f"{actor.robot} has saved {saved} episodes of kind {actor.kind} in {plane.root}, and "
            f"--episodes {actor.episodes} counts them over restarts: nothing would run. Evaluate "
            "with another --robot or --root to meet the same starts, or with more --episodes to go "
            "on."
        )
    return saved


def _print_rates(scores: Mapping[str, tuple[int, int]]) -> None:
    """Success rates with 95 % intervals, of the successes and episodes of each task."""
    from lwd.eval.intervals import wilson

    for task, (successes, episodes) in scores.items():
        low, high = wilson(successes, episodes)
        print(f"{task}: {successes} of {episodes} succeeded [{low:.0%}, {high:.0%}]")
