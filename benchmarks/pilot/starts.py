"""Evaluation that is kept start by start: a stop loses no more than the starts under way."""

import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from benchmarks.record import commit
from lwd.actor.policy import Policy
from lwd.actor.robot import Robot
from lwd.actor.threads import single_threaded
from lwd.config import COMPACT, STAGES
from lwd.eval.evaluate import Starts, attempt, flow_policy, held_out_robot
from lwd.eval.results import Attempt, from_dict
from lwd.sim.collect.attempt import end_with_parent
from lwd.store import weights
from lwd.store.lines import Log, entries
from lwd.store.objects import sha256_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Start(Attempt):
    """An attempt, and what made it."""

    sha256: str
    """Hash of the policy's file."""
    commit: str
    """What evaluated it."""


def policy_file(root: Path, stage: str) -> Path:
    """The policy at the end of a stage."""
    return root / "policies" / f"{stage}.safetensors"


def evaluate(root: Path, stage: str, starts: Starts, *, workers: int) -> None:
    """Let the policy of a stage act at the starts that it has not had, and keep them."""
    kept, policy = root / "starts.jsonl", policy_file(root, stage)
    facts = {"sha256": sha256_of(policy.read_bytes()), "commit": commit()}
    busy = f"another process evaluates into {kept}; stop it first."
    with closing(Log(kept, busy=busy)) as file:  # opened first: it drops a line that a kill cut
        found, others = read(root)
        if others:
            log.warning("ignored starts=%d file=%s: not of the policies there", others, kept)
        done = {(a.policy, a.task, a.seed) for a in found}
        scenes = [scene for scene in in_turn(starts) if (stage, *scene) not in done]
        for number, made in enumerate(_attempts(stage, policy, scenes, workers), start=1):
            file.append(asdict(made) | facts)
            print(
                f"{number}/{len(scenes)} {stage} {made.task} {made.outcome} "
                f"score {made.score:.2f} after {made.ticks / COMPACT.rate_hz:.0f} s",
                flush=True,
            )


def read(root: Path) -> tuple[list[Start], int]:
    """The starts of the policies that are there, and how many others are in the file: of policies
    that were trained before, or without a word of which."""
    hashes = {
        stage: sha256_of(file.read_bytes())
        for stage in STAGES
        if (file := policy_file(root, stage)).exists()
    }
    lines = list(entries(root / "starts.jsonl"))
    counting = [a for a in lines if "sha256" in a and a["sha256"] == hashes.get(a["policy"])]
    return [from_dict(Start, line) for line in counting], len(lines) - len(counting)


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
