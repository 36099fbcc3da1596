"""Recipes that act with more than a flow: on critics whose best action is known, and end to end."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.drawn import batch, statistics
from learner.fleet import learn, small
from learner.nets import ACTION, CHAIN, HORIZON, NETS, SLOPE, STAGE, at, distance, random_batch
from learner.outcome import published
from lwd.config import COMPACT, PlaneConfig, StateLayout
from lwd.errors import ConfigError
from lwd.learner import actors
from lwd.learner.diagnose.trained import load
from lwd.learner.recipes import latent, losses, nets, qam_edit, shapes
from lwd.learner.recipes.best_of_n import BestStage
from lwd.learner.recipes.fql import OneStepStage
from lwd.learner.recipes.latent import SteeredStage
from lwd.learner.recipes.qam_edit import EditStage
from lwd.learner.state import Networks, Rates, TrainState, init, optimisers
from lwd.models.acts import ACTS, Parts
from lwd.models.artifact import FlowPolicy, pack
from lwd.models.fns import Inputs
from lwd.models.tokenizer import tokenize
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
UPDATES = {"fql": 600, "qam_fql": 800, "qam_edit": 300, "latent": 600}
BATCH = random_batch(np.random.default_rng(0))
KNOWN = {"slope": jnp.stack([SLOPE, SLOPE]), "bias": jnp.zeros(2)}
"""The critic: linear, and both heads agree."""
ROBOTS = 4096
"""Chunks that are drawn in the first state of the batch."""


@cache
def started(name: str) -> TrainState:
    """The state in which the recipe's RL starts, with the known critic."""
    loss = losses(name)["offline"]

    def begin(key):
        extra = loss.extra(jax.random.fold_in(key, 1), NETS)
        return loss.start(init(key, *NETS, CHAIN, extra))

    return with_known_critic(jax.jit(begin)(jax.random.key(0)))


def with_known_critic(state: TrainState) -> TrainState:
    return state._replace(q=KNOWN, target_q=KNOWN)


@cache
def program(name: str) -> Callable:
    """All updates of the recipe on a batch, each with the known critic: the state, and what each
    of them said."""
    step = losses(name)["offline"].step(STAGES[name], 0)
    step = partial(step, nets=NETS, optimisers=CHAIN, stage=STAGES[name])
    rates = 1e-2 * jnp.linspace(1.0, 0.05, UPDATES[name])

    def run(state, batch):
        keys = jax.random.split(jax.random.key(3), UPDATES[name])

        def update(state, drawn):
            key, rate = drawn
            new, metrics = step(state, batch, key, Rates(rate, rate, jnp.float32(0.6)))
            return with_known_critic(new), metrics

        return jax.lax.scan(update, state, (keys, rates))

    return jax.jit(run)


@cache
def train(name: str) -> TrainState:
    """After the recipe's updates."""
    state, metrics = program(name)(started(name), BATCH)
    assert metrics["finite"].all()
    return state


def parts(networks: Networks, extra=None, rows: int = ROBOTS) -> Parts:
    """What a robot evaluates in the first state of the batch, `rows` times."""
    return Parts(
        policy=NETS.policy,
        critic=NETS.critic,
        params=networks.policy,
        extra=extra or {},
        inputs=jax.tree.map(lambda x: jnp.repeat(x[:1], rows, 0), BATCH.inputs),
        steps=10,
    )


def noise(draws: int) -> jax.Array:
    return jax.random.normal(jax.random.key(9), (draws, ROBOTS, HORIZON, ACTION))


@cache
def robot(name: str) -> Callable:
    """Networks to what a robot does with them."""
    acting = losses(name)["offline"].acting

    def sample(networks: Networks) -> jax.Array:
        how = acting(networks, STAGES[name])
        act = ACTS[how.act]
        draws = noise(act.draws(how.settings))
        return act.sample(parts(networks, how.extra), draws, how.settings)

    return jax.jit(sample)


def chunks(name: str, state: TrainState) -> jax.Array:
    """[samples, horizon, action] that a robot would choose in the first state."""
    return robot(name)(state.networks)


def worth(actions: jax.Array) -> float:
    return float(jnp.einsum("bha,ha->b", actions, SLOPE).mean())


@pytest.mark.parametrize("name", LEARNED)
def test_training_raises_what_the_critic_says_of_the_robots_chunks(name):
    before, after = started(name), train(name)
    assert worth(chunks(name, after)) > worth(chunks(name, before)) + 0.05
    assert distance(after.reference, before.reference) == 0
    assert (distance(after.policy, before.policy) > 0) == name.startswith("qam")


def moved(name: str) -> jax.Array:
    """Mean change of the robots' chunks, [horizon, action]."""
    return (chunks(name, train(name)) - chunks(name, started(name))).mean(0)


def test_the_one_step_policy_moves_by_the_gradient_over_twice_alpha():
    """The distance is a mean over d numbers: a linear Q moves each by d dQ/da / (2 alpha)."""
    np.testing.assert_allclose(moved("fql"), HORIZON * ACTION / (2 * 2.0) * SLOPE, atol=0.05)


def test_the_one_step_policy_of_qam_follows_the_tilted_flow():
    """QAM moves the flow by inv_temp dQ/da; the one-step policy goes beyond it by its own step."""
    wanted = (STAGE.qam.inv_temp + HORIZON * ACTION / (2 * 2.0)) * SLOPE
    np.testing.assert_allclose(moved("qam_fql"), wanted, atol=0.15)


@jax.jit
def flow_of(networks: Networks) -> jax.Array:
    """What the flow makes of the noise that `chunks` edits."""
    return parts(networks).flow(noise(2)[0])


def test_an_editor_never_leaves_its_scale_around_the_tilted_flow():
    after = train("qam_edit")
    edits = jnp.abs(chunks("qam_edit", after) - flow_of(after.networks))
    assert 0.1 < float(edits.max()) < 0.5 + 1e-6


def test_an_edit_has_noise_of_its_own_and_starts_inside_the_box():
    """Networks that are one number everywhere: the flow's velocity, an edit's mean and log std."""
    constant = replace(
        NETS.policy,
        encode=lambda params, inputs: params,
        velocity=lambda params, context, a, w: 0 * a + context,
    )

    def act(flow, editor, bound):
        known = replace(parts(started("qam_edit").networks), policy=constant, params=flow)
        settings = {"scale": 0.5, "bound": bound}
        return ACTS["edited"].sample(replace(known, extra={"editor": editor}), noise(2), settings)

    flown, own = noise(2)
    wanted = flown + 0.5 * jnp.tanh(own)
    np.testing.assert_allclose(act(0.0, 0.0, math.inf), wanted, atol=1e-5)
    np.testing.assert_allclose(act(99.0, -20.0, 1.0), 0.5, atol=1e-5)


def test_the_noise_critic_learns_the_slope_of_q_through_the_flow():
    """The flow's Euler steps scale the noise by the same factor for every number."""
    after = train("latent")
    one, none = (
        parts(after.networks, rows=1).flow(f((1, HORIZON, ACTION))) for f in (jnp.ones, jnp.zeros)
    )
    wanted = jnp.stack(2 * [SLOPE * (one - none)[0]])
    np.testing.assert_allclose(after.extra["noise_critic"]["slope"], wanted, atol=0.03)


def test_the_best_of_n_needs_no_training_to_be_worth_more():
    """The largest of 8 normals is 1.4236 deviations above their mean."""
    state = started("best_of_n")
    flow = flow_of(state.networks)
    deviation = float(jnp.einsum("bha,ha->b", flow, SLOPE).std())
    gain = worth(chunks("best_of_n", state)) - worth(flow)
    assert gain == pytest.approx(1.4236 * deviation, rel=0.06)
    step = losses("best_of_n")["offline"].step(STAGES["best_of_n"], 0)
    assert step.__name__ == "critic_update"


@pytest.mark.parametrize("name", LEARNED)
def test_updates_with_nan_leave_the_extra_networks_as_they_were(name):
    state = started(name)
    bad = BATCH._replace(inputs=BATCH.inputs._replace(state=BATCH.inputs.state * jnp.nan))
    new, metrics = program(name)(state, bad)
    assert not metrics["finite"].any()
    assert int(new.update) == UPDATES[name]
    assert distance(new._replace(update=state.update), state) == 0


@pytest.mark.parametrize("name", ["qam_edit", "latent"])
def test_entropy_is_worth_what_the_stage_says_at_first_and_is_learned(name):
    _, metrics = program(name)(started(name), BATCH)
    found = metrics["actor/coefficient"]
    assert float(found[0]) == pytest.approx(STAGES[name].coefficient, rel=1e-5)
    assert float(found[-1]) != pytest.approx(float(found[0]), rel=0.01)


def test_the_noise_critic_is_taught_by_the_heads_that_the_stage_asks_for(monkeypatch):
    taught = []

    def noted(noise_critic, critic, *rest, **settings):
        taught.append(critic(0 * BATCH.action))
        return jnp.zeros(()), {}

    monkeypatch.setattr(latent, "noise_critic_loss", noted)
    online, target = (KNOWN | {"bias": jnp.full(2, bias)} for bias in (5.0, -5.0))
    state = started("latent")._replace(q=online, target_q=target)
    for asked, bias in (("online_mean", 5.0), ("target_mean", -5.0)):
        stage = replace(STAGES["latent"], qam=replace(STAGE.qam, critic_gradient=asked))
        rates = at(0.0, 0.0, 0.6)
        latent.judge_noise(state, BATCH, jax.random.key(0), rates, NETS, CHAIN, stage)
        np.testing.assert_array_equal(taught[-1], bias)


def test_an_editor_learns_on_chunks_inside_the_box(monkeypatch):
    flown = []

    def noted(editor, log_coefficient, q, actions, *rest, **settings):
        flown.append(actions)
        return 0 * log_coefficient, {}

    monkeypatch.setattr(qam_edit, "edit_loss", noted)
    boxed = replace(STAGES["qam_edit"], qam=replace(STAGE.qam, action_box=0.1))
    state, rates = started("qam_edit"), at(0.0, 0.0, 0.6)
    qam_edit.edit(state, BATCH, jax.random.key(0), rates, NETS, CHAIN, boxed)
    assert float(jnp.abs(flown[0]).max()) == pytest.approx(0.1)


def test_each_actor_of_an_update_draws_with_a_key_of_its_own(monkeypatch):
    drawn = []

    def actor(state, batch, key, *rest):
        drawn.append(float(jax.random.uniform(key)))
        return state, {}

    monkeypatch.setattr(actors, "learn_values", lambda state, *rest: (state, {}))
    monkeypatch.setattr(actors, "commit", lambda old, new, metrics: (new, metrics))
    step = actors.learn(actor, actor)(STAGE, 0)
    key, rates = jax.random.key(0), at(1e-2, 1e-2, 0.6)
    step(started("fql"), BATCH, key, rates, nets=NETS, optimisers=CHAIN, stage=STAGE)
    assert len(set(drawn)) == 2


@pytest.mark.parametrize("name", LEARNED)
def test_between_updates_of_the_policy_only_the_critic_learns(name):
    stage = replace(STAGES[name], policy_every=3)
    steps = [losses(name)["online"].step(stage, number).__name__ for number in range(6)]
    assert steps == 2 * ["critic_update", "critic_update", "update"]


@pytest.mark.parametrize("name", STAGES)
def test_the_box_of_the_critic_is_that_of_the_robot(name):
    boxed = replace(STAGES[name], qam=replace(STAGE.qam, action_box=0.8))
    acting = losses(name)["online"].acting
    assert acting(started(name).networks, boxed).settings["bound"] == 0.8
    assert acting(started(name).networks, STAGES[name]).settings["bound"] == math.inf


def test_the_robot_carries_the_heads_that_the_stage_asks_for():
    state = started("best_of_n")._replace(q={"slope": jnp.ones((2, 2, 2)), "bias": jnp.ones(2)})
    for asked, heads in (("target_min", state.target_q), ("online_mean", state.q)):
        stage = replace(
            STAGES["best_of_n"], qam=replace(STAGE.qam, critic_gradient=asked), candidates=5
        )
        found = losses("best_of_n")["online"].acting(state.networks, stage)
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


@pytest.mark.parametrize("preset", ["narrow", "tiny"])
@pytest.mark.parametrize("name", STAGES)
def test_an_update_of_the_real_networks_keeps_every_shape_and_its_artifact_is_whole(name, preset):
    """Traced, not run: the networks of the preset through one update, and into an artifact."""
    config = small(name, preset=preset)
    loss, stage = losses(name)["offline"], config.stage("offline")
    state = jax.eval_shape(loss.start, shapes(config))
    step, chain = loss.step(stage, 0), optimisers(stage.optimiser)
    step = partial(step, nets=nets(config), optimisers=chain, stage=stage)
    key, rates = jax.random.key(0), at(1e-3, 1e-3, 0.6)
    after, metrics = jax.eval_shape(step, state, batch(config), key, rates)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, after, state))
    assert {metric.shape for metric in metrics.values()} == {()}

    rng = np.random.default_rng(0)
    networks = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), state.networks)
    acting, made = loss.acting(networks, stage), statistics(config)
    artifact = pack(networks.policy, made, preset=preset, control=COMPACT, acting=acting)
    policy = FlowPolicy(*artifact, 1, control=COMPACT)
    assert policy.act == acting.act != "flow"
    sent = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), dict(acting.extra))
    assert distance(policy.extra, sent) == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["fql", "best_of_n"])
def test_robots_act_with_what_the_recipe_publishes(name, root, tmp_path):
    assert learn(root, small(name, updates=1))
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
    _check_that_a_diagnosis_acts_like_the_robots(root, tensors, metadata)


def _check_that_a_diagnosis_acts_like_the_robots(root, tensors, metadata) -> None:
    """The checkpoint makes the artifact that was published, and what is sampled of it is it."""
    found = load(root / "checkpoints")
    packed = pack(
        found.networks.policy,
        found.normaliser,
        preset=found.config.preset,
        control=found.control,
        acting=found.acting,
    )
    assert packed[1].items() <= metadata.items()
    assert packed[0].keys() == tensors.keys()
    for name, tensor in packed[0].items():
        np.testing.assert_array_equal(tensor, tensors[name], err_msg=name)

    said, state = "put the red can on the shelf", np.zeros((1, StateLayout().size), np.float32)
    inputs = Inputs(found.normaliser.state(state), tokenize([said]))
    noise = found.noise(np.random.default_rng(5), 1)
    policy = FlowPolicy(tensors, metadata, 1, control=COMPACT)
    policy.reset(5)
    sent = policy.chunk(SimpleNamespace(state=state[0]), said)
    ours, plain = (
        found.normaliser.restore(state, sample(inputs, noise))[0]
        for sample in (found.sample, found.sample_reference)
    )
    distance = [np.abs(chunk - sent).max() for chunk in (ours, plain)]
    assert distance[0] < distance[1] / 4, "apart by bfloat16 only"
