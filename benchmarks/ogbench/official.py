"""The authors' QAM code on the same data, networks, updates and starts; runs in env `official`.

`python -m benchmarks.ogbench.official --repository PATH --task 1 --data runs/ogbench/data/1000`
with PATH a checkout of github.com/ColinQiyangLi/qam at f93efd2. It calls the authors' agent,
dataset class and update as their main.py does, and replaces only what that script does around them:
the download, the logging service and the evaluation, which is that of our agents.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ogbench.evaluate import successes
from benchmarks.ogbench.ledger import Ledger, replace
from benchmarks.ogbench.run import SIZES, asked, facts, parser, place, settle, stops

log = logging.getLogger(__name__)
HORIZON = 5


def create(options: argparse.Namespace, seed: int, dataset: Any, inv_temp: float) -> Any:
    """The authors' agent with their settings for manipulation; only its size is ours."""
    from agents import agents as known  # pyright: ignore[reportMissingImports]
    from agents.qam import get_config  # pyright: ignore[reportMissingImports]

    hidden, critics = SIZES[options.size]
    config = get_config()
    config["horizon_length"] = HORIZON
    config["action_chunking"] = True
    config["actor_hidden_dims"] = hidden
    config["value_hidden_dims"] = hidden
    config["num_qs"] = critics
    config["batch_size"] = options.batch
    config["lr"] = options.learning_rate
    config["flow_steps"] = options.flow_steps
    config["inv_temp"] = inv_temp
    example = dataset.sample(())
    return known["qam"].create(seed, example["observations"], example["actions"], config)


def train(agent: Any, dataset: Any, count: int) -> tuple[Any, dict[str, Any], float]:
    """`count` updates as in main.py; the agent, its last metrics and milliseconds per update."""
    import jax

    started, fastest, info = time.perf_counter(), float("inf"), {}
    for i in range(count):
        batch = dataset.sample_sequence(agent.config["batch_size"], HORIZON, 0.99)
        agent, info = agent.update(batch)
        if i % 100 == 99:
            jax.block_until_ready(info)
            now = time.perf_counter()
            fastest, started = min(fastest, 10 * (now - started)), now
    return agent, {name: float(value) for name, value in info.items()}, fastest


def advance(
    folder: Path, options: argparse.Namespace, seed: int, dataset: Any, env: Any, until: int
) -> None:
    """Train to `until` from the last checkpoint, evaluating on the way."""
    import flax  # pyright: ignore[reportMissingImports]

    from benchmarks.ogbench import tasks

    agent = create(options, seed, dataset, tasks.INV_TEMP[options.domain])
    about = facts("official", f"qam_td:euler:{options.flow_steps}", options, int(dataset.size))
    ledger = Ledger(folder / "cell.json", about | {"seeds": [seed]})
    if ledger.evaluated(until):
        return
    done, ms, metrics = 0, None, {}
    if (folder / "state.msgpack").exists():
        saved = flax.serialization.msgpack_restore((folder / "state.msgpack").read_bytes())
        agent, done = flax.serialization.from_state_dict(agent, saved["agent"]), saved["updates"]
    while True:
        if done and done % options.evaluate_every == 0 and not ledger.evaluated(done):
            act = actor(agent, seed)
            found = [int(s) for s in successes(env, act, options.eval_episodes, seed)]
            entry = {"updates": done, "successes": {str(seed): found}}
            ledger.add(entry | {"ms_per_update": ms, "metrics": metrics})
            log.info("evaluated=%s updates=%d success=%.3f", folder.name, done, np.mean(found))
        if done >= until:
            return
        np.random.seed(np.random.SeedSequence((seed, done)).generate_state(1)[0])
        agent, metrics, ms = train(agent, dataset, options.checkpoint_every)
        done += options.checkpoint_every
        state = {"agent": flax.serialization.to_state_dict(agent), "updates": done}
        content = flax.serialization.msgpack_serialize(state)
        replace(folder / "state.msgpack", lambda file, content=content: file.write(content))
        log.info("cell=%s updates=%d ms=%.1f %s", folder.name, done, ms, metrics)


def actor(agent: Any, seed: int) -> Any:
    """What the authors' evaluation executes, with random numbers that name episode and decision."""
    import jax

    def act(observation: np.ndarray, number: int, decision: int) -> np.ndarray:
        key = jax.random.PRNGKey(seed)  # noqa: TID251 - the authors' code takes raw keys
        key = jax.random.fold_in(jax.random.fold_in(key, number), decision)
        actions = agent.sample_actions(observations=observation, rng=key)
        return np.asarray(actions).reshape(HORIZON, -1)

    return act


def main() -> None:
    """Run what is missing."""
    ask = parser()
    ask.add_argument("--repository", type=Path, required=True, help="checkout of the authors' code")
    ask.add_argument("--flow-steps", type=int, default=10)
    options = asked(ask)
    settle(options)
    sys.path.insert(0, str(options.repository.resolve()))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    from utils.datasets import Dataset  # pyright: ignore[reportMissingImports]

    from benchmarks.ogbench import tasks

    task = (options.domain, options.kind, options.task)
    env = tasks.environment(*task)
    found = tasks.load(env, *task, folder=options.data, reward=options.reward)
    dataset = Dataset.create(**found)
    for until in stops(options):
        for seed in options.seeds:
            name = f"official-qam_td-euler-{options.flow_steps}-seed-{seed}"
            advance(place(options) / name, options, seed, dataset, env, until)


if __name__ == "__main__":
    main()
