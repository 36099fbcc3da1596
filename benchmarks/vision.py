"""Does a small VLA learn from pixels on a CPU? Restocking from three cameras and an instruction.

`python -m benchmarks.vision [--minutes 30]` demonstrates a few scenes again and again, fine-tunes
`small` on that with the real learner, lets it act, learns one offline LWD stage from what came of
it, and writes benchmarks/results/vision.md. What has been done is not done again: an interrupted
benchmark goes on, and `--updates` may be raised.
"""

import argparse
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from benchmarks.record import REPOSITORY, header
from lwd.actor.loop import run_episode
from lwd.actor.policy import Policy
from lwd.actor.recorder import Recording
from lwd.config import COMPACT, HostConfig, LearnerConfig, OptimiserConfig, PlaneConfig
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
UNSEEN = 1_000_000
"""Seeds of scenes that nobody demonstrated begin here."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done."""

    root: Path
    preset: str
    scenes: int
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
    """Do what is missing, then write the table."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    plan, command = _parse(arguments), f"python -m benchmarks.vision {' '.join(arguments)}".strip()
    _commit(plan, Kind.DEMO, _demonstrations(plan))
    sft = _learn(plan, "sft")
    _commit(plan, Kind.ROLLOUT, _rollouts(plan, sft))
    policies = {"untrained": _untrained(plan), "sft": sft, "sft, blind": sft}
    policies["offline LWD"] = _learn(plan, "offline")
    text = _report(plan, policies, command)
    (REPOSITORY / "benchmarks" / "results" / "vision.md").write_text(text)
    print(text)


def _parse(arguments: Sequence[str]) -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "runs" / "vision")
    parser.add_argument("--preset", default="small")
    defaults = {"scenes": 8, "demos": 20, "rollouts": 4, "updates": 1500, "offline": 150}
    for name, default in (defaults | {"batch": 32, "draws": 4, "starts": 50}).items():
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
        optimiser=OptimiserConfig(policy_lr=1.5e-3, warmup=50),
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
        base, stages={"sft": sft, "offline": offline}, preset=plan.preset, checkpoint_every=50
    )


def _robot(plan: Plan):
    """A simulated robot with the cameras of the preset."""
    side = input_format(plan.preset, COMPACT).image
    sees = Circumstances(cameras=ROBOT_CAMERAS, image_size=side)
    return rig(Kind.DEMO, (TASK,), COMPACT, robot_id="vision", circumstances=sees)


def _demonstrations(plan: Plan) -> Iterator[Callable[[], Episode | None]]:
    kit = _robot(plan)
    robot, assert_operator = kit.robot(), kit.operator
    assert assert_operator is not None
    for number in range(plan.demos):
        for scene in range(plan.scenes):

            def demonstrate(number: int = number, scene: int = scene) -> Episode | None:
                operator = assert_operator(robot, np.random.default_rng([number, scene]))
                recording = _named(f"demo/{number}/{scene}")
                found = run_episode(
                    robot, _seed(scene), None, operator, kind=Kind.DEMO, recording=recording
                )
                done = found is not None and found.header.outcome is Outcome.SUCCESS
                return found if done else None

            yield demonstrate


def _rollouts(plan: Plan, policy: Policy) -> Iterator[Callable[[], Episode | None]]:
    robot = _robot(plan).robot()
    for number in range(plan.rollouts):
        for scene in range(plan.scenes):

            def act(number: int = number, scene: int = scene) -> Episode | None:
                policy.reset(number * plan.scenes + scene)
                recording = _named(f"rollout/{number}/{scene}")
                return run_episode(
                    robot, _seed(scene), policy, None, kind=Kind.ROLLOUT, recording=recording
                )

            yield act


def _named(name: str) -> Recording:
    """Records an episode under an id that the same attempt has again."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return replace(RECORDING, new_id=lambda: digest)


def _seed(scene: int) -> int:
    return 1000 + scene


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


def _untrained(plan: Plan) -> FlowPolicy:
    """Fresh parameters with the statistics of the trained ones: chance."""
    sft, config = _learn(plan, "sft"), settings(plan)
    params = nets(config).policy.init(jax.random.key(1))
    packed = pack(params, sft.normaliser, preset=plan.preset, control=COMPACT)
    return FlowPolicy(*packed, 1, control=COMPACT)


class Blind:
    """A policy whose cameras are covered."""

    def __init__(self, policy: FlowPolicy) -> None:
        self.policy = policy
        self.version = policy.version
        self.normalisation_hash = policy.normalisation_hash
        self.tokenizer_hash = policy.tokenizer_hash

    def reset(self, seed: int) -> None:
        """As the policy."""
        self.policy.reset(seed)

    def chunk(self, observation, instruction: str) -> np.ndarray:
        """As the policy, with black images."""
        black = {name: np.zeros_like(image) for name, image in observation.images.items()}
        return self.policy.chunk(replace(observation, images=black), instruction)


def _report(plan: Plan, policies: dict[str, FlowPolicy], command: str) -> str:
    """Success on the demonstrated scenes and on others, with new draws of the flow's noise."""
    robot = _robot(plan).robot()
    assert isinstance(robot, SimRobot)
    lines = [
        "# Learning from pixels on a CPU\n",
        header(command),
        f"`{plan.preset}` on {TASK}: three cameras, the instruction, joints and hands; no object "
        f"poses. {plan.demos} demonstrations of each of {plan.scenes} scenes; {plan.updates} SFT "
        f"updates of {plan.batch} with {plan.draws} draws each; {plan.rollouts} rollouts of each "
        f"scene, then {plan.offline} updates of offline LWD. The item is *lifted* if the robot "
        "once held the named thing off its ground. 95 % Wilson intervals.\n",
        "| policy | scenes | success | lifted | 95 % of success |\n|---|---|---|---|---|",
    ]
    kinds = (("demonstrated", 1000, plan.scenes), ("new", UNSEEN, plan.starts))
    for name, policy in policies.items():
        acting = Blind(policy) if name == "sft, blind" else policy
        for kind, base, scenes in kinds if name == "sft" else kinds[:1]:
            done, lifted = 0, 0
            for start in range(plan.starts):
                acting.reset(10_000 + start)
                episode = run_episode(
                    robot, base + start % scenes, acting, None, kind=Kind.ROLLOUT,
                    recording=RECORDING,
                )  # fmt: skip
                assert episode is not None
                done += episode.header.outcome is Outcome.SUCCESS
                lifted += _lifted(episode, robot.scene.layout.target.name)
            low, high = wilson(done, plan.starts)
            lines.append(
                f"| {name} | {kind} | {done}/{plan.starts} | {lifted}/{plan.starts} | "
                f"{low:.0%} to {high:.0%} |"
            )
            log.info("%s", lines[-1])
    return "\n".join(lines) + "\n"


def _lifted(episode: Episode, item: str) -> bool:
    return any(f"lifted:{item}" in events for events in episode.events)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
