"""Evaluation that is kept start by start: a stop loses no more than the starts under way."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict
from functools import cache
from pathlib import Path

from lwd.actor.policy import Policy
from lwd.actor.robot import Robot
from lwd.actor.threads import single_threaded
from lwd.config import COMPACT
from lwd.eval.evaluate import Starts, attempt, flow_policy, held_out_robot
from lwd.eval.results import Attempt, from_dicts
from lwd.sim.collect.attempt import end_with_parent
from lwd.store import weights
from lwd.store.lines import Log, entries


def evaluate(kept: Path, stage: str, policy: Path, starts: Starts, *, workers: int) -> None:
    """Let a policy act at the starts that are not in the file `kept` yet, and add them to it."""
    busy = f"another process evaluates into {kept}; stop it first."
    with closing(Log(kept, busy=busy)) as log:  # opened first: it drops a line that a kill cut
        done = {(a.policy, a.task, a.seed) for a in read(kept)}
        scenes = [scene for scene in in_turn(starts) if (stage, *scene) not in done]
        for number, found in enumerate(_attempts(stage, policy, scenes, workers), start=1):
            log.append(asdict(found))
            print(
                f"{number}/{len(scenes)} {stage} {found.task} {found.outcome} "
                f"score {found.score:.2f} after {found.ticks / COMPACT.rate_hz:.0f} s",
                flush=True,
            )


def read(kept: Path) -> tuple[Attempt, ...]:
    """All that has been evaluated; nothing where there is no file."""
    return from_dicts(entries(kept)).attempts


def in_turn(starts: Starts) -> Iterator[tuple[str, int]]:
    """One start of every task after the other: what is there early says something of all."""
    scenes = starts.scenes()
    for number in range(starts.episodes):
        yield from scenes[number :: starts.episodes]


def _attempts(
    stage: str, policy: Path, scenes: list[tuple[str, int]], workers: int
) -> Iterator[Attempt]:
    """Of all scenes, as they end."""
    spawn = multiprocessing.get_context("spawn")
    with single_threaded():
        pool = ProcessPoolExecutor(workers, spawn, initializer=end_with_parent)
        try:
            flying = [pool.submit(_attempt, stage, policy, *scene) for scene in scenes]
            for future in as_completed(flying):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _attempt(stage: str, policy: Path, task: str, seed: int) -> Attempt:
    return attempt(_robot(task), _policy(policy), stage, task, seed)


@cache
def _robot(task: str) -> Robot:
    return held_out_robot(task, COMPACT)


@cache
def _policy(path: Path) -> Policy:
    return flow_policy(COMPACT)(*weights.load(path), 1)
