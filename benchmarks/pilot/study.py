"""What is done for one seed: data, three stages of learning, robots that act, evaluation."""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from benchmarks.pilot import starts
from lwd.config import (
    COMPACT,
    STAGES,
    HostConfig,
    LearnerConfig,
    PlaneConfig,
    StageConfig,
)
from lwd.config.collection import CollectConfig, Made
from lwd.edge.announce import describe
from lwd.episode.payload import decode
from lwd.errors import ConfigError, ServiceError
from lwd.eval.evaluate import Starts
from lwd.fleet.file import shipped
from lwd.learner.process import run
from lwd.learner.recipes import recipe
from lwd.processes import Processes, free_ports
from lwd.sim.collect.run import collect
from lwd.sim.tasks import TASKS
from lwd.store import weights
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.client import ServiceClient
from lwd.store.disk import make_folder, written_aside
from lwd.store.objects import Objects, episode_key, sha256_of

log = logging.getLogger(__name__)

PLAN = "plan.json"
"""Beside each seed: scale, updates and the command that it was begun with."""
N_STEP = {name: 10 if spec.scored else 1 for name, spec in TASKS.items()}
"""Chunks in a TD window: 10 for long tasks, 1 for short ones (-B2)."""
SPEED = 2.0
"""Robot seconds per second of the fleet: as fast as they can, sixteen robots would leave a learner
on two cores nothing."""
START_S = 60.0
"""Longest wait for the services to answer."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done."""

    runs: Path
    tasks: tuple[str, ...]
    starts: int
    """Held-out starts of each task."""
    until: str
    """Last stage."""
    scale: float
    """Of the 652.5 hours of Table IV."""
    workers: int
    command: str

    def root(self, seed: int) -> Path:
        """Everything of one seed."""
        return self.runs / f"seed-{seed}"


def study(plan: Plan, seed: int) -> None:
    """One seed, from where it stands."""
    root, shared = plan.root(seed), plan.runs / "buffer"
    write_down(plan, root)
    for stage in STAGES[: STAGES.index(plan.until) + 1]:
        policy = starts.policy_file(root, stage)
        if not policy.exists():
            if stage == "sft":
                enter(root, gather(plan, shared, "demo"))
            elif stage == "offline":
                supervised = starts.policy_file(root, "sft")
                enter(root, gather(plan, shared, "play"))
                enter(root, gather(plan, root, "rollout", seed, supervised))
            fleet = deployed(plan, seed) if stage == "online" else contextlib.nullcontext(_never)
            with fleet as stop:
                learn(plan, seed, stage, stop)
            _export(root, stage, policy)
        wanted = Starts(tasks=plan.tasks, episodes=plan.starts, seed=seed, control=COMPACT)
        starts.evaluate(root, stage, wanted, workers=plan.workers)


def write_down(plan: Plan, root: Path) -> None:
    """What a seed is made with, once; ConfigError if it was made with something else."""
    path, stages = root / PLAN, settings(0).stages
    now = {"scale": plan.scale, "updates": {name: stages[name].updates for name in stages}}
    if not path.exists():
        if (root / "checkpoints").exists():
            raise ConfigError(
                f"{root} has checkpoints and no {PLAN} that says what they were made with. If you "
                f"know it, write it there, as {json.dumps(now | {'command': plan.command})}; "
                "else give another --runs."
            )
        with written_aside(make_folder(root) / PLAN) as file:
            file.write(json.dumps(now | {"command": plan.command}).encode())
        return
    before = json.loads(path.read_bytes())
    if different := [f"{k} was {before[k]}, now {now[k]}" for k in now if before[k] != now[k]]:
        raise ConfigError(
            f"{root} was made with other settings ({', '.join(different)}). Go on with the same "
            "ones, or give another --runs."
        )


def settings(seed: int) -> LearnerConfig:
    """The recipe of the demo with more updates, all tasks drawn alike, and the paper's windows for
    long tasks."""
    base = recipe("lwd", COMPACT, seed=seed)
    changes = {
        "sft": {"updates": 20_000},
        "offline": {"updates": 6_000},
        "online": {"updates": 4_000, "updates_per_episode": 6.0},
    }

    def stage_of(name: str, stage: StageConfig) -> StageConfig:
        divl = replace(stage.divl, n_step=N_STEP)
        return replace(stage, episodes=1, task_balanced=True, divl=divl, **changes[name])

    stages = {name: stage_of(name, stage) for name, stage in base.stages.items()}
    return replace(base, stages=stages, report_every=100, checkpoint_every=1_000)


def learn(plan: Plan, seed: int, until: str, stop: Callable[[], bool]) -> None:
    """Train up to the end of a stage or until `stop()`, from the newest checkpoint on."""
    config, started = settings(seed), time.monotonic()
    names = STAGES[: STAGES.index(until) + 1]
    cut = replace(config, stages={name: config.stage(name) for name in names})
    if run(PlaneConfig(root=plan.root(seed)), cut, HostConfig(), stop=stop):
        log.info("learned seed=%d stage=%s seconds=%.0f", seed, until, time.monotonic() - started)


def gather(
    plan: Plan, root: Path, kind: Made, seed: int = 0, policy: Path | None = None
) -> list[Path]:
    """Episodes of a kind that fill their cells of Table IV, as far as that can be done.

    What all seeds of the study share is made with seed 0.
    """
    config = CollectConfig(
        root=root,
        scale=plan.scale,
        tasks=plan.tasks,
        kinds=(kind,),
        policies=(policy,) if policy else (),
        seed=seed,
        workers=plan.workers,
        effort=4.0 if kind == "demo" else 1.5,
    )
    entries = collect(config).entries
    kept = [entry.episode_id for entry in entries if entry.cell]
    log.info("gathered root=%s kind=%s kept=%d of=%d", root, kind, len(kept), len(entries))
    spool = root / "spool" / config.robot
    return [next(spool.glob(f"*/{episode}.arrow")) for episode in kept]


def enter(root: Path, files: list[Path]) -> None:
    """Make a snapshot with those of the episodes that the catalog has not."""
    plane = PlaneConfig(root=root)
    objects, ids = Objects(plane.objects), []
    with Catalog(plane.catalog) as catalog:
        known = {row.episode_id for row in catalog.snapshot_episodes(catalog.snapshot_version())}
        for path in (file for file in files if file.stem not in known):
            payload = path.read_bytes()
            row = describe(decode(path), sha256=sha256_of(payload), size_bytes=len(payload))
            objects.put(episode_key(row.sha256), payload)
            catalog.insert_episode(row)
            ids.append(row.episode_id)
        if ids:
            token = catalog.acquire_lease(COORDINATOR, "pilot", 1.0)
            assert token is not None, "no coordinator runs while episodes are entered"
            catalog.commit_snapshot(ids, token=token)
    log.info("entered root=%s episodes=%d", root, len(ids))


def _export(root: Path, stage: str, path: Path) -> None:
    """The policy at the end of a stage as one file."""
    plane = PlaneConfig(root=root)
    with Catalog(plane.catalog) as catalog:
        row = [row for row in catalog.list_weights() if row.stage == stage][-1]
    found = weights.fetch(Objects(plane.objects), row, folder=root / "weights")
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".part").write_bytes(weights.encode(*found))
    path.with_suffix(".part").rename(path)


@contextlib.contextmanager
def deployed(plan: Plan, seed: int) -> Iterator[Callable[[], bool]]:
    """The paper's sixteen robots act with the newest policy and upload what they see.

    What it gives is true once a process keeps dying; leaving it then raises the ServiceError.
    """
    root = plan.root(seed)
    queue, service = free_ports(2)
    queue_url, service_url = f"nats://127.0.0.1:{queue}", f"http://127.0.0.1:{service}"
    where = ("--root", root, "--queue-url", queue_url, "--service-url", service_url)
    with Processes(root / "logs") as processes, ServiceClient(service_url) as client:
        processes.start("queue", "queue", "--root", root, "--port", queue)
        for name in ("service", "coordinator"):
            processes.start(name, name, *where)
        deadline = time.monotonic() + START_S
        while not client.healthy():
            processes.check()
            if time.monotonic() > deadline:
                raise ServiceError(f"no service after {START_S:.0f} s; see {root / 'logs'}.")
            time.sleep(0.5)
        file = fleet_file(plan, seed, root / "pilot.yaml")
        processes.start("fleet", "fleet", file, *where, "--kind", "online", niceness=5)
        over = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            watch = thread.submit(_watch, processes, over)
            try:
                yield over.is_set
            finally:
                over.set()
        watch.result()


def fleet_file(plan: Plan, seed: int, path: Path) -> Path:
    """The paper's fleet, as far as its robots have tasks of the study."""
    content = yaml.safe_load(shipped()["paper"].read_text())
    robots = [
        robot | {"tasks": tasks}
        for robot in content["robots"]
        if (tasks := [task for task in robot["tasks"] if task in plan.tasks])
    ]
    allotment = {t: n for t, n in content["allotment"].items() if t in plan.tasks}
    changed = {"robots": robots, "allotment": allotment, "seed": seed, "speed": SPEED}
    path.write_text(yaml.safe_dump(content | changed | {"robots_per_process": len(robots)}))
    return path


def _watch(processes: Processes, over: threading.Event) -> None:
    """Start again what dies, until it is over or one keeps dying, which ends it too."""
    try:
        while not over.wait(1.0):
            processes.check()
    finally:
        over.set()


def _never() -> bool:
    return False
