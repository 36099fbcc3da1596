"""Generate OGBench manipulation data with the package's own oracles: no download, same format.

`python -m benchmarks.ogbench.generate --domain scene --episodes 1000` writes what the package's
dataset of that name holds: `scene-play-v0.npz` and, with a tenth of the episodes,
`scene-play-v0-val.npz`. The rules are those of its authors' script (oracles, noise, stacking
probability, health check of the scene), which is not part of the package; that script ignores its
seed, this one does not: every episode has its own, so that data can be made in pieces, by several
processes (--workers, --worker), and extended later without making the old episodes again.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import gymnasium  # pyright: ignore[reportMissingImports]
import numpy as np
import ogbench.manipspace  # noqa: F401 - registers the environments  # pyright: ignore
from ogbench.manipspace.oracles.markov import (  # pyright: ignore[reportMissingImports]
    button_markov,
    cube_markov,
    drawer_markov,
    window_markov,
)
from ogbench.manipspace.oracles.plan import (  # pyright: ignore[reportMissingImports]
    button_plan,
    cube_plan,
    drawer_plan,
    window_plan,
)

Kind = Literal["play", "noisy"]
Episode = dict[str, np.ndarray]

DOMAINS = ("scene", "cube-single", "cube-double", "puzzle-3x3")
EPISODE_STEPS = 1001
SHARD_EPISODES = 10
NOISE = 0.1
NOISE_SMOOTHING = 0.5
MIN_NORM = 0.4
NOISE_SCALE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
"""Noise of the `noisy` kind by action dimension: position, yaw, gripper."""
RANDOM_ACTIONS = {"scene": 0.1, "cube-single": 0.1, "cube-double": 0.1, "puzzle-3x3": 0.2}
"""Fraction of uniformly random actions in the `noisy` datasets of the package."""
DTYPES = {"terminals": bool, "button_states": np.int64}


def oracles(env: gymnasium.Env, domain: str, kind: Kind) -> dict[str, Any]:
    """The package's scripted expert for each kind of target that the environment may set."""
    markov, plan = {"env": env, "min_norm": MIN_NORM}, {"env": env, "noise": NOISE}
    plan["noise_smoothing"] = NOISE_SMOOTHING
    if domain.startswith("puzzle"):
        closed = {"gripper_always_closed": True}
        if kind == "noisy":
            return {"button": button_markov.ButtonMarkovOracle(**markov, **closed)}
        return {"button": button_plan.ButtonPlanOracle(**plan, **closed)}
    limit = {"max_step": 100} if domain == "scene" else {}
    if kind == "noisy":
        found = {"cube": cube_markov.CubeMarkovOracle(**markov, **limit)}
    else:
        found = {"cube": cube_plan.CubePlanOracle(**plan)}
    if domain != "scene":
        return found
    if kind == "noisy":
        return found | {
            "button": button_markov.ButtonMarkovOracle(**markov),
            "drawer": drawer_markov.DrawerMarkovOracle(**markov),
            "window": window_markov.WindowMarkovOracle(**markov),
        }
    return found | {
        "button": button_plan.ButtonPlanOracle(**plan),
        "drawer": drawer_plan.DrawerPlanOracle(**plan),
        "window": window_plan.WindowPlanOracle(**plan),
    }


def stacking_probability(domain: str) -> float:
    """How often a cube is to be put on another one in this episode."""
    if domain == "cube-single":
        return 0.0
    return np.random.uniform(0.0, 0.25) if domain == "cube-double" else 0.5


def healthy(domain: str, qpos: np.ndarray) -> bool:
    """Whether the scene's cube stayed in reach: not too far right, nor left beside the drawer."""
    if domain != "scene":
        return True
    y, z = qpos[:, 15], qpos[:, 16]
    lost = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not (y >= 0.29).any() and not lost.any()


def play(env: gymnasium.Env, agents: dict[str, Any], domain: str, kind: Kind, seed: int) -> Episode:
    """One episode of EPISODE_STEPS frames, random targets one after the other."""
    np.random.seed(seed)  # the oracles draw from numpy's global generator
    observation, info = env.reset(seed=seed)
    p_stack = stacking_probability(domain)
    spread = np.random.uniform(0, NOISE) * NOISE_SCALE
    p_random = RANDOM_ACTIONS[domain] if kind == "noisy" else 0.0
    agent = agents[info["privileged/target_task"]]
    agent.reset(observation, info)
    rows: dict[str, list] = {key: [] for key in ("observations", "actions", "terminals")}
    done = False
    while not done:
        if np.random.rand() < p_random:
            action = np.random.uniform(-1.0, 1.0, size=5)
        else:
            action = np.array(agent.select_action(observation, info))
            if kind == "noisy":
                action = action + np.random.normal(0, spread)
        action = np.clip(action, -1, 1)
        following, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        if agent.done:
            scene: Any = env.unwrapped
            fresh_observation, fresh = scene.set_new_target(p_stack=p_stack)
            agent = agents[fresh["privileged/target_task"]]
            agent.reset(fresh_observation, fresh)
        frame = {"observations": observation, "actions": action, "terminals": done}
        for key in ("qpos", "qvel", "button_states"):
            if f"prev_{key}" in info:
                frame[key] = info[f"prev_{key}"]
        for key, value in frame.items():
            rows.setdefault(key, []).append(value)
        observation = following
    return {key: np.array(row, dtype=DTYPES.get(key, np.float32)) for key, row in rows.items()}


def episode(
    env: gymnasium.Env, agents: dict[str, Any], domain: str, kind: Kind, root: tuple[int, ...]
) -> Episode:
    """The first healthy episode of a seed's attempts."""
    for attempt in range(100):
        seed = int(np.random.SeedSequence((*root, attempt)).generate_state(1)[0])
        made = play(env, agents, domain, kind, seed)
        if healthy(domain, made["qpos"]):
            return made
    raise RuntimeError(f"no healthy episode of {domain} in 100 attempts with seed {root}")


def write(path: Path, arrays: dict[str, Any]) -> None:
    """Save compressed arrays so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    with aside.open("wb") as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


def joined(parts: list[Episode]) -> Episode:
    """Episodes one after the other."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def shards(folder: Path, episodes: int) -> Iterator[tuple[Path, int, range]]:
    """File, split (0 train, 1 validation) and episode numbers of every piece of a dataset."""
    for split, count in enumerate((episodes, episodes // 10)):
        for start in range(0, count, SHARD_EPISODES):
            numbers = range(start, min(start + SHARD_EPISODES, count))
            name = f"{('train', 'val')[split]}-{numbers.start:05d}-{numbers.stop:05d}.npz"
            yield folder / name, split, numbers


def merge(folder: Path, episodes: int, target: Path) -> None:
    """Join the pieces into NAME.npz and NAME-val.npz."""
    parts: dict[int, list[Episode]] = {0: [], 1: []}
    for path, split, _ in shards(folder, episodes):
        with np.load(path) as file:
            parts[split].append({key: file[key] for key in file.files})
    for split, path in enumerate((target, target.with_name(f"{target.stem}-val.npz"))):
        write(path, joined(parts[split]))
        print(f"wrote {path} frames={sum(len(p['actions']) for p in parts[split])}", flush=True)


def main() -> None:
    """Make the missing pieces, then join them when all are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--domain", choices=DOMAINS, default="scene")
    parser.add_argument("--kind", choices=("play", "noisy"), default="play")
    parser.add_argument(
        "--episodes", type=int, default=1000, help="training episodes, a multiple of 10"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--worker", type=int, default=0, help="which share of the pieces is made here"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ogbench/data"))
    ask = parser.parse_args()
    if ask.episodes < 10 or ask.episodes % 10:
        parser.error(f"--episodes got {ask.episodes}; it must be a multiple of 10")

    name = f"{ask.domain}-{ask.kind}-v0"
    folder = ask.out / "pieces" / f"{name}-seed{ask.seed}"
    env = gymnasium.make(
        f"{ask.domain}-v0",
        terminate_at_goal=False,
        mode="data_collection",
        max_episode_steps=EPISODE_STEPS,
    )
    agents = oracles(env, ask.domain, ask.kind)
    pieces = list(shards(folder, ask.episodes))
    for index, (path, split, numbers) in enumerate(pieces):
        if path.exists() or index % ask.workers != ask.worker:
            continue
        start = time.monotonic()
        made = [episode(env, agents, ask.domain, ask.kind, (ask.seed, split, n)) for n in numbers]
        write(path, joined(made))
        seconds = time.monotonic() - start
        print(f"piece={index + 1}/{len(pieces)} file={path.name} seconds={seconds:.0f}", flush=True)
    if all(path.exists() for path, _, _ in pieces):
        merge(folder, ask.episodes, ask.out / str(ask.episodes) / f"{name}.npz")


if __name__ == "__main__":
    main()
