"""Does a small VLA learn from pixels on a CPU? Restocking from three cameras and an instruction.

`python -m benchmarks.vision` demonstrates a few scenes again and again, fine-tunes a small VLA on
that with the real learner, lets it act, learns one offline LWD stage from what came of it, and
writes benchmarks/results/vision.md. Several scenes have the same instruction word for word and the
arms begin alike in all: only pixels can tell them apart. What has been done is not done again: an
interrupted benchmark goes on.
"""

import argparse
import hashlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from benchmarks.record import REPOSITORY, header
from lwd.actor.loop import run_episode
from lwd.actor.recorder import Recording
from lwd.actor.robot import Observation
from lwd.config import (
    COMPACT,
    HostConfig,
    LearnerConfig,
    OptimiserConfig,
    PlaneConfig,
    SightConfig,
)
from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.episode.types import Episode, Kind, Outcome
from lwd.eval.intervals import wilson
from lwd.learner.process import run
from lwd.learner.recipes import nets, recipe
from lwd.models.artifact import FlowPolicy, pack
from lwd.models.presets import ROBOT_CAMERAS, input_format
from lwd.sim.rig import Circumstances, rig
from lwd.sim.robot import SimRobot
from lwd.store import weights
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of

log = logging.getLogger(__name__)

TASK = "restocking"
RECORDING = Recording(image_every=2)
FIRST, UNSEEN = 1000, 1_000_000
"""Seeds of demonstrated scenes, and of those that nobody demonstrated, are looked for from here."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done."""

    root: Path
    preset: str
    sentences: int
    """Instructions."""
    scenes: int
    """Scenes of each."""
    demos: int
    """Demonstrations of each scene."""
    rollouts: int
    """Episodes of the supervised policy on each scene."""
    updates: int
    offline: int
    batch: int
    draws: int
    """Flow draws for each chunk of a supervised batch."""
    starts: int


def main(arguments: Sequence[str] = ()) -> None:
    """Do what is missing, and write the table after each stage."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    plan, command = _parse(arguments), f"python -m benchmarks.vision {' '.join(arguments)}".strip()
    _commit(plan, Kind.DEMO, _demonstrations(plan))
    sft = _learn(plan, "sft")
    policies = {"sft": sft, "sft, blind": sft, "sft, other words": sft}
    policies["untrained"] = _untrained(plan, sft)
    _write(_report(plan, policies, command))
    _commit(plan, Kind.ROLLOUT, _rollouts(plan, sft))
    policies["offline LWD"] = _learn(plan, "offline")
    _write(_report(plan, policies, command))


def _write(text: str) -> None:
    (REPOSITORY / "benchmarks" / "results" / "vision.md").write_text(text)
    print(text)


def _parse(arguments: Sequence[str]) -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "runs" / "vision")
    parser.add_argument("--preset", default="tiny")
    defaults = {"sentences": 2, "scenes": 3, "demos": 10, "rollouts": 4, "updates": 4000}
    for name, default in (
        defaults | {"offline": 100, "batch": 32, "draws": 4, "starts": 48}
    ).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return Plan(**vars(parser.parse_args(arguments)))


def settings(plan: Plan) -> LearnerConfig:
    """The recipe's stages on this preset, smaller batches, no online stage."""
    base = recipe("lwd", COMPACT)
    sft = replace(
        base.stage("sft"),
        updates=plan.updates,
        batch=plan.batch,
        draws=plan.draws,
        episodes=1,
        optimiser=OptimiserConfig(policy_lr=1.5e-3, warmup=100),
    )
    offline = replace(
        base.stage("offline"),
        updates=plan.offline,
        batch=plan.batch,
        episodes=1,
        policy_every=2,
        optimiser=replace(base.stage("offline").optimiser, policy_lr=1e-4),
    )
    return replace(
        base, stages={"sft": sft, "offline": offline}, preset=plan.preset, checkpoint_every=200
    )


def _robot(plan: Plan):
    """A simulated robot with the cameras of the preset."""
    side = input_format(plan.preset, COMPACT).image
    sees = Circumstances(sight=SightConfig(cameras=ROBOT_CAMERAS, image_size=side, image_every=2))
    return rig(Kind.DEMO, (TASK,), COMPACT, robot_id="vision", circumstances=sees)


def scenes(plan: Plan, first: int) -> dict[int, str]:
    """Instruction by seed: the first seeds that share the words of `sentences` scenes."""
    robot, found, known = SimRobot((TASK,), control=COMPACT), {}, {}
    for seed in itertools.count(first):
        words = robot.reset(seed).instruction
        if len(known) < plan.sentences:
            known.setdefault(words, 0)
        if known.get(words, plan.scenes) < plan.scenes:
            known[words] += 1
            found[seed] = words
        if len(found) == plan.sentences * plan.scenes:
            return found
    raise AssertionError


def _demonstrations(plan: Plan) -> Iterator[Callable[[], Episode | None]]:
    kit = _robot(plan)
    robot, assert_operator = kit.robot(), kit.operator
    assert assert_operator is not None
    for number in range(plan.demos):
        for scene in scenes(plan, FIRST):

            def demonstrate(number: int = number, scene: int = scene) -> Episode | None:
                operator = assert_operator(robot, np.random.default_rng([number, scene]))
                recording = _named(f"demo/{number}/{scene}")
                found = run_episode(
                    robot, scene, None, operator, kind=Kind.DEMO, recording=recording
                )
                done = found is not None and found.header.outcome is Outcome.SUCCESS
                return found if done else None

            yield demonstrate


def _rollouts(plan: Plan, policy: FlowPolicy) -> Iterator[Callable[[], Episode | None]]:
    robot = _robot(plan).robot()
    for number in range(plan.rollouts):
        for scene in scenes(plan, FIRST):

            def act(number: int = number, scene: int = scene) -> Episode | None:
                recording = _named(f"rollout/{number}/{scene}")
                return run_episode(
                    robot, scene, _Seeded(policy, number), None,
                    kind=Kind.ROLLOUT, recording=recording,
                )  # fmt: skip

            yield act


def _named(name: str) -> Recording:
    """Records an episode under an id that the same attempt has again."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return replace(RECORDING, new_id=lambda: digest)


def _commit(plan: Plan, kind: Kind, attempts: Iterator[Callable[[], Episode | None]]) -> None:
    """Carry out what has not been, and make all of it a snapshot."""
    plane, done = PlaneConfig(root=plan.root), plan.root / f"{kind}.done"
    if done.exists():
        return
    plan.root.mkdir(parents=True, exist_ok=True)
    objects, ids = Objects(plane.objects), []
    with Catalog(plane.catalog) as catalog:
        for number, attempt in enumerate(attempts):
            episode = attempt()
            if episode is None:
                continue
            payload = encode(episode)
            row = describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
            objects.put(episode_key(row.sha256), payload)
            catalog.insert_episode(row)
            ids.append(row.episode_id)
            if number % 20 == 0:
                log.info("recorded kind=%s episodes=%d", kind, len(ids))
        token = catalog.acquire_lease(COORDINATOR, "vision", 1e9)
        assert token is not None
        catalog.commit_snapshot(ids, token=token)
    done.write_text(f"{len(ids)}\n")


def _learn(plan: Plan, stage: str) -> FlowPolicy:
    """The policy at the end of a stage, trained from the newest checkpoint on."""
    plane, config = PlaneConfig(root=plan.root), settings(plan)
    until = list(config.stages)[: list(config.stages).index(stage) + 1]
    with Catalog(plane.catalog) as catalog:
        found = [row for row in catalog.list_weights() if row.stage == stage]
    if not any(row.update == config.stage(stage).updates for row in found):
        started = time.monotonic()
        run(plane, replace(config, stages={s: config.stages[s] for s in until}), HostConfig())
        log.info("learned stage=%s seconds=%.0f", stage, time.monotonic() - started)
    with Catalog(plane.catalog) as catalog:
        row = [row for row in catalog.list_weights() if row.stage == stage][-1]
    fetched = weights.fetch(Objects(plane.objects), row, folder=plan.root / "weights")
    return FlowPolicy(*fetched, row.version, control=COMPACT)


def _untrained(plan: Plan, sft: FlowPolicy) -> FlowPolicy:
    """Fresh parameters with the statistics of the trained ones: chance."""
    config = settings(plan)
    params = nets(config).policy.init(jax.random.key(1))
    packed = pack(params, sft.normaliser, preset=plan.preset, control=COMPACT)
    return FlowPolicy(*packed, 1, control=COMPACT)


class _Seeded:
    """A policy whose noise begins anew in every attempt, with covered cameras or other words."""

    def __init__(
        self, policy: FlowPolicy, number: int, *, blind: bool = False, words: str = ""
    ) -> None:
        self.policy, self.number, self.blind, self.words = policy, number, blind, words
        self.version = policy.version
        self.normalisation_hash = policy.normalisation_hash
        self.tokenizer_hash = policy.tokenizer_hash

    def reset(self, seed: int) -> None:
        """Draws that differ from attempt to attempt at a scene."""
        self.policy.reset(100_003 * (self.number + 1) + seed)

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """As the policy, with black images or other words where that was asked for."""
        if self.blind:
            black = {name: np.zeros_like(image) for name, image in observation.images.items()}
            observation = replace(observation, images=black)
        return self.policy.chunk(observation, self.words or instruction)


def _report(plan: Plan, policies: dict[str, FlowPolicy], command: str) -> str:
    """Success on the demonstrated scenes and on others, with new draws of the flow's noise."""
    lines = [
        "# Learning from pixels on a CPU\n",
        header(command),
        f"`{plan.preset}` on {TASK}: three cameras, the instruction, joints and hands; no object "
        f"poses. {plan.demos} demonstrations of each of {plan.scenes} scenes of each of "
        f"{plan.sentences} instructions; {plan.updates} SFT updates of {plan.batch} with "
        f"{plan.draws} draws each; {plan.rollouts} rollouts of each scene, then {plan.offline} "
        "updates of offline LWD. The item is *lifted* if the robot once held the named thing off "
        "its ground. Scenes of one instruction begin with the same words and the same joints, so "
        f"that a policy without eyes has one way to act for {plan.scenes} scenes. *Other words*: "
        "the other scenes' instruction. 95 % Wilson intervals.\n",
        "| policy | scenes | success | 95 % | lifted | 95 % |\n|---|---|---|---|---|---|",
    ]
    for name, policy in policies.items():
        for kind, first in (("demonstrated", FIRST), ("new", UNSEEN)):
            if kind == "demonstrated" or name == "sft":
                done, lifted = _counted(plan, name, policy, kind, first)
                lines.append(f"| {name} | {kind} | {_share(done, plan)} | {_share(lifted, plan)} |")
                log.info("%s", lines[-1])
    return "\n".join(lines) + "\n"


def _share(count: int, plan: Plan) -> str:
    low, high = wilson(count, plan.starts)
    return f"{count}/{plan.starts} | {low:.0%} to {high:.0%}"


def _counted(plan: Plan, name: str, policy: FlowPolicy, kind: str, first: int) -> tuple[int, int]:
    """Successes and lifts among `starts` attempts; what was attempted before is not again."""
    file = plan.root / f"attempts-{name}-{kind}.jsonl".replace(" ", "-").replace(",", "")
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    robot, known = _robot(plan).robot(), list(scenes(plan, first).items())
    assert isinstance(robot, SimRobot)
    for start in range(len(found), plan.starts):
        seed, words = known[start % len(known)]
        other = next((w for _, w in known if w != words), words)
        acting = _Seeded(
            policy, 1000 + start, blind="blind" in name, words=other if "other" in name else ""
        )
        episode = run_episode(robot, seed, acting, None, kind=Kind.ROLLOUT, recording=RECORDING)
        assert episode is not None
        held = _lifted(episode, robot.scene.layout.target.name)
        found.append([episode.header.outcome is Outcome.SUCCESS, held])
        with file.open("a") as lines:
            lines.write(json.dumps(found[-1]) + "\n")
    return sum(s for s, _ in found), sum(held for _, held in found)


def _lifted(episode: Episode, item: str) -> bool:
    return any(f"lifted:{item}" in events for events in episode.events)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
