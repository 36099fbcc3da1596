"""Evaluate policies on the same held-out starts, in worker processes of one thread each."""

import json
import logging
import multiprocessing
import tempfile
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from lwd.actor.loop import run_episode
from lwd.actor.policy import Build, Policy
from lwd.actor.recorder import Recording
from lwd.actor.robot import Robot
from lwd.actor.threads import single_threaded
from lwd.config import COMPACT, ControlConfig
from lwd.episode.types import Kind, Outcome
from lwd.errors import ConfigError, ServiceError
from lwd.eval.results import Attempt, Evaluation, from_dicts
from lwd.store import weights

log = logging.getLogger(__name__)

Artifact = Path | tuple[weights.Tensors, weights.Metadata]
"""A published policy: a safetensors file, or the tensors and metadata of one."""


@dataclass(frozen=True, kw_only=True)
class Starts:
    """The starts that every policy gets: `episodes` held-out scenes of each task."""

    tasks: tuple[str, ...]
    episodes: int
    seed: int = 0
    control: ControlConfig = COMPACT

    def __post_init__(self) -> None:
        if not self.tasks or self.episodes < 1:
            raise ConfigError(
                f"an evaluation of {len(self.tasks)} tasks and {self.episodes} episodes is empty; "
                "name at least one task and one episode."
            )

    def scenes(self) -> list[tuple[str, int]]:
        """(task, scene seed) of each start; a task's scenes do not depend on the other tasks."""
        return [
            (task, int(word) >> 11)
            for task in self.tasks
            for word in np.random.SeedSequence(
                self.seed, spawn_key=(zlib.crc32(task.encode()),)
            ).generate_state(self.episodes, np.uint64)
        ]


def held_out_robot(
    task: str, control: ControlConfig, *, cameras: tuple[str, ...] = (), image_size: int = 96
) -> Robot:
    """Simulated robot whose scenes were never trained on."""
    from lwd.sim.robot import SimRobot  # MuJoCo loads in the workers only

    return SimRobot(task, control=control, held_out=True, cameras=cameras, image_size=image_size)


def flow_policy(control: ControlConfig) -> Build:
    """Builder of the policies that the learner publishes."""
    from lwd.models.artifact import FlowPolicy  # JAX loads in the workers only

    return partial(FlowPolicy, control=control)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is evaluated on; both are importable functions, so that workers find them."""

    robot: Callable[[str, ControlConfig], Robot] = held_out_robot
    build: Callable[[ControlConfig], Build] = flow_policy


SIMULATOR = Bench()


def seeing(cameras: tuple[str, ...], image_size: int) -> Bench:
    """The simulator with cameras, for policies that see."""
    return Bench(robot=partial(held_out_robot, cameras=cameras, image_size=image_size))


def evaluate(
    policies: Mapping[str, Artifact],
    starts: Starts,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    bench: Bench = SIMULATOR,
) -> Evaluation:
    """Every policy at every start; `progress(done, total)` is called after each attempt.

    The flow noise of an attempt comes from its start, so policies meet the same luck. Raises
    ServiceError when a worker fails, with what it said.
    """
    if not policies or workers < 1:
        raise ConfigError(
            f"{len(policies)} policies on {workers} workers: give at least one of each."
        )
    scenes = starts.scenes()
    total = len(policies) * len(scenes)
    log.info("evaluate policies=%s episodes=%d workers=%d", list(policies), total, workers)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        paths = _as_files(policies, Path(folder))
        parts = [scenes[part::workers] for part in range(min(workers, len(scenes)))]
        team = [running.enter_context(_Worker(paths, p, starts.control, bench)) for p in parts]
        found = _collect(team, lambda done: progress(done, total) if progress else None)
    order = {key: place for place, key in enumerate((p, *s) for p in policies for s in scenes)}
    found.sort(key=lambda attempt: order[attempt["policy"], attempt["task"], attempt["seed"]])
    return from_dicts(found)


def attempt(robot: Robot, policy: Policy, name: str, task: str, seed: int) -> Attempt:
    """One policy at one start, without an operator."""
    limit_s = robot.reset(seed).time_limit_s
    recording = Recording(held_out=True)
    episode = run_episode(robot, seed, policy, None, kind=Kind.ROLLOUT, recording=recording)
    assert episode is not None, "nothing stops an evaluation before its first tick"
    outcome = episode.header.outcome
    done_s = episode.ticks / robot.control.rate_hz if outcome is Outcome.SUCCESS else limit_s
    return Attempt(
        policy=name,
        task=task,
        seed=seed,
        outcome=outcome,
        ticks=episode.ticks,
        cycle_s=min(done_s, limit_s),
        substeps=episode.header.substeps,
    )


def work(
    paths: Mapping[str, Path],
    scenes: Sequence[tuple[str, int]],
    control: ControlConfig,
    bench: Bench,
    results: Connection,
) -> None:
    """Main of a worker: sends one JSON object for each attempt, then closes its end."""
    try:
        robots = {task: bench.robot(task, control) for task, _ in scenes}
        for version, (name, path) in enumerate(paths.items(), start=1):
            policy = bench.build(control)(*weights.load(path), version)
            for task, seed in scenes:
                found = attempt(robots[task], policy, name, task, seed)
                results.send_bytes(json.dumps(asdict(found)).encode())
    except Exception:
        results.send_bytes(json.dumps({"failed": traceback.format_exc()}).encode())
    results.close()


class _Worker:
    """A process at `work` with the pipe that it reports through; ended with the block."""

    def __init__(
        self,
        paths: Mapping[str, Path],
        scenes: Sequence[tuple[str, int]],
        control: ControlConfig,
        bench: Bench,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.results, sender = context.Pipe(duplex=False)
        arguments = (paths, scenes, control, bench, sender)
        self.process: BaseProcess = context.Process(target=work, args=arguments, daemon=True)
        with single_threaded():
            self.process.start()
        sender.close()
        self.missing = len(paths) * len(scenes)

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.results.close()
        self.process.terminate()
        self.process.join()
        self.process.close()

    def receive(self) -> dict | None:
        """The next attempt; None when all have come. ServiceError if the worker failed."""
        try:
            message = json.loads(self.results.recv_bytes())
        except EOFError:
            self.process.join()
            if not self.missing:
                return None
            message = {"failed": f"it ended with exit code {self.process.exitcode}."}
        if "failed" in message:
            raise ServiceError(
                f"an evaluation worker failed with {self.missing} attempts to go: "
                f"{message['failed']}"
            )
        self.missing -= 1
        return message


def _collect(team: Sequence[_Worker], done: Callable[[int], object]) -> list[dict]:
    """All attempts of all workers in the order of arrival; `done(count)` after each."""
    found: list[dict] = []
    busy = list(team)
    while busy:
        ready = wait([worker.results for worker in busy])
        for worker in [w for w in busy if w.results in ready]:
            message = worker.receive()
            if message is None:
                busy.remove(worker)
            else:
                found.append(message)
                done(len(found))
    return found


def _as_files(policies: Mapping[str, Artifact], folder: Path) -> dict[str, Path]:
    """A file for every policy: workers read it and nothing large goes through a pipe."""
    paths = {}
    for number, (name, artifact) in enumerate(policies.items()):
        if isinstance(artifact, Path):
            paths[name] = artifact
            continue
        paths[name] = folder / f"{number}.safetensors"
        paths[name].write_bytes(weights.encode(*artifact))
    return paths
