"""Supervises a simulated fleet: its processes are started, and started again when they die."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwd.actor.ledger import read
from lwd.actor.threads import SINGLE_THREAD
from lwd.config import PlaneConfig
from lwd.config.fleet import FleetConfig
from lwd.fleet.drive import Order
from lwd.processes import Processes
from lwd.sim.cameras import require_cameras
from lwd.store import metrics
from lwd.store.disk import make_folder, written_aside

log = logging.getLogger(__name__)
_CHECK_S = 0.5
_LOOK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a robot has done so far, over all of its processes."""

    robot: str
    tasks: tuple[str, ...]
    begun: int
    """Episodes begun."""
    saved: int
    """Episodes saved that count for a quota."""
    outcomes: dict[str, int]
    """Ended episodes, whether they were kept or not."""
    running: bool
    """Whether an episode is under way, or was when its process died."""
    waiting: int
    """Episodes that are not uploaded yet."""

    @property
    def lost(self) -> int:
        """Episodes of which nothing is left: their process died before it recorded anything."""
        return self.begun - sum(self.outcomes.values()) - self.running


def crews(fleet: FleetConfig) -> list[tuple[str, ...]]:
    """Names of the robots of each process: by number, but alone where the power can go."""
    alone = [r.name for r in fleet.robots if fleet.disturbance(r).power_cycles_per_h]
    shared = [robot.name for robot in fleet.robots if robot.name not in alone]
    size = fleet.robots_per_process
    together = [tuple(shared[k : k + size]) for k in range(0, len(shared), size)]
    return [*together, *((name,) for name in alone)]


def standings(root: Path, fleet: FleetConfig) -> list[Standing]:
    """Where each robot of a fleet stands, from what it left on disk."""
    found = []
    for robot in fleet.robots:
        entries = read(root / "actors" / robot.name)
        found.append(
            Standing(
                robot=robot.name,
                tasks=robot.tasks,
                begun=entries.started,
                saved=sum(entries.saved.values()),
                outcomes=dict(entries.outcomes),
                running=bool(entries.running),
                waiting=len(list((root / "spool" / robot.name / "pending").glob("*.arrow"))),
            )
        )
    return found


def run(
    source: Path,
    fleet: FleetConfig,
    plane: PlaneConfig,
    order: Order,
    stop: threading.Event,
    look: Callable[[list[Standing], int], None] = lambda standing, alive: None,
) -> int:
    """Run a fleet until every robot has its episodes, or until `stop`; how often one restarted.

    A process that a power cut ended starts again every time; one that fails by itself three times,
    else ServiceError. `look` sees the standings and the number of processes now and then. Raises
    ConfigError where robots have cameras and this machine has no OpenGL.
    """
    for robot in fleet.robots:
        require_cameras(robot.cameras)
    make_folder(plane.root)
    copy = plane.root / "fleet.yaml"
    with written_aside(copy) as file:
        file.write(source.read_bytes())
    with Processes(plane.root / "logs") as processes:
        for crew in crews(fleet):
            processes.start(
                crew[0] if len(crew) == 1 else f"{crew[0]}-and-{len(crew) - 1}",
                *("fleet", copy, *_flags(plane, order), "--drive", *crew),
                environment=SINGLE_THREAD,
                niceness=5,
                survives=_power(fleet, crew),
            )
        looked = time.monotonic()
        while processes.names and not stop.wait(_CHECK_S):
            processes.check()
            if time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                seen = standings(plane.root, fleet)
                _note(seen, processes)
                look(seen, len(processes.names))
        return processes.restarted


def _note(standing: Sequence[Standing], processes: Processes) -> None:
    """Metrics of the whole fleet; those of a robot's episodes are its own process's."""
    metrics.FLEET_PROCESSES.set(len(processes.names))
    metrics.FLEET_RESTARTS.set(processes.restarted)
    for robot in standing:
        metrics.FLEET_SAVED.set(robot.saved, robot=robot.robot)
        metrics.FLEET_WAITING.set(robot.waiting, robot=robot.robot)


def _power(fleet: FleetConfig, crew: tuple[str, ...]) -> frozenset[int]:
    """Exit statuses of a process that are no fault of its own."""
    ends = any(fleet.disturbance(r).power_cycles_per_h for r in fleet.robots if r.name in crew)
    return frozenset({-signal.SIGKILL}) if ends else frozenset()


def _flags(plane: PlaneConfig, order: Order) -> list[object]:
    flags: list[object] = ["--root", plane.root, "--service-url", plane.service_url]
    if plane.objects_url:
        flags += ["--objects-url", plane.objects_url]
    if order.episodes is not None:
        flags += ["--episodes", order.episodes]
    if order.tokenizer:
        flags += ["--tokenizer", order.tokenizer]
    return [*flags, "--kind", order.kind, "--upload" if order.upload else "--no-upload"]
