"""One storm from beginning to end: start the fleet, let the plan happen, calm down, prove."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from lwd.chaos.audit import Evidence, Report, audit
from lwd.chaos.fleet import CHILD, Fleet
from lwd.chaos.gather import Witnesses, gather
from lwd.chaos.inject import Ground, Injector
from lwd.chaos.links import Links
from lwd.chaos.packets import Radio, inside, radio
from lwd.chaos.plan import Fault, Kind, Targets, plan
from lwd.chaos.policy import expected
from lwd.chaos.robot import TICKS
from lwd.chaos.witness import Journal
from lwd.chaos.worker import Role, command
from lwd.config import ChaosConfig, PlaneConfig
from lwd.edge.copies import described, spool_copies
from lwd.edge.spool import spools
from lwd.errors import ConfigError, ServiceError
from lwd.processes import free_ports
from lwd.store.catalog import Catalog
from lwd.store.disk import make_folder
from lwd.store.doctor import Patient, examine, repair
from lwd.store.lines import entries
from lwd.store.objects import Objects
from lwd.store.queue import Queue

log = logging.getLogger(__name__)

ROBOT = "chaos-"
"""Begins the names of the robots: what anybody else has made is not to be damaged."""
LOOPBACK = "127.0.0.1"
LOOK_S = 0.02
DOCTOR_S = 45.0
"""Time between two visits of the doctor during the storm."""
CALM_S = 600.0
"""Longest wait, after the last fault, in which nothing arrives: on a busy machine a process takes
minutes to start."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a storm ended."""

    report: Report
    policies: int
    """Versions that were published."""
    episodes_acted: int
    """Episodes in which a robot said what it acted with."""
    kills: int
    faults: Mapping[str, int]
    """Other faults that really happened, by kind."""
    crashes: Mapping[str, int]
    """Ends of processes that nobody ordered."""
    seconds: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        report = self.report
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "findings": list(report.findings),
            "corrupted": report.corrupted,
            "repaired": report.repaired,
            "faults_by_kind": dict(self.faults),
            "crashes": dict(self.crashes),
            "policies": self.policies,
            "episodes_acted": self.episodes_acted,
            "acknowledged": report.acknowledged,
            "in_snapshots": report.in_snapshots,
            "lost": report.lost,
            "doubled": report.doubled,
            "kills": self.kills,
            "faults": sum(self.faults.values()),
        }


def run(config: ChaosConfig) -> Result:
    """Let loose what the seed says, then audit. ConfigError if the catalog is somebody's."""
    root = make_folder(config.root / time.strftime("chaos-%Y%m%d-%H%M%S"))
    direct = _plane(config, root)
    started = time.monotonic()
    with (
        radio(wanted=_all_here(direct)) as air,
        Links() as links,
        Catalog(direct.catalog) as catalog,
        Queue(direct.queue_url) as queue,
    ):
        _refuse_real_episodes(catalog)
        before = catalog.snapshot_version()
        plane = through(links, direct, air.near if air else LOOPBACK)
        commands = _commands(config, direct, plane)
        if air is not None:
            commands = {name: [*_placed(name, air), *line] for name, line in commands.items()}
        with Journal(root / "damage") as damage, Fleet(commands, root / "logs") as fleet:
            ground = Ground(
                fleet=fleet,
                links=links,
                queue=queue,
                catalog=catalog,
                objects=Objects(direct.objects),
                spools=root / "spool",
                skews=make_folder(root / "skew"),
                journal=damage,
                radio=air,
            )
            injector = Injector(ground)
            found = storm(ground, injector, _planned(config, ground))
            injector.close()
            version = catalog.snapshot_version
            calm(ground, lambda: _uploaded(ground), version)
            found |= heal(ground)
            calm(ground, lambda: _uploaded(ground), version)
            calm(
                ground,
                lambda: _bound(_witnesses(root)) == version(),
                lambda: _bound(_witnesses(root)),
            )
        evidence = _evidence(config, injector, root, before, found)
        report = audit(evidence)
    return Result(
        report=report,
        policies=len(evidence.policies),
        episodes_acted=sum(map(len, evidence.acted.values())),
        kills=fleet.kills.total(),
        faults={str(kind): n for kind, n in sorted(injector.done.items()) if kind != "kill"},
        crashes=fleet.crashes,
        seconds=time.monotonic() - started,
        seed=config.seed,
    )


def storm(ground: Ground, injector: Injector, faults: Sequence[Fault]) -> frozenset[str]:
    """Let every fault happen at its time; return when all are over.

    The doctor comes every now and then, as it would by night, and is not called while it is still
    there; hashes of what it found damaged.
    """
    started, left = time.monotonic(), list(reversed(faults))
    called, visits = started, []
    with ThreadPoolExecutor(1, "doctor") as pool:
        while left or not injector.idle or not all(visit.done() for visit in visits):
            while left and left[-1].at_s <= time.monotonic() - started:
                injector.happen(left.pop())
            injector.tend()
            ground.fleet.tend()
            gone = all(visit.done() for visit in visits)
            if left and gone and time.monotonic() - called > DOCTOR_S:
                called = time.monotonic()
                visits.append(pool.submit(heal, ground))
            time.sleep(LOOK_S)
    return frozenset().union(*(visit.result() for visit in visits))


def calm(ground: Ground, arrived: Callable[[], bool], progress: Callable[[], object]) -> None:
    """Wait until everything has arrived, or nothing moves; the audit says what is missing."""
    moved, seen = time.monotonic(), progress()
    while not arrived() and time.monotonic() - moved < CALM_S:
        ground.fleet.tend()
        time.sleep(0.1)
        if (now := progress()) != seen:
            moved, seen = time.monotonic(), now


def through(links: Links, plane: PlaneConfig, near: str = LOOPBACK) -> PlaneConfig:
    """The same services, each at the other end of a link; robots enter theirs at `near`."""
    catalog, objects = plane.catalog_url, plane.objects_url
    if urlsplit(catalog).port:
        catalog = links.add("catalog", catalog)
    parts = urlsplit(objects)
    options = dict(parse_qsl(parts.query))
    if urlsplit(options.get("endpoint", "")).port:
        options["endpoint"] = links.add("objects", options["endpoint"], near)
        objects = urlunsplit(parts._replace(query=urlencode(options)))
    return PlaneConfig(
        root=plane.root,
        catalog_url=catalog,
        objects_url=objects,
        queue_url=links.add("queue", plane.queue_url),
        service_url=links.add("service", plane.service_url, near),
        lease_s=plane.lease_s,
        reconcile_s=plane.reconcile_s,
    )


def _plane(config: ChaosConfig, root: Path) -> PlaneConfig:
    queue, service = free_ports(2)
    return PlaneConfig(
        root=root,
        catalog_url=config.catalog_url or f"sqlite:///{(root / 'catalog.db').absolute()}",
        objects_url=config.objects_url or (root / "objects").absolute().as_uri(),
        queue_url=f"nats://127.0.0.1:{queue}",
        service_url=f"http://127.0.0.1:{service}",
        lease_s=2.0,
        reconcile_s=1.0,
    )


def _refuse_real_episodes(catalog: Catalog) -> None:
    rows = catalog.snapshot_episodes(catalog.snapshot_version()) + catalog.unsnapshotted(1000)
    real = next((row.robot for row in rows if not row.robot.startswith(ROBOT)), None)
    if real is not None:
        raise ConfigError(
            f"Catalog {catalog.url} has episodes of robot {real!r}. Chaos damages what it works "
            "on: give it a catalog and an object store of its own."
        )


def _commands(
    config: ChaosConfig, direct: PlaneConfig, plane: PlaneConfig
) -> dict[str, Sequence[str]]:
    """Command line of every process; what others serve they see through the links only."""
    root, lwd = str(plane.root), [sys.executable, "-m", "lwd"]
    queue = ["--root", root, "--port", str(urlsplit(direct.queue_url).port)]
    edge = ["--root", root, "--service-url", plane.service_url, "--objects", plane.objects]
    commands: dict[str, Sequence[str]] = {
        "queue": [*lwd, "queue", *queue],
        "edge": [*lwd, "edge", *edge],
    }
    listening = replace(plane, service_url=direct.service_url)
    roles = [
        _role(config, listening, "service", "service", 0),
        *(_role(config, plane, f"coordinator-{n}", "coordinator", n) for n in (0, 1)),
        _role(config, plane, "learner", "learner", 0),
        _role(config, plane, "publisher", "publisher", 0),
        *(_role(config, plane, f"{ROBOT}{n}", "robot", n) for n in range(config.robots)),
    ]
    return commands | {role.name: command(role, plane.root / "roles") for role in roles}


def _role(config: ChaosConfig, plane: PlaneConfig, name: str, work: str, index: int) -> Role:
    """A worker's settings; robots take about as long as the storm."""
    episodes = _share(config, index)
    return Role(
        name=name,
        work=work,
        plane=plane,
        journal=str(plane.root / "witness" / name),
        clock=str(plane.root / "skew" / name),
        index=index,
        seed=config.seed,
        episodes=episodes,
        tick_s=config.storm_s / max(episodes, 1) / TICKS,
        simulated=config.simulated,
    )


def _share(config: ChaosConfig, index: int) -> int:
    """Episodes that a robot has to make of all."""
    return config.episodes // config.robots + (index < config.episodes % config.robots)


def _all_here(plane: PlaneConfig) -> bool:
    """Whether robots need nothing that is on another machine."""
    endpoint = dict(parse_qsl(urlsplit(plane.objects).query)).get("endpoint", "")
    return plane.objects.startswith("file:") or urlsplit(endpoint).port is not None


def _placed(name: str, air: Radio) -> list[str]:
    """What puts robots and their edge client into their own network."""
    return inside(air.namespace) if name == "edge" or name.startswith(ROBOT) else []


def _planned(config: ChaosConfig, ground: Ground) -> tuple[Fault, ...]:
    fleet = ground.fleet
    robots = [name for name in fleet.names if name.startswith(ROBOT)]
    coordinators = [name for name in fleet.names if name.startswith("coordinator")]
    targets = Targets(
        processes=[*fleet.names, f"queue{CHILD}", f"learner{CHILD}"],
        writers=["service", "edge", *coordinators, f"learner{CHILD}"],
        clocks=["service", *coordinators, *robots],
        links=ground.links.names,
        robots=robots,
        radios=[ground.radio.namespace] if ground.radio else [],
    )
    return plan(
        config.seed, targets, kills=config.kills, faults=config.faults, seconds=config.storm_s
    )


def _witnesses(root: Path) -> Witnesses:
    return Witnesses(
        robots=sorted((root / "witness").glob(f"{ROBOT}*")),
        readers=[root / "witness" / "learner"],
        damage=root / "damage",
        spools=root / "spool",
    )


def _uploaded(ground: Ground) -> bool:
    """Robots have finished, and every episode of theirs is in a snapshot or given up."""
    fleet, catalog = ground.fleet, ground.catalog
    if not all(fleet.finished(name) for name in fleet.names if name.startswith(ROBOT)):
        return False
    if any(spool.pending() for spool in spools(ground.spools)):
        return False
    return not (catalog.backlog() or catalog.unsnapshotted(1) or catalog.amended())


def _bound(witnesses: Witnesses) -> int:
    """Version that the reader has bound."""
    bound = [r["bound"] for path in witnesses.readers for r in entries(path) if "bound" in r]
    return bound[-1] if bound else 0


def heal(ground: Ground) -> frozenset[str]:
    """Let the doctor find and repair what was damaged; hashes of what it found."""
    patient = Patient(
        catalog=ground.catalog,
        objects=ground.objects,
        clock=time.time,
        copy=spool_copies(ground.spools),
        describe=described,
        deep=True,
    )
    found = set()
    try:
        for finding in examine(patient):
            row = ground.catalog.episode(finding.subject)
            found.add(row.sha256 if row else finding.subject)
            what = repair(patient, finding)
            log.debug("doctor %s subject=%s: %s", finding.trouble, finding.subject, what)
    except ServiceError as error:
        log.info("the doctor comes again later reason=%s", error)
    return frozenset(found)


def _evidence(
    config: ChaosConfig, injector: Injector, root: Path, before: int, found: frozenset[str]
) -> Evidence:
    ground, done = injector.ground, injector.done
    evidence = gather(
        ground.catalog,
        ground.objects,
        _witnesses(root),
        after=before,
        found=found,
        policies=expected(config.seed, ground.catalog.list_weights()),
    )
    asked = {f"{ROBOT}{n}": _share(config, n) for n in range(config.robots)}
    return replace(
        evidence,
        asked=asked,
        followers=set() if config.simulated else {name for name, n in asked.items() if n},
        planned=(config.kills, config.faults),
        happened=(done[Kind.KILL], done.total() - done[Kind.KILL]),
        crashes=ground.fleet.crashes,
    )
