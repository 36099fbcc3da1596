"""Numbers of the authors' QAM code, for tests/algorithms/test_qam_official.py to agree with.

It runs their agent, unchanged, in an environment of its own (README.md beside this file):

    python benchmarks/qam_official/goldens.py PATH_OF_THEIR_REPOSITORY

writes tests/golden/qam_official.npz. Their noises are drawn again here from the keys that their
code uses, so that the numbers do not depend on a JAX version's random generator.
"""

import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

OBSERVATION, ACTION, HORIZON, BATCH = 5, 3, 2, 8
WIDTHS = (24, 24)
CASES = {"ten": (10, 3.0, True), "four": (4, 0.5, False)}
"""Name to flow steps, inverse temperature and whether the critic's gradient stops at the box."""
GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "qam_official.npz"


def official_agent(repository: Path):
    """Their module agents/qam.py without agents/__init__.py, which imports every other agent."""
    package = types.ModuleType("agents")
    package.__path__ = [str(repository / "agents")]
    sys.modules["agents"] = package
    sys.path.insert(0, str(repository))
    from agents import qam  # pyright: ignore[reportMissingImports]

    return qam


def create(qam, steps: int, inv_temp: float, clip: bool):
    """Their agent with nets of its own for every role, so that mixing two up shows."""
    config = qam.get_config()
    config.update(
        actor_hidden_dims=WIDTHS, value_hidden_dims=WIDTHS, num_qs=3, flow_steps=steps,
        inv_temp=inv_temp, clip_adj=clip, horizon_length=HORIZON, action_chunking=True,
    )  # fmt: skip
    agent = qam.QAMAgent.create(steps, jnp.zeros(OBSERVATION), jnp.zeros(ACTION), config)
    keys = iter(jax.random.split(jax.random.key(7), 1000))

    def moved(leaf):
        return leaf + 0.15 * jax.random.normal(next(keys), leaf.shape)

    params = jax.tree_util.tree_map(moved, dict(agent.network.params))
    return agent.replace(network=agent.network.replace(params=params))


def batch() -> dict:
    """A batch in their format: chunks of actions, rewards so far, nothing padded."""
    draw = np.random.default_rng(0)
    return {
        "observations": draw.normal(size=(BATCH, OBSERVATION)).astype(np.float32),
        "actions": draw.uniform(-1, 1, size=(BATCH, HORIZON, ACTION)).astype(np.float32),
        "valid": np.ones((BATCH, HORIZON), np.float32),
    }


def run(agent, data: dict) -> dict:
    """Inputs and outputs of one actor loss, by name."""
    key = jax.random.key(3)
    _, start_key, time_key, path_key, _ = jax.random.split(key, 5)
    steps, shape = agent.config["flow_steps"], (BATCH, HORIZON * ACTION)
    states, adjoints, _, _ = agent.adj_matching(data["observations"], path_key)
    (_, info), gradient = jax.value_and_grad(agent.actor_loss, argnums=1, has_aux=True)(
        data, agent.network.params, key
    )
    params = agent.network.params
    nets = {
        "policy": params["modules_actor_fast"],
        "reference": params["modules_target_actor_slow"],
        "cloned": params["modules_actor_slow"],
        "critic": params["modules_target_critic"],
        "gradient": gradient["modules_actor_fast"],
    }
    numbers = {
        "start": jax.random.normal(path_key, shape),
        "noises": jnp.stack(
            [jax.random.normal(k, shape) for k in jax.random.split(path_key, steps)]
        ),
        "states": states,
        "adjoints": adjoints,
        "loss": info["adj_loss"],
        "flow_start": jax.random.normal(start_key, shape),
        "flow_times": jax.random.uniform(time_key, (BATCH, 1)),
        "flow_loss": info["flow_loss"],
        "clip_adj": agent.config["clip_adj"],
        "inv_temp": agent.config["inv_temp"],
        "observations": data["observations"],
        "actions": data["actions"],
    }
    for net, tree in nets.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            numbers["/".join([net, *(str(part.key) for part in path)])] = leaf
    return numbers


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: goldens.py PATH_OF_THE_QAM_REPOSITORY")
    qam = official_agent(Path(sys.argv[1]))
    numbers = {
        f"{case}/{name}": np.asarray(value)
        for case, settings in CASES.items()
        for name, value in run(create(qam, *settings), batch()).items()
    }
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **numbers)  # pyright: ignore[reportArgumentType]
    print(f"{GOLDEN}: {len(numbers)} arrays, {GOLDEN.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
