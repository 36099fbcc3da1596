"""The agents, the data and the bookkeeping of benchmarks/ogbench, without the package."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.ogbench import agent, cell, nets, report, run
from benchmarks.ogbench.cell import Cell, Pace, advance
from benchmarks.ogbench.data import chunked, sparse
from benchmarks.ogbench.ledger import Ledger
from ogbench_toy import PACE, Line, config, dataset, task


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


def evaluated(folder: Path, agent: str, name: str, seed: int, **entry) -> None:
    """A cell's file with one evaluation, as `advance` writes it."""
    told = {"agent": agent, "cell": name, "task": ["scene", "play", 1], "reward": "package"}
    told |= {"size": "small", "batch": 64, "learning_rate": 0.001, "frames": 1000}
    made = {"updates": entry["updates"], "successes": {str(seed): entry["found"]}}
    made |= {"ms_per_update": entry["ms"], "commit": "abc"}
    path = folder / f"{agent}-{name.replace(':', '-')}-{seed}/cell.json"
    path.parent.mkdir()
    path.write_text(json.dumps(told | {"seeds": [seed], "evaluations": [made]}))


def test_the_report_counts_seeds_and_shows_what_is_missing(tmp_path: Path) -> None:
    evaluated(tmp_path, "lwd", "iql:fql:10", 0, updates=10, found=[1, 1, 0, 1], ms=2.5)
    evaluated(tmp_path, "lwd", "iql:fql:10", 1, updates=10, found=[0, 0, 0, 1], ms=3.5)
    evaluated(tmp_path, "official", "qam_td:euler:10", 0, updates=20, found=[1, 1], ms=None)

    text = report.section(tmp_path)
    assert "## scene-play, task 1, small networks, batch 64, learning rate 0.001" in text
    assert "--data runs/ogbench/data/1 --cells iql:fql:10 --size" in text
    assert "--batch 64 --learning-rate 0.001 --updates 20 --eval-episodes 4 --seeds 0 1`" in text
    missing = next(line for line in text.splitlines() if line.startswith("- not run: "))
    assert "iql:fql:10" not in missing
    assert "qam_td:euler:10" in missing
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| lwd")]
    assert rows[0][:5] == ["| lwd", "iql", "fql", "10", "2.5"]
    assert rows[0][5].startswith("50% [22%, 78%] (4/8); 2 seeds [25%, 75%]")
    assert "| official | qam_td | euler | 10 | - | - | 100% [34%, 100%] (2/2) | - |" in text


def test_the_report_pairs_a_cell_with_the_official_code_by_seed(tmp_path: Path) -> None:
    ours, theirs = [1] * 9 + [0] * 11, [0] * 19 + [1]
    evaluated(tmp_path, "lwd", "iql:fql:10", 0, updates=20, found=ours, ms=2.5)
    evaluated(tmp_path, "lwd", "iql:fql:10", 1, updates=20, found=[1] * 20, ms=2.5)
    evaluated(tmp_path, "official", "qam_td:euler:10", 0, updates=20, found=theirs, ms=20.0)
    row = next(line for line in report.section(tmp_path).splitlines() if "| lwd" in line)
    # 9 starts only ours, 1 only theirs: two-sided p = 2 (1 + 10) / 2^10.
    assert row.endswith("p = 0.021 |")
    assert "| +40% [+" in row


def test_the_report_pairs_with_one_cell_of_the_official_code(tmp_path: Path) -> None:
    evaluated(tmp_path, "lwd", "iql:fql:10", 0, updates=20, found=[1] * 20, ms=2.5)
    evaluated(tmp_path, "official", "qam_td:euler:10", 0, updates=20, found=[1] * 20, ms=20.0)
    evaluated(tmp_path, "official", "qam_td:euler:4", 0, updates=20, found=[0] * 20, ms=20.0)
    text = report.section(tmp_path)
    assert "| minus official qam_td:euler:10 at 20 |" in text
    ours, theirs, other = (
        next(line for line in text.splitlines() if line.startswith(f"| {row} "))
        for row in ("lwd", "official | qam_td | euler | 10", "official | qam_td | euler | 4")
    )
    assert "| +0% [+0%, +0%], p = 1 |" in ours
    assert theirs.endswith("| - |")
    assert "| -100% [" in other


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--updates 15000 --evaluate-every 10000", "is no multiple of --evaluate-every 10000"),
        ("--updates 0", "is no multiple of --evaluate-every 10000"),
        ("--checkpoint-every 3000", "is no multiple of --checkpoint-every 3000"),
    ],
)
def test_updates_that_nobody_would_evaluate_are_refused(words: str, reason: str, capsys) -> None:
    with pytest.raises(SystemExit):
        run.asked(run.parser(), words.split())
    assert reason in capsys.readouterr().err


def test_the_grid_ends_with_an_evaluation() -> None:
    options = run.asked(run.parser(), ["--updates", "6000", "--evaluate-every", "2000"])
    assert [*run.stops(options)] == [2000, 4000, 6000]
