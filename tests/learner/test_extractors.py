"""Recipes that act with more than a flow: on critics whose best action is known, and end to end."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.fleet import learn
from learner.nets import ACTION, CHAIN, HORIZON, NETS, SLOPE, STAGE, at, distance, random_batch
from learner.outcome import published
from lwd.config import COMPACT, LearnerConfig, PlaneConfig, StateLayout
from lwd.errors import ConfigError
from lwd.learner.recipes import fresh, losses, nets, recipe
from lwd.learner.recipes.best_of_n import BestStage
from lwd.learner.recipes.fql import OneStepStage
from lwd.learner.recipes.latent import SteeredStage
from lwd.learner.recipes.qam_edit import EditStage
from lwd.learner.state import TrainState, Transitions, init, optimisers
from lwd.models.acts import ACTS, Parts
from lwd.models.artifact import FlowPolicy, pack
from lwd.models.fns import Inputs
from lwd.models.normaliser import Normaliser
from lwd.store import weights
from lwd.store.objects import Objects

STAGES = {
    "fql": OneStepStage(**vars(STAGE), alpha=2.0),
    "qam_fql": OneStepStage(**vars(STAGE), alpha=2.0),
    "qam_edit": EditStage(**vars(STAGE), scale=0.5),
    "latent": SteeredStage(**vars(STAGE), noise_bound=1.5),
    "best_of_n": BestStage(**vars(STAGE), candidates=8),
}
LEARNED = [name for name in STAGES if name != "best_of_n"]


@pytest.fixture
def batch(rng) -> Transitions:
    return random_batch(rng)


def started(name: str) -> TrainState:
    """The state in which the recipe's RL starts."""
    loss = losses(name)["offline"]
    extra = loss.extra(jax.random.key(1), NETS)
    return with_known_critic(loss.start(init(jax.random.key(0), *NETS, CHAIN, extra)))


def with_known_critic(state: TrainState) -> TrainState:
    q = {"slope": jnp.stack([SLOPE, SLOPE]), "bias": jnp.zeros(2)}
    return state._replace(q=q, target_q=jax.tree.map(jnp.copy, q))


def train(name: str, batch: Transitions, updates: int) -> TrainState:
    """After `updates` of the recipe on the known critic."""
    stage, state = STAGES[name], started(name)
    step = losses(name)["offline"].step(stage, 0)
    step = jax.jit(partial(step, nets=NETS, optimisers=CHAIN, stage=stage))
    for number in range(updates):
        state, metrics = step(state, batch, jax.random.key(number), at(1e-2, 1e-2, 0.6))
        assert bool(metrics["finite"])
        state = with_known_critic(state)
    return state


def chunks(name: str, state: TrainState, batch: Transitions) -> jax.Array:
    """[samples, horizon, action] that a robot would choose in the first state."""
    acting = losses(name)["offline"].acting(state, STAGES[name])
    act, inputs = ACTS[acting.act], jax.tree.map(lambda x: jnp.repeat(x[:1], 4096, 0), batch.inputs)
    parts = Parts(
        policy=NETS.policy, critic=NETS.critic, params=state.policy, extra=acting.extra,
        inputs=inputs, steps=10,
    )  # fmt: skip
    shape = (act.draws(acting.settings), 4096, HORIZON, ACTION)
    return act.sample(parts, jax.random.normal(jax.random.key(9), shape), acting.settings)


def worth(actions: jax.Array) -> float:
    return float(jnp.einsum("bha,ha->b", actions, SLOPE).mean())


@pytest.mark.parametrize("name", LEARNED)
def test_training_raises_what_the_critic_says_of_the_robots_chunks(name, batch):
    before, after = started(name), train(name, batch, 300)
    assert worth(chunks(name, after, batch)) > worth(chunks(name, before, batch)) + 0.05
    assert distance(after.reference, before.reference) == 0
    assert (distance(after.policy, before.policy) > 0) == name.startswith("qam")


def test_the_one_step_policy_moves_by_the_gradient_over_twice_alpha(batch):
    """The distance is a mean over d numbers: a linear Q moves each by d dQ/da / (2 alpha)."""
    after = train("fql", batch, 600)
    moved = (chunks("fql", after, batch) - chunks("fql", started("fql"), batch)).mean(0)
    np.testing.assert_allclose(moved, HORIZON * ACTION / (2 * 2.0) * SLOPE, atol=0.05)


def test_the_one_step_policy_of_qam_follows_the_tilted_flow(batch):
    """QAM moves the flow by inv_temp dQ/da; the one-step policy goes beyond it by its own step."""
    after = train("qam_fql", batch, 800)
    moved = (chunks("qam_fql", after, batch) - chunks("qam_fql", started("qam_fql"), batch)).mean(0)
    wanted = (STAGE.qam.inv_temp + HORIZON * ACTION / (2 * 2.0)) * SLOPE
    np.testing.assert_allclose(moved, wanted, atol=0.15)


def test_an_editor_never_leaves_its_scale_around_the_tilted_flow(batch):
    after = train("qam_edit", batch, 100)
    flow = flow_of(after, batch)
    moved = jnp.abs(chunks("qam_edit", after, batch) - flow)
    assert 0.1 < float(moved.max()) < 0.5 + 1e-6


def flow_of(state: TrainState, batch: Transitions) -> jax.Array:
    """What the flow makes of the noise that `chunks` edits."""
    inputs = Inputs(*(jnp.repeat(x[:1], 4096, 0) for x in batch.inputs))
    parts = Parts(
        policy=NETS.policy, critic=NETS.critic, params=state.policy, extra={}, inputs=inputs,
        steps=10,
    )  # fmt: skip
    return parts.flow(jax.random.normal(jax.random.key(9), (2, 4096, HORIZON, ACTION))[0])


def test_the_noise_critic_learns_the_slope_of_q_through_the_flow(batch):
    """The flow's Euler steps scale the noise by the same factor for every number."""
    after = train("latent", batch, 600)
    inputs = jax.tree.map(lambda x: x[:1], batch.inputs)
    still = Parts(
        policy=NETS.policy, critic=NETS.critic, params=after.policy, extra={}, inputs=inputs,
        steps=10,
    )  # fmt: skip
    factor = still.flow(jnp.ones((1, HORIZON, ACTION))) - still.flow(
        jnp.zeros((1, HORIZON, ACTION))
    )
    np.testing.assert_allclose(
        after.extra["noise_critic"]["slope"], jnp.stack(2 * [SLOPE * factor[0]]), atol=0.03
    )


def test_the_best_of_n_needs_no_training_to_be_worth_more(batch):
    """The largest of 8 normals is 1.4236 deviations above their mean."""
    state = started("best_of_n")
    flow = flow_of(state, batch)
    deviation = float(jnp.einsum("bha,ha->b", flow, SLOPE).std())
    gain = worth(chunks("best_of_n", state, batch)) - worth(flow)
    assert gain == pytest.approx(1.4236 * deviation, rel=0.06)
    step = losses("best_of_n")["offline"].step(STAGES["best_of_n"], 0)
    assert step.__name__ == "critic_update"


@pytest.mark.parametrize("name", LEARNED)
def test_an_update_with_nan_leaves_the_extra_networks_as_they_were(name, batch):
    stage, state = STAGES[name], started(name)
    step = losses(name)["offline"].step(stage, 0)
    step = jax.jit(partial(step, nets=NETS, optimisers=CHAIN, stage=stage))
    bad = batch._replace(inputs=batch.inputs._replace(state=batch.inputs.state * jnp.nan))
    new, metrics = step(state, bad, jax.random.key(0), at(1e-2, 1e-2, 0.6))
    assert not bool(metrics["finite"])
    assert distance(new._replace(update=state.update), state) == 0


@pytest.mark.parametrize("name", LEARNED)
def test_between_updates_of_the_policy_only_the_critic_learns(name):
    stage = replace(STAGES[name], policy_every=3)
    steps = [losses(name)["online"].step(stage, number).__name__ for number in range(6)]
    assert steps == 2 * ["critic_update", "critic_update", "update"]


@pytest.mark.parametrize("name", STAGES)
def test_the_box_of_the_critic_is_that_of_the_robot(name):
    boxed = replace(STAGES[name], qam=replace(STAGE.qam, action_box=0.8))
    acting = losses(name)["online"].acting
    assert acting(started(name), boxed).settings["bound"] == 0.8
    assert acting(started(name), STAGES[name]).settings["bound"] == math.inf


def test_the_robot_carries_the_heads_that_the_stage_asks_for():
    state = started("best_of_n")._replace(q={"slope": jnp.ones((2, 2, 2)), "bias": jnp.ones(2)})
    for asked, heads in (("target_min", state.target_q), ("online_mean", state.q)):
        stage = replace(
            STAGES["best_of_n"], qam=replace(STAGE.qam, critic_gradient=asked), candidates=5
        )
        found = losses("best_of_n")["online"].acting(state, stage)
        assert found.extra["critic"] is heads
        assert found.settings["reduce"] == asked.partition("_")[2]
        assert found.settings["candidates"] == 5


@pytest.mark.parametrize(
    ("stage", "changes", "reason"),
    [
        ("fql", {"alpha": 0.0}, "alpha is 0.0"),
        ("fql", {"alpha": math.nan}, "alpha is nan"),
        ("qam_edit", {"scale": -0.1}, "scale is -0.1"),
        ("qam_edit", {"coefficient": 0.0}, "coefficient is 0.0"),
        ("qam_edit", {"target_entropy": 0.7}, "less than log 2"),
        ("latent", {"noise_bound": 0.0}, "noise_bound is 0.0"),
        ("latent", {"target_entropy": math.nan}, "target_entropy is nan"),
        ("best_of_n", {"candidates": 0}, "candidates is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(stage, changes, reason):
    with pytest.raises(ConfigError, match=reason):
        replace(STAGES[stage], **changes)


def tiny(name: str) -> LearnerConfig:
    """Every stage of the recipe for one update on a batch of 8."""
    config = recipe(name, COMPACT)
    small = {"updates": 1, "batch": 8, "episodes": 1, "updates_per_episode": math.inf}
    stages = {
        stage: replace(
            each,
            **small,
            policy_every=1,
            divl=replace(each.divl, atoms=51),
            qam=replace(each.qam, steps=2),
        )
        for stage, each in config.stages.items()
    }
    every = {"report_every": 1, "checkpoint_every": 1, "publish_every": 1}
    return replace(config, stages=stages, **every)


@pytest.mark.parametrize("name", STAGES)
def test_an_update_of_the_real_networks_keeps_every_shape_and_its_artifact_is_whole(name, rng):
    """Traced, not run: the networks of the preset through one update, and into an artifact."""
    config = tiny(name)
    functions, stage = nets(config), config.stage("offline")
    state = losses(name)["offline"].start(jax.jit(partial(fresh, config))(jax.random.key(0)))
    inputs = Inputs(jnp.zeros((8, StateLayout().size)), jnp.zeros((8, 16), jnp.int32))
    batch = Transitions(
        inputs=inputs,
        action=jnp.zeros((8, COMPACT.horizon, 16)),
        action_mask=jnp.ones((8, COMPACT.horizon), bool),
        returns=jnp.zeros(8),
        discount=jnp.ones(8),
        next_inputs=inputs,
    )
    step = losses(name)["offline"].step(stage, 0)
    step = partial(step, nets=functions, optimisers=optimisers(stage.optimiser), stage=stage)
    after, metrics = jax.eval_shape(step, state, batch, jax.random.key(0), at(1e-3, 1e-3, 0.6))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, after, state))
    assert {metric.shape for metric in metrics.values()} == {()}

    normaliser = Normaliser.fit(
        rng.normal(size=(32, StateLayout().size)).astype(np.float32),
        rng.normal(size=(32, COMPACT.horizon, 16)).astype(np.float32),
    )
    acting = losses(name)["offline"].acting(state, stage)
    artifact = pack(state.policy, normaliser, preset="state", control=COMPACT, acting=acting)
    policy = FlowPolicy(*artifact, 1, control=COMPACT)
    assert policy.act == acting.act != "flow"
    sent = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), dict(acting.extra))
    assert distance(policy.extra, sent) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fql", "best_of_n"])
def test_robots_act_with_what_the_recipe_publishes(name, root, tmp_path):
    assert learn(root, tiny(name))
    objects, acts = Objects(PlaneConfig(root=root).objects), []
    for row in published(root):
        tensors, metadata = weights.fetch(objects, row, folder=tmp_path / "robot")
        policy = FlowPolicy(tensors, metadata, row.version, control=COMPACT)
        state = np.zeros(StateLayout().size, np.float32)
        chunk = policy.chunk(SimpleNamespace(state=state), "put the red can on the shelf")
        assert chunk.shape == (COMPACT.horizon, 16)
        assert np.isfinite(chunk).all()
        acts.append(policy.act)
    assert acts[0] == "flow"
    assert len(acts) == 3
    assert acts[1] == acts[2] != "flow"
