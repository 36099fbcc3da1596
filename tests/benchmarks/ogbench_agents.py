"""Every kind of agent of benchmarks/ogbench learns: `make -f benchmarks/ogbench/Makefile test`.

Not part of `make test`: the agents take a minute to compile.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.ogbench import agent, cell
from benchmarks.ogbench.cell import advance
from benchmarks.ogbench.data import Chunks, chunked
from ogbench_toy import ACTION, OBSERVATION, PACE, Line, config, dataset, task


@pytest.mark.parametrize(
    ("critic", "extractor", "trained"),
    [
        ("qam_td", "euler", {"critic", "slow", "fast"}),
        ("divl", "bridge", {"critic", "slow", "fast", "value"}),
        ("iql", "fql", {"critic", "slow", "one_step", "value"}),
        ("qam_td", "best_of_n", {"critic", "slow"}),
    ],
)
def test_an_update_moves_every_network_of_the_cell(
    rng: np.random.Generator, critic: str, extractor: str, trained: set[str]
) -> None:
    chosen, chunks = config(critic, extractor), chunked(dataset(rng), 4, 0.99)
    before = agent.create(chosen, 0)
    after, metrics = jax.jit(agent.updates(chosen, 2))(before, chunks)
    assert set(after.params) == trained
    for name, net in after.params.items():
        assert not np.array_equal(net[0]["weight"], before.params[name][0]["weight"]), name
    assert all(np.isfinite(value) for value in metrics.values())
    action = agent.act(chosen, after.params, jnp.zeros((5, OBSERVATION)), jax.random.key(1))
    assert action.shape == (5, 4, ACTION)
    assert np.abs(action).max() <= 1.0


def test_the_tilted_flow_prefers_what_the_critic_rewards(rng: np.random.Generator) -> None:
    actions = rng.uniform(-1, 1, size=(512, 1)).astype(np.float32)
    zeros = np.zeros((512, OBSERVATION), np.float32)
    chunks = Chunks(
        observations=zeros,
        actions=actions,
        following=zeros,
        returns=actions[:, 0],
        discounts=np.zeros(512, np.float32),
        starts=np.arange(512, dtype=np.int32),
        lowest_reward=-1.0,
    )
    chosen = config(action=1, horizon=1, batch=64, inv_temp=3.0, learning_rate=3e-3)
    state, _ = jax.jit(agent.updates(chosen, 600))(agent.create(chosen, 0), chunks)
    many = jnp.zeros((256, OBSERVATION))
    tilted = agent.policy(chosen, state.params, many, jax.random.key(1))
    behaviour = agent.policy(
        config("iql", "best_of_n", action=1, horizon=1), state.params, many, jax.random.key(1)
    )
    assert abs(float(behaviour.mean())) < 0.2
    assert float(tilted.mean()) > 0.35


def test_seeds_in_one_program_are_those_of_programs_of_their_own(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    chunks = chunked(dataset(rng), 4, 0.99)
    together = advance(task(tmp_path / "both", (3, 4)), chunks, Line(), until=4, pace=PACE)
    assert list(together.entries[0]["successes"]) == ["3", "4"]
    both, _ = cell.restore(tmp_path / "both/state.npz", cell.create(config(), (3, 4)))
    advance(task(tmp_path / "one", (4,)), chunks, Line(), until=4, pace=PACE)
    one, _ = cell.restore(tmp_path / "one/state.npz", cell.create(config(), (4,)))
    for a, b in zip(jax.tree.leaves(both.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-5)
