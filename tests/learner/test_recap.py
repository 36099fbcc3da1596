"""RECAP from a real catalog: rounds of collection, labels, and a policy that is guided."""

import re
import shutil
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner import fleet
from learner.fleet import commit, learn, recap_once
from learner.nets import CHAIN, NETS, STAGE, at, random_batch
from learner.nets import fresh as blank
from learner.outcome import published, reported, reports, saved, versions
from lwd.algorithms import recap as maths
from lwd.config import PlaneConfig, StateLayout
from lwd.errors import ConfigError
from lwd.learner.checkpoint import Position
from lwd.learner.loss import Data
from lwd.learner.recipes import recap, shapes
from lwd.learner.recipes.recap import PolicyStage
from lwd.models.artifact import FlowPolicy
from lwd.models.tokenizer import INDICATORS, tokenize
from lwd.replay.batch import Batch
from lwd.sim.tasks import TASKS
from lwd.store import weights
from lwd.store.objects import Objects

small = partial(fleet.small, "recap")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_rounds_from_data_to_a_guided_policy(root, tmp_path, caplog):
    with caplog.at_level("INFO", "lwd.learner.recipes.recap"):
        assert learn(root, small())
    assert versions(root) == [("sft", 2), ("policy_1", 2), ("policy_2", 2)]
    assert [r["stage"] for r in reports(root)] == [
        name for name in ("sft", "value_1", "policy_1", "value_2", "policy_2") for _ in range(2)
    ]
    (first, _) = [r for r in caplog.records if "labelled" in r.msg]
    windows, positive, human = (int(number) for number in first.args[:3])
    assert windows == 11 * 12  # five demonstrations, a roll-out and five online episodes
    assert human == 6 * 3
    at_least = round(0.3 * windows)
    assert at_least <= positive <= at_least + human

    row = published(root)[-1]
    tensors, metadata = weights.fetch(
        Objects(PlaneConfig(root=root).objects), row, folder=tmp_path / "robot"
    )
    assert (metadata["act"], metadata["act.guidance"]) == ("guided", "1.5")
    plain = {name: text for name, text in metadata.items() if not name.startswith("act")}
    seen = SimpleNamespace(state=np.zeros(StateLayout().size, np.float32))
    chunks = []
    for told in (metadata, metadata | {"act.guidance": "4"}, plain):
        policy = FlowPolicy(tensors, told, row.version, control=small().control)
        policy.reset(0)
        chunks.append(policy.chunk(seen, "put the red can on the shelf"))
    assert np.abs(chunks[0] - chunks[1]).max() > 0
    assert np.abs(chunks[0] - chunks[2]).max() > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_policy_stage_keeps_its_snapshot_and_resumes_to_the_same_bits(root, tmp_path):
    stopped, config = tmp_path / "stopped", recap_once()
    shutil.copytree(root, stopped)
    assert learn(root, config)
    asked = reported(stopped, 5)  # two of sft, two of value_1, one of policy_1
    assert not learn(stopped, config, stop=asked)
    assert (reports(stopped)[-1]["stage"], reports(stopped)[-1]["update"]) == ("policy_1", 1)
    commit(stopped, *5 * ["online"], seed=100)
    assert learn(stopped, config)
    assert [row.sha256 for row in published(stopped)] == [row.sha256 for row in published(root)]
    assert [row.snapshot for row in published(stopped)] == [1, 1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hosts_label_alike_and_learn_what_one_learns(root, hosts, tmp_path):
    """Each ranks all windows, and both must call the same ones positive."""
    alone, config = tmp_path / "alone", recap_once(checkpoint_every=1)
    shutil.copytree(root, alone)
    assert learn(alone, config)
    pair = hosts.pair(root, held="recap")
    assert [host.wait(600) for host in pair] == [0, 0]
    first, second = (re.findall(r"labelled (windows=.*)", host.log.read_text()) for host in pair)
    assert first == second
    assert first, "both have said what they labelled"
    at_end, found = saved(root, config)
    assert at_end == Position("policy_1", 2)
    assert versions(root) == versions(alone) == [("sft", 2), ("policy_1", 2)]
    wanted = saved(alone, config)[1]
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_learner_waits_for_a_round_by_the_policy_that_it_published(tmp_path):
    commit(tmp_path, *3 * ["demo"], policy_version=0)
    config = small().with_stage("value_1", fresh=2)
    for name in ("policy_1", "value_2", "policy_2"):
        config = config.with_stage(name, updates=0)
    seen, asked = [], 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked in (4, 6, 8):  # the first two questions come from sft
            seen.append([r["stage"] for r in reports(tmp_path)].count("value_1"))
            version = 0 if asked == 4 else 1
            commit(tmp_path, "online", seed=asked, policy_version=version)
        return False

    assert learn(tmp_path, config, stop=stop)
    assert seen == [0, 0, 0]
    assert asked > 8


def test_every_window_of_the_mixture_is_ranked_once(monkeypatch):
    """Parts overlap, and what has no share does not count."""
    windows = {"online": [3, 1], "human": [7, 1], "play": [9]}

    def transitions(part: str) -> list[Batch]:
        numbers = np.array(windows[part])
        blank = dict.fromkeys(Batch._fields, np.zeros(len(numbers)))
        return [Batch(**(blank | {"window": numbers, "human": numbers > 2}))]

    monkeypatch.setattr(recap, "_advantage_of", lambda *_: lambda batch: batch.window / 10)
    stage = PolicyStage(updates=1, mixture={"online": 1.0, "human": 1.0, "play": 0.0})
    data = Data(small(), stage, NETS, SimpleNamespace(transitions=transitions), None, None)
    found = recap._windows(blank(), data)
    assert found.number.tolist() == [1, 3, 7]
    assert found.advantage.tolist() == [0.1, 0.3, 0.7]
    assert found.human.tolist() == [False, True, True]


def test_the_words_of_the_indicator_are_those_of_no_instruction():
    rng, said = np.random.default_rng(0), set()
    for task in TASKS.values():
        for held_out in (False, True):
            for layout in (task.draw(rng, held_out) for _ in range(100)):
                words = {"item": layout.target.name, **layout.words}
                tokens = tokenize([template.format(**words) for template in task.templates])
                assert not tokens[:, -2:].any(), f"{task.name}: no room for the indicator"
                said |= set(tokens.ravel().tolist())
    told = tokenize(list(INDICATORS.values()))
    assert not said & {int(token) for token in told.ravel() if token}
    assert (told[0] != told[1]).any()


def test_a_robot_says_the_words_that_the_learner_trained_with():
    instruction = "put the red can on the shelf"
    praise = tokenize([INDICATORS[True]])[0, :2]
    found = maths.append_indicator(jnp.asarray(tokenize([instruction])), jnp.asarray(praise))
    np.testing.assert_array_equal(found, tokenize([f"{instruction} {INDICATORS[True]}"]))


def test_every_round_starts_from_the_supervised_policy():
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes(small()))
    state = state._replace(policy=jax.tree.map(lambda x: x + 1, state.policy))
    started = recap.from_reference(state)
    pairs = zip(jax.tree.leaves(started.policy), jax.tree.leaves(state.reference), strict=True)
    for copy, original in pairs:
        np.testing.assert_array_equal(copy, 0)
        assert copy is not original  # donated separately


def test_the_value_of_a_state_is_its_return_and_an_open_end_is_estimated(rng):
    step = jax.jit(partial(recap.value_update, nets=NETS, optimisers=CHAIN, stage=STAGE))
    batch = random_batch(rng)
    ones = batch.inputs._replace(state=jnp.ones_like(batch.inputs.state))
    batch = batch._replace(inputs=ones, next_inputs=ones)
    everywhere = jnp.ones_like(batch.returns)
    closed = batch._replace(returns=0.7 * everywhere, discount=0 * everywhere)
    state, key = blank(), jax.random.key(0)
    for _ in range(300):
        state, metrics = step(state, closed, key, at(0.0, 3e-2, 0.6))
    assert float(metrics["value/error"]) < 0.03
    cut_off = batch._replace(returns=0 * everywhere, discount=everywhere)
    _, metrics = step(state, cut_off, key, at(0.0, 3e-2, 0.6))
    assert float(metrics["value/error"]) < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive": 0.0}, "positive is 0.0; it lies strictly between 0 and 1"),
        ({"dropped": 1.0}, "dropped is 1.0; it lies strictly between 0 and 1"),
        ({"guidance": 0.0}, "guidance is 0.0; it must be positive"),
        ({"updates": -1}, "updates is -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PolicyStage(**({"updates": 1, "mixture": {"experience": 1.0}} | changes))
