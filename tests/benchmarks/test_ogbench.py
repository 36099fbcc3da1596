"""The agents, the data and the bookkeeping of benchmarks/ogbench, without the package."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.ogbench import agent, cell, nets, report
from benchmarks.ogbench.agent import AgentConfig
from benchmarks.ogbench.cell import Cell, Pace, advance
from benchmarks.ogbench.data import Chunks, chunked, sparse
from benchmarks.ogbench.ledger import Ledger

OBSERVATION, ACTION = 3, 2


def dataset(rng: np.random.Generator, episodes: int = 3, steps: int = 12) -> dict[str, np.ndarray]:
    """Transitions as the package loads them; the second episode has a success in the middle."""
    frames = episodes * steps
    states = rng.normal(size=(episodes, steps + 1, OBSERVATION)).astype(np.float32)
    terminals = np.zeros((episodes, steps), np.float32)
    terminals[:, -1] = 1
    rewards = -rng.integers(1, 3, size=frames).astype(np.float32)
    masks = np.ones(frames, np.float32)
    rewards[steps + 5], masks[steps + 5] = 0.0, 0.0
    return {
        "observations": states[:, :-1].reshape(frames, OBSERVATION),
        "next_observations": states[:, 1:].reshape(frames, OBSERVATION),
        "actions": rng.uniform(-1, 1, size=(frames, ACTION)).astype(np.float32),
        "rewards": rewards,
        "masks": masks,
        "terminals": terminals.reshape(frames),
    }


def config(critic: str = "qam_td", extractor: str = "bridge", **changes) -> AgentConfig:
    small = {"observation": OBSERVATION, "action": ACTION, "horizon": 4, "hidden": (16, 16)}
    small |= {"flow_steps": 3, "batch": 8, "atoms": 11, "candidates": 3, "td_candidates": 2}
    return AgentConfig(critic=critic, extractor=extractor, **(small | changes))  # pyright: ignore


def test_chunks_are_those_of_a_loop_over_frames(rng: np.random.Generator) -> None:
    data = dataset(rng)
    chunks = chunked(data, 4, 0.9)
    starts = [i for i in range(36) if i % 12 <= 8]
    assert chunks.starts.tolist() == starts
    for i in starts:
        rewards, alive = data["rewards"][i : i + 4], data["masks"][i : i + 4].min()
        assert chunks.returns[i] == pytest.approx(sum(0.9**k * r for k, r in enumerate(rewards)))
        assert chunks.discounts[i] == pytest.approx(0.9**4 * alive)
        np.testing.assert_array_equal(chunks.following[i], data["next_observations"][i + 3])
    assert chunks.discounts[17 - 3] == 0.0
    assert chunks.lowest_reward == -2.0


def test_too_short_a_dataset_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"has 3 frames; a chunk needs 4"):
        chunked({name: rows[:3] for name, rows in dataset(rng).items()}, 4, 0.9)


def test_sparse_rewards_say_only_whether_all_is_done() -> None:
    assert sparse(np.array([-3.0, -1.0, 0.0])).tolist() == [-1.0, -1.0, 0.0]


def test_a_network_is_dense_layers_with_gelu_and_layer_norm(rng: np.random.Generator) -> None:
    net = nets.init(jax.random.key(0), 3, (5, 4), 2, norm=True)
    x = inputs = rng.normal(size=(7, 3)).astype(np.float32)
    for i, layer in enumerate(net):
        x = x @ np.asarray(layer["weight"]) + np.asarray(layer["bias"])
        if i < 2:
            x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(nets.apply(net, jnp.asarray(inputs)), x, rtol=2e-4, atol=1e-5)
    assert set(net[-1]) == {"weight", "bias"}


@pytest.mark.slow
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


def test_targets_follow_the_parameters_from_before_the_update(rng: np.random.Generator) -> None:
    chunks = chunked(dataset(rng), 4, 0.99)
    update = cell.trainer(config(), 1, 1)
    first, _ = update(agent.create(config(), 0), chunks)
    params, targets = jax.tree.map(np.array, (first.params, first.target))
    second, _ = update(first, chunks)
    for name in ("critic", "slow"):
        new, old = second.target[name][0]["weight"], targets[name][0]["weight"]
        follow = old + 0.005 * (params[name][0]["weight"] - old)
        np.testing.assert_allclose(new, follow, rtol=1e-6, atol=1e-8)


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="'sarsa' x 'bridge' is unknown"):
        config("sarsa")


@pytest.mark.slow
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


class Line:
    """An environment of three frames that succeeds where the last action is positive."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        self.left = 3
        self.state = np.full(OBSERVATION, seed % 7, np.float64)
        return self.state, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.broken:
            raise KeyboardInterrupt
        self.left -= 1
        done = self.left == 0
        return self.state, 0.0, done, False, {"success": bool(action[0] > 0)}


PACE = Pace(evaluate=4, checkpoint=2, dispatch=1, episodes=5)


def task(folder: Path, seeds: tuple[int, ...] = (0,)) -> Cell:
    return Cell(folder=folder, config=config(), seeds=seeds, facts={"agent": "lwd"})


def test_a_cell_that_was_stopped_ends_like_one_that_was_not(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    chunks = chunked(dataset(rng), 4, 0.99)
    whole = advance(task(tmp_path / "whole"), chunks, Line(), until=8, pace=PACE)

    parts = task(tmp_path / "parts")
    advance(parts, chunks, Line(), until=2, pace=PACE)
    with pytest.raises(KeyboardInterrupt):
        advance(parts, chunks, Line(broken=True), until=8, pace=PACE)
    assert not (parts.folder / "cell.json").exists()
    resumed = advance(parts, chunks, Line(), until=8, pace=PACE)
    again = advance(parts, chunks, Line(broken=True), until=8, pace=PACE)

    def kept(ledger: Ledger) -> list:
        return [(entry["updates"], entry["successes"]) for entry in ledger.entries]

    assert [entry["updates"] for entry in whole.entries] == [4, 8]
    assert kept(whole) == kept(resumed) == kept(again)
    with np.load(tmp_path / "whole/state.npz") as one, np.load(parts.folder / "state.npz") as two:
        assert one.files == two.files
        assert all(np.array_equal(one[name], two[name]) for name in one.files)


@pytest.mark.slow
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


def test_another_cell_is_not_continued(rng: np.random.Generator, tmp_path: Path) -> None:
    chunks = chunked(dataset(rng), 4, 0.99)
    advance(task(tmp_path), chunks, Line(), until=4, pace=PACE)
    other = Cell(folder=tmp_path, config=config(inv_temp=9.0), seeds=(0,), facts={"agent": "lwd"})
    with pytest.raises(ValueError, match="is of another cell"):
        advance(other, chunks, Line(), until=4, pace=PACE)
    with pytest.raises(ValueError, match="other networks"):
        cell.restore(tmp_path / "state.npz", cell.create(config(hidden=(8,)), (0,)))


def test_a_pace_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="each must divide"):
        Pace(evaluate=10, checkpoint=4, dispatch=2)


def test_the_report_counts_seeds_and_shows_what_is_missing(tmp_path: Path) -> None:
    about = {"task": ["scene", "play", 1], "reward": "authors", "size": "small", "frames": 1000}
    for agent_name, seed, found in (("lwd", 0, [1, 1, 0, 1]), ("lwd", 1, [0, 0, 0, 1])):
        entry = {"updates": 10, "successes": {str(seed): found}, "ms_per_update": 2.5 + seed}
        told = about | {"agent": agent_name, "cell": "iql:fql:10", "seeds": [seed]}
        path = tmp_path / f"{agent_name}-{seed}" / "cell.json"
        path.parent.mkdir()
        path.write_text(json.dumps(told | {"evaluations": [entry]}))
    later = {"updates": 20, "successes": {"0": [1, 1]}, "ms_per_update": None}
    told = about | {"agent": "official", "cell": "qam_td:euler:10", "seeds": [0]}
    (tmp_path / "official").mkdir()
    (tmp_path / "official/cell.json").write_text(json.dumps(told | {"evaluations": [later]}))

    text = report.section(tmp_path)
    assert "## scene-play, task 1, small networks" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| lwd")]
    assert rows[0][:5] == ["| lwd", "iql", "fql", "10", "2.5"]
    assert rows[0][5].startswith("50% [22%, 78%] (4/8); 2 seeds [25%, 75%]")
    assert "| official | qam_td | euler | 10 | - | - | 100% [34%, 100%] (2/2) |" in text
