"""Processes that need more than the command line gives: a wrong clock, a witness."""

import json
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lwd.chaos.clock import SkewedClock
from lwd.chaos.witness import Journal, WitnessedSpool
from lwd.config import ActorConfig, PlaneConfig
from lwd.errors import LwdError
from lwd.store.disk import written_aside
from lwd.store.process import follow_parent, stop_on_signals

MIXTURE = {"offline": 0.5, "online": 0.5}
BATCH = 64
STEP_S = 0.25
"""Pause between two updates of the reader."""


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a process of the fleet does."""

    name: str
    work: str
    """A key of WORK."""
    plane: PlaneConfig
    journal: str = ""
    """File for what it witnesses."""
    clock: str = ""
    """File that sets its clock wrong."""
    index: int = 0
    seed: int = 0
    episodes: int = 0
    """That a robot has to save."""
    tick_s: float = 0.0
    quota_bytes: int = 16 << 20
    """Of its spool: enough to keep a copy of every payload that a long storm may damage."""
    simulated: bool = False


def command(role: Role, folder: Path) -> list[str]:
    """Command line of a role; its settings are in a file, because a URL may hold a password."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{role.name}.json"
    plane = {k: v for k, v in asdict(role.plane).items() if isinstance(v, str | float | Path)}
    with written_aside(path) as file:
        file.write(json.dumps(asdict(role) | {"plane": plane}, default=str).encode())
    path.chmod(0o600)
    return [sys.executable, "-m", "lwd.chaos.worker", str(path)]


def read(path: Path) -> Role:
    """The role in a file that `command` wrote."""
    given: dict[str, Any] = json.loads(path.read_bytes())
    plane = given.pop("plane")
    return Role(**given, plane=PlaneConfig(**plane | {"root": Path(plane["root"])}))


def drive_robot(role: Role, stop: threading.Event) -> None:
    """Episodes into a witnessed spool until there are enough."""
    from lwd.actor.ledger import Ledger
    from lwd.actor.process import policy_store, run
    from lwd.store.client import ServiceClient

    actor = ActorConfig(
        robot=role.name,
        index=role.index,
        seed=role.seed,
        kind="play" if role.simulated else "online",
        episodes=role.episodes,
        poll_s=2.0,
    )
    plane, folder = role.plane, role.plane.root / "actors" / role.name
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(folder, role.name))
        journal = stack.enter_context(Journal(Path(role.journal)))
        spool = stack.enter_context(
            WitnessedSpool(plane.root / "spool" / role.name, role.quota_bytes, journal)
        )
        rig, policies = _rig(role, journal), None
        if rig.build is not None:
            client = stack.enter_context(ServiceClient(plane.service_url, robot=role.name))
            policies = stack.enter_context(policy_store(actor, plane, rig, client, folder))
        run(actor, rig, ledger, spool, policies, stop)


def publish(role: Role, stop: threading.Event) -> None:
    """Policies, one after the other, as a learner publishes them."""
    from lwd.chaos.policy import publish_on
    from lwd.store.catalog import Catalog
    from lwd.store.objects import Objects

    with Catalog(role.plane.catalog) as catalog:
        publish_on(role.seed, catalog, Objects(role.plane.objects), stop)


def coordinate(role: Role, stop: threading.Event) -> None:
    """`lwd coordinator` with a clock that may be wrong."""
    from lwd.coordinator.service import run

    run(role.plane, stop, SkewedClock(Path(role.clock)))


def serve(role: Role, stop: threading.Event) -> None:
    """`lwd service` with a clock that may be wrong."""
    from lwd.store import service

    service.serve(role.plane, stop, SkewedClock(Path(role.clock)))


def read_batches(role: Role, stop: threading.Event) -> None:
    """Follow the snapshots as a learner does, and write down what every batch was drawn from."""
    from lwd.replay.reader import Options, Reader
    from lwd.store.catalog import Catalog
    from lwd.store.objects import Objects

    plane, update = role.plane, 0
    with (
        Catalog(plane.catalog) as catalog,
        Journal(Path(role.journal)) as journal,
        Reader(
            catalog,
            Objects(plane.objects),
            plane.root / "cache" / role.name,
            horizon=5,
            discount=0.99,
            seed=role.seed,
            options=Options(prefetcher=True),
        ) as reader,
    ):
        journal.write(started=role.name)
        bound = 0
        while not stop.wait(STEP_S):
            version = reader.sync()
            if version != bound:
                bound = version
                held = reader.episodes()
                journal.write(bound=version, holds=len(held), distinct=len(set(held)))
            if sum(part.ticks for part in reader.statistics().values()):
                batch = reader.sample(update, MIXTURE, BATCH)
                journal.write(bound=version, drew=sorted(set(batch.episode.tolist())))
                update += 1


def _rig(role: Role, journal: Journal) -> Any:
    from lwd.actor.recorder import Recording

    recording = Recording(clock=SkewedClock(Path(role.clock)))
    if not role.simulated:
        from lwd.chaos.policy import build_with
        from lwd.chaos.robot import point_rig

        return point_rig(role.name, role.tick_s, recording, build_with(journal))
    from lwd.config import COMPACT
    from lwd.episode.types import Kind
    from lwd.sim.rig import rig

    simulated = rig(Kind.PLAY, ("restocking",), COMPACT, robot_id=role.name)
    return replace(simulated, recording=recording)


WORK: dict[str, Callable[[Role, threading.Event], None]] = {
    "robot": drive_robot,
    "coordinator": coordinate,
    "service": serve,
    "learner": read_batches,
    "publisher": publish,
}


def main() -> None:
    """Entry point of every process that `command` describes."""
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(name)s %(message)s")
    logging.getLogger("lwd").setLevel(logging.INFO)
    follow_parent()
    role = read(Path(sys.argv[1]))
    try:
        WORK[role.work](role, stop_on_signals())
    except LwdError as error:
        sys.exit(f"{role.name}: {error}")


if __name__ == "__main__":
    main()
