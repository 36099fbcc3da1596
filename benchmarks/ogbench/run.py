"""The grid of critics x extractors on one OGBench task; it may be killed and started again.

`python -m benchmarks.ogbench.run --domain scene --task 1 --data runs/ogbench/data/1000
--cells qam_td:euler:10 qam_td:bridge:4 --updates 50000 --seeds 0 1` trains and evaluates each cell,
all of them to the next evaluation before any goes beyond it, so that a grid that ends early still
compares equal budgets. A cell is CRITIC:EXTRACTOR:FLOW_STEPS. Everything is kept below --out, one
folder a cell with its evaluations (cell.json, which belong into the repository) and its checkpoint,
which does not; the same command goes on where it stopped, and a larger --updates continues it.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES = {"small": ((128, 128), 2), "full": ((512, 512, 512, 512), 10)}
"""Hidden layers and critics; `full` is the authors' configuration."""
GRID = [
    f"{critic}:{extractor}"
    for critic in ("qam_td", "iql", "divl")
    for extractor in ("best_of_n:10", "fql:10", "euler:10", "bridge:10", "bridge:4")
]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--domain", default="scene")
    ask.add_argument("--kind", default="play")
    ask.add_argument("--task", type=int, default=1)
    ask.add_argument("--reward", choices=("package", "authors"), default="package")
    ask.add_argument("--data", type=Path, default=Path("runs/ogbench/data/1000"))
    ask.add_argument("--cells", nargs="+", default=GRID, metavar="CRITIC:EXTRACTOR:STEPS")
    ask.add_argument("--updates", type=int, default=50_000)
    ask.add_argument("--seeds", type=int, nargs="+", default=[0])
    ask.add_argument("--together", action="store_true", help="all seeds in one program, by vmap")
    ask.add_argument("--size", choices=sorted(SIZES), default="small")
    ask.add_argument("--batch", type=int, default=256)
    ask.add_argument("--learning-rate", type=float, default=3e-4)
    ask.add_argument("--evaluate-every", type=int, default=10_000)
    ask.add_argument("--checkpoint-every", type=int, default=2_000)
    ask.add_argument("--dispatch", type=int, default=100, help="updates in one call")
    ask.add_argument("--eval-episodes", type=int, default=50)
    ask.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    ask.add_argument("--threads", type=int, default=1, help="of XLA on the CPU; 0: all cores")
    ask.add_argument("--out", type=Path, default=Path("benchmarks/results/ogbench"))
    return ask


def asked(ask: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says; a plan that would train beyond its last evaluation is refused."""
    options = ask.parse_args(words)
    every, end, kept = options.evaluate_every, options.updates, options.checkpoint_every
    if every < 1 or end < 1 or end % every:
        ask.error(
            f"--updates {end} is no multiple of --evaluate-every {every}: what is trained after "
            "the last evaluation would never be looked at. Change one of them."
        )
    if kept < 1 or every % kept:
        ask.error(
            f"--evaluate-every {every} is no multiple of --checkpoint-every {kept}: an evaluation "
            "follows a checkpoint. Change one of them."
        )
    return options


def stops(options: argparse.Namespace) -> range:
    """Numbers of updates after which every cell is evaluated; the last one ends the grid."""
    return range(options.evaluate_every, options.updates + 1, options.evaluate_every)


def settle(options: argparse.Namespace) -> None:
    """Choose device and threads, which JAX reads when it is first used."""
    os.environ["JAX_PLATFORMS"] = "cpu" if options.device == "cpu" else "cuda"
    if options.device == "cpu" and options.threads == 1:
        single = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {single}".strip()


def main() -> None:
    """Run what is missing of the grid."""
    options = asked(parser())
    settle(options)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("jax").setLevel(logging.WARNING)
    from benchmarks.ogbench import tasks  # after settle: what it imports may start JAX
    from benchmarks.ogbench.cell import Cell, Pace, advance
    from benchmarks.ogbench.data import chunked

    task = (options.domain, options.kind, options.task)
    env = tasks.environment(*task)
    dataset = tasks.load(env, *task, folder=options.data, reward=options.reward)
    chunks = chunked(dataset, 5, 0.99)
    pace = Pace(
        evaluate=options.evaluate_every,
        checkpoint=options.checkpoint_every,
        dispatch=options.dispatch,
        episodes=options.eval_episodes,
    )
    on_device = to_device(chunks)
    groups = [options.seeds] if options.together else [[seed] for seed in options.seeds]
    for until in stops(options):
        for seeds in groups:
            for cell in options.cells:
                name = "-".join(["lwd", cell.replace(":", "-"), "seed", *map(str, seeds)])
                wanted = Cell(
                    folder=place(options) / name,
                    config=configured(cell, options, chunks),
                    seeds=tuple(seeds),
                    facts=facts("lwd", cell, options, len(dataset["actions"])),
                )
                advance(wanted, on_device, env, until=until, pace=pace)


def place(options: argparse.Namespace) -> Path:
    """Folder of the cells that may stand in one table."""
    task = f"{options.domain}-{options.kind}-task{options.task}"
    trained = f"{options.size}-batch{options.batch}-lr{options.learning_rate:g}"
    return options.out / f"{task}-{options.reward}-{trained}"


def facts(agent: str, cell: str, options: argparse.Namespace, frames: int) -> dict[str, Any]:
    """What is kept beside the evaluations of a cell."""
    return {
        "agent": agent,
        "cell": cell,
        "task": [options.domain, options.kind, options.task],
        "reward": options.reward,
        "size": options.size,
        "batch": options.batch,
        "learning_rate": options.learning_rate,
        "frames": frames,
    }


def configured(cell: str, options: argparse.Namespace, chunks: Any) -> Any:
    """The agent of a cell such as `divl:bridge:4`, with the authors' settings for the domain."""
    from benchmarks.ogbench import tasks
    from benchmarks.ogbench.agent import AgentConfig

    critic, extractor, steps = cell.split(":")
    hidden, critics = SIZES[options.size]
    return AgentConfig(
        critic=critic,  # pyright: ignore[reportArgumentType] - AgentConfig checks it
        extractor=extractor,  # pyright: ignore[reportArgumentType]
        observation=chunks.observations.shape[1],
        action=chunks.actions.shape[1],
        lowest_return=chunks.lowest_reward / (1 - 0.99),
        flow_steps=int(steps),
        hidden=hidden,
        critics=critics,
        batch=options.batch,
        learning_rate=options.learning_rate,
        inv_temp=tasks.INV_TEMP[options.domain],
        expectile=tasks.EXPECTILE.get(options.domain, 0.9),
    )


def to_device(chunks: Any) -> Any:
    """The columns as arrays of the accelerator."""
    import jax.numpy as jnp

    return chunks._replace(
        **{
            name: jnp.asarray(value)
            for name, value in chunks._asdict().items()
            if name != "lowest_reward"
        }
    )


if __name__ == "__main__":
    main()
