"""Algorithm 2 on small networks whose answers are known."""

from dataclasses import replace
from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learner.nets import (
    ACTION,
    BATCH,
    CHAIN,
    HORIZON,
    NETS,
    SLOPE,
    STAGE,
    STATE,
    at,
    distance,
    fresh,
    random_batch,
    velocity,
)
from lwd.algorithms import flow, qam
from lwd.algorithms.flow import euler_sample
from lwd.config import DivlConfig, OptimiserConfig, QamConfig
from lwd.learner import value_head
from lwd.learner.loss import ROW_LOSS
from lwd.learner.state import TrainState, Transitions, optimisers
from lwd.learner.update import critic_update, extract_policy, sft_update, update


@cache
def jitted(step=update, stage=STAGE):
    return jax.jit(partial(step, nets=NETS, optimisers=CHAIN, stage=stage))


def apply(state, batch, key=0, *, step=update, stage=STAGE, rates=(1e-2, 1e-2, 0.6)):
    return jitted(step, stage)(state, batch, jax.random.key(key), at(*rates))


def extraction(state, batch, key, rates, *, nets, optimisers, stage):
    """The policy's half of an update."""
    return extract_policy(state, batch, key, rates, nets, optimisers, stage)


def trained(step, state, batch, updates, *, stage=STAGE, rates=(1e-2, 1e-2, 0.6), fixed=()):
    """After many updates in one program; `fixed` networks are put back after each of them."""
    kept = {name: getattr(state, name) for name in fixed}
    step = partial(step, nets=NETS, optimisers=CHAIN, stage=stage)

    def one(state, key):
        state, metrics = step(state, batch, key, at(*rates))
        return state._replace(**kept), metrics

    keys = jax.random.split(jax.random.key(1), updates)
    state, metrics = jax.jit(lambda state: jax.lax.scan(one, state, keys))(state)
    return state, {name: float(values[-1]) for name, values in metrics.items()}


@pytest.fixture
def state() -> TrainState:
    return fresh()


@pytest.fixture
def batch(rng) -> Transitions:
    return random_batch(rng)


def test_an_update_moves_every_network_but_the_reference(state, batch):
    new, metrics = apply(state, batch)
    for name in ("policy", "value", "q", "target_q"):
        assert distance(getattr(new, name), getattr(state, name)) > 0, name
    assert distance(new.reference, state.reference) == 0
    assert int(new.update) == 1
    assert bool(metrics["finite"])


def test_the_policy_is_extracted_from_what_the_same_update_has_learned(state, batch):
    """Algorithm 2's order: lines 2 to 6, then lines 7 to 11 with their result."""
    online = replace(STAGE, qam=replace(STAGE.qam, critic_gradient="online_mean"))
    whole, metrics = apply(state, batch, stage=online)
    valued, of_values = apply(state, batch, step=critic_update)
    halves, of_policy = apply(valued, batch, step=extraction, stage=online)
    assert distance(whole._replace(update=halves.update), halves) < 1e-6
    for name, value in (of_values | of_policy).items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    stale = apply(state, batch, step=extraction, stage=online)[1]["policy/adjoint"]
    assert float(stale) != pytest.approx(float(metrics["policy/adjoint"]), rel=1e-3)


def test_the_bootstrap_is_that_of_v_after_its_own_step(state, batch):
    """Algorithm 2 learns V before it makes the target of Q, and clips that as the stage says."""
    new, metrics = apply(state, batch, step=critic_update, rates=(0.0, 0.1, 0.6))
    quantile = jax.jit(
        lambda psi: value_head.bootstrap(
            NETS.critic.value_logits(psi, batch.next_inputs), jnp.float32(0.6), STAGE.divl
        )[0]
    )
    before, after = quantile(state.value), quantile(new.value)
    assert float(metrics["value/bootstrap"]) == pytest.approx(float(after.mean()), abs=1e-5)
    assert abs(float(after.mean() - before.mean())) > 1e-3
    target = batch.returns + batch.discount * after
    assert float(metrics["critic/target"]) == pytest.approx(float(target.mean()), abs=1e-5)
    clipped = replace(STAGE, divl=replace(STAGE.divl, target_clip=(0.2, 0.3)))
    _, metrics = apply(state, batch, step=critic_update, stage=clipped, rates=(0.0, 0.1, 0.6))
    wanted = float(jnp.clip(target, 0.2, 0.3).mean())
    assert float(metrics["critic/target"]) == pytest.approx(wanted, abs=1e-5)


def test_v_is_fitted_to_what_the_target_critic_sees(state, batch):
    """The target's encoder shows nothing, so that V stays uniform; that of Q shows the state."""

    def encode(phi, inputs):
        return inputs._replace(state=inputs.state * phi["bias"][0])

    blind = state._replace(q=state.q | {"bias": jnp.full(2, 9.0)})
    nets = NETS._replace(critic=replace(NETS.critic, encode=encode))
    step = partial(critic_update, nets=nets, optimisers=CHAIN, stage=STAGE)
    _, metrics = jax.jit(step)(blind, batch, jax.random.key(0), at(0.0, 1e-2, 0.6))
    assert float(metrics["value/entropy"]) == pytest.approx(1.0)
    assert float(metrics["value/grad_norm"]) == 0.0


def test_the_target_follows_the_updated_q_at_the_ema_rate(state, batch):
    state = state._replace(target_q=jax.tree.map(lambda x: x + 1, state.q))
    new, _ = apply(state, batch)
    wanted = jax.tree.map(lambda bar, phi: 0.995 * bar + 0.005 * phi, state.target_q, new.q)
    assert distance(new.q, state.q) > 1e-3
    assert distance(new.target_q, wanted) < 1e-6


@pytest.mark.parametrize("poisoned", ["returns", "action", "state", "next_state"])
def test_an_update_with_nan_changes_nothing_but_the_count(state, batch, poisoned):
    def nan(x):
        return x.at[3].set(jnp.nan)

    state, _ = apply(state, batch)  # so that the optimisers have something to lose
    if poisoned == "state":
        bad = batch._replace(inputs=batch.inputs._replace(state=nan(batch.inputs.state)))
    elif poisoned == "next_state":
        inputs = batch.next_inputs._replace(state=nan(batch.next_inputs.state))
        bad = batch._replace(next_inputs=inputs)
    else:
        bad = batch._replace(**{poisoned: nan(getattr(batch, poisoned))})
    new, metrics = apply(state, bad, 1)
    assert not bool(metrics["finite"])
    assert int(new.update) == int(state.update) + 1
    assert distance(new._replace(update=state.update), state) == 0
    after, metrics = apply(new, batch, 2)
    assert bool(metrics["finite"])
    assert distance(after.q, new.q) > 0


def test_a_target_value_network_follows_v_at_its_own_rate_and_gives_the_bootstrap(batch):
    """While it stands far from V, the bootstrap is its own; without a rate it is a copy of V."""
    state = fresh(average_value=True)
    high = jnp.zeros_like(state.value["w"]).at[:, -1].set(50.0)
    ones = batch.next_inputs._replace(state=jnp.ones((BATCH, STATE)))
    batch = batch._replace(next_inputs=ones)
    state = state._replace(target_value={"w": high})
    averaging = replace(STAGE, optimiser=replace(STAGE.optimiser, value_ema_rate=0.01))
    new, metrics = apply(state, batch, step=critic_update, stage=averaging)
    wanted = jax.tree.map(lambda bar, psi: 0.99 * bar + 0.01 * psi, state.target_value, new.value)
    assert distance(new.target_value, wanted) < 1e-5
    assert float(metrics["value/bootstrap"]) == pytest.approx(1.1, abs=0.01)
    new, metrics = apply(state, batch, step=critic_update)
    assert distance(new.target_value, new.value) == 0
    plain, expected = apply(fresh(), batch, step=critic_update)
    assert plain.target_value is None
    assert float(metrics["value/bootstrap"]) == float(expected["value/bootstrap"])


def test_the_expectile_ablation_learns_a_scalar(batch):
    """Returns are 0 or 1, half each: the 0.8-expectile of their values is 0.8."""
    scalar = replace(STAGE, divl=DivlConfig(value="expectile", tau_base=0.8))
    state = fresh()
    head = {"slope": jnp.zeros((2, HORIZON, ACTION)).at[:, 0, 0].set(1.0), "bias": jnp.zeros(2)}
    state = state._replace(value={"w": jnp.zeros((STATE, 1))}, target_q=head)
    state = state._replace(
        optimiser=state.optimiser._replace(value=CHAIN.value.init(state.value)),
    )
    coin = jnp.zeros_like(batch.action).at[:, 0, 0].set((jnp.arange(BATCH) % 2).astype(jnp.float32))
    same = batch.inputs._replace(state=jnp.ones((BATCH, STATE)))
    batch = batch._replace(action=coin, inputs=same, next_inputs=same)
    rates = (0.0, 1e-2, 0.8)
    _, metrics = trained(
        critic_update, state, batch, 300, stage=scalar, rates=rates, fixed=("target_q",)
    )
    assert metrics["finite"]
    assert metrics["value/bootstrap"] == pytest.approx(0.8, abs=0.02)
    assert metrics["value/tau"] == pytest.approx(0.8)


def test_a_zero_temperature_brings_the_policy_back_to_the_reference(state, batch):
    stage = replace(STAGE, qam=replace(STAGE.qam, inv_temp=0.0))
    _, metrics = apply(state, batch, step=extraction, stage=stage)
    assert float(metrics["policy/grad_norm"]) < 1e-6
    state = state._replace(policy=jax.tree.map(lambda x: x + 0.5, state.policy))
    state, metrics = trained(extraction, state, batch, 200, stage=stage)
    assert metrics["policy/shift"] < 0.02
    assert distance(state.policy, state.reference) < 0.05


def actions(params, batch, key):
    context = NETS.policy.encode(params, batch.inputs)
    noise = jax.random.normal(key, batch.action.shape)
    return euler_sample(lambda a, w: velocity(params, context, a, w), noise, 10)


def test_actions_move_along_the_gradient_of_q_by_the_inverse_temperature(state, batch):
    # exp(k Q) tilts N(m, 1) to N(m + k dQ/da, 1) when Q is linear (Eq. 8).
    q = {"slope": jnp.stack([SLOPE, SLOPE]), "bias": jnp.zeros(2)}
    state = state._replace(q=q, target_q=jax.tree.map(jnp.copy, q))
    before = actions(state.policy, batch, jax.random.key(9)).mean(0)
    state, _ = trained(extraction, state, batch, 400)
    after = actions(state.policy, batch, jax.random.key(9)).mean(0)
    np.testing.assert_allclose(after - before, 2.0 * SLOPE, atol=0.1)
    assert distance(state.q, q) == 0


def policy_loss(state, batch, **change):
    stage = replace(STAGE, qam=replace(STAGE.qam, **change))
    _, metrics = apply(state, batch, step=extraction, stage=stage)
    return {name: float(metrics[f"policy/{name}"]) for name in ("adjoint", "grad_norm")}


@pytest.mark.parametrize(
    ("gradient", "slope"), [("target_mean", 2.5), ("target_min", 4.0), ("online_mean", 20.0)]
)
def test_the_policy_follows_the_heads_that_are_asked_for(state, batch, gradient, slope):
    """The second head is the least everywhere; the adjoint is inv_temp times the slope."""

    def heads(first, second):
        slopes = jnp.array([first, second])[:, None, None] * jnp.ones((2, HORIZON, ACTION))
        return {"slope": slopes, "bias": jnp.array([1e3, -1e3])}

    state = state._replace(q=heads(10.0, 30.0), target_q=heads(1.0, 4.0))
    found = policy_loss(state, batch, critic_gradient=gradient)
    assert found["adjoint"] == pytest.approx(STAGE.qam.inv_temp * slope, rel=1e-4)


def test_the_settings_of_a_stage_reach_adjoint_matching(state, batch, monkeypatch):
    given, real = {}, qam.adjoint_matching_loss

    def noted(*arguments, **settings):
        given.update(settings)
        return real(*arguments, **settings)

    monkeypatch.setattr(qam, "adjoint_matching_loss", noted)
    asked = {"steps": 3, "inv_temp": 1.5, "sampler": "euler"}
    asked |= {"weighting": "constant", "recompute": "everything"}
    step = partial(
        extraction, nets=NETS, optimisers=CHAIN, stage=replace(STAGE, qam=QamConfig(**asked))
    )
    jax.eval_shape(step, state, batch, jax.random.key(0), at(1e-2, 1e-2, 0.6))
    assert given.pop("action_mask").shape == batch.action_mask.shape
    assert given == asked


def test_a_box_that_no_action_is_in_leaves_nothing_of_the_critic(state, batch):
    everywhere, nowhere = policy_loss(state, batch), policy_loss(state, batch, action_box=1e-9)
    assert everywhere["adjoint"] > 0.01
    assert nowhere["adjoint"] == 0.0
    assert everywhere == policy_loss(state, batch, action_box=1e9)


def test_the_weight_of_the_loss_scales_its_gradient(state, batch):
    once, thrice = policy_loss(state, batch), policy_loss(state, batch, loss_weight=3.0)
    assert thrice["grad_norm"] == pytest.approx(3 * once["grad_norm"], rel=1e-4)


def test_a_padded_dimension_is_not_imitated(state, batch):
    """What a dimension that is padding holds does not matter."""
    mask = jnp.ones(batch.action.shape, bool).at[:, :, 1].set(False)
    odd = batch.action.at[:, :, 1].add(40.0)
    losses = [
        apply(
            state, batch._replace(action=a, action_mask=m), step=sft_update, rates=(0.0, 0.0, 0.6)
        )
        for a, m in ((batch.action, mask), (odd, mask), (odd, batch.action_mask))
    ]
    found = [float(metrics["policy/sft_loss"]) for _, metrics in losses]
    assert found[1] < 2 * found[0] + 1.0 < found[2]


def test_without_a_bootstrap_q_learns_the_returns(state, batch):
    batch = batch._replace(returns=jnp.full(BATCH, 0.7), discount=jnp.zeros(BATCH))
    state, metrics = trained(critic_update, state, batch, 300, rates=(0.0, 3e-2, 0.6))
    assert metrics["critic/loss"] < 1e-3
    np.testing.assert_allclose(NETS.critic.q(state.q, batch.inputs, batch.action), 0.7, atol=0.05)


def test_v_learns_the_smaller_of_the_target_heads(state, batch):
    target = {"slope": jnp.zeros((2, HORIZON, ACTION)), "bias": jnp.array([0.3, 0.8])}
    constant = batch._replace(
        inputs=batch.inputs._replace(state=jnp.ones((BATCH, STATE))),
        next_inputs=batch.next_inputs._replace(state=jnp.ones((BATCH, STATE))),
    )
    state, rates = state._replace(target_q=target), (0.0, 3e-2, 0.6)
    _, metrics = trained(critic_update, state, constant, 300, rates=rates, fixed=("target_q",))
    assert metrics["value/bootstrap"] == pytest.approx(0.3, abs=0.03)


def test_a_higher_quantile_level_gives_a_higher_bootstrap(state, batch):
    low, high = (
        apply(state, batch, step=critic_update, rates=(1e-2, 1e-2, level))[1]
        for level in (0.6, 0.9)
    )
    assert float(high["value/tau"] - low["value/tau"]) == pytest.approx(0.3, abs=1e-3)
    assert float(high["value/bootstrap"]) > float(low["value/bootstrap"]) + 0.1


def test_rates_of_zero_change_no_network(state, batch):
    new, metrics = apply(state, batch, rates=(0.0, 0.0, 0.6))
    assert distance((new.policy, new.value, new.q), (state.policy, state.value, state.q)) == 0
    assert float(metrics["critic/grad_norm"]) > 0


def test_a_large_gradient_is_clipped_network_by_network(state, batch):
    huge = batch._replace(returns=1e6 * batch.returns)
    steep = {"slope": 1e6 * jnp.ones((2, HORIZON, ACTION)), "bias": jnp.zeros(2)}
    new, metrics = apply(state._replace(target_q=steep), huge)
    assert bool(metrics["finite"])
    clipped = 0.1 * STAGE.optimiser.clip_norm  # Adam's first moment after one step
    for name, remembered in (("critic", new.optimiser.q), ("policy", new.optimiser.policy)):
        assert float(metrics[f"{name}/grad_norm"]) > 1e3
        assert float(optax.tree.norm(remembered[1].mu)) == pytest.approx(clipped, rel=1e-3), name


def test_supervised_updates_lower_the_flow_loss_and_touch_only_the_policy(state, batch):
    target = batch._replace(action=batch.action * 0.1 + 1.5)
    first, (_, before) = state, apply(state, target, step=sft_update)
    state, after = trained(sft_update, state, target, 200, rates=(2e-2, 0.0, 0.6))
    assert after["policy/sft_loss"] < 0.5 * float(before["policy/sft_loss"])
    assert distance(state.policy, first.policy) > 0.5
    untouched = {"policy": first.policy, "optimiser": first.optimiser, "update": first.update}
    assert distance(state._replace(**untouched), first) == 0
    assert int(state.update) == 200


def test_a_supervised_update_with_nan_changes_nothing_but_the_count(state, batch):
    bad = batch._replace(action=batch.action.at[0].set(jnp.nan))
    new, metrics = apply(state, bad, step=sft_update)
    assert not bool(metrics["finite"])
    assert distance(new._replace(update=state.update), state) == 0
    assert int(new.update) == 1


def test_the_padding_behind_the_end_of_an_episode_teaches_nothing(state, batch):
    mask = batch.action_mask.at[:, 1].set(False)
    one = batch._replace(action_mask=mask)
    other = one._replace(action=batch.action.at[:, 1].add(100.0))
    for step, name in product((sft_update, extraction), ("cut", "full")):
        moved, _ = apply(state, {"cut": one, "full": batch}[name], step=step)
        shift = jnp.abs(moved.policy["shift"]).max(-1)
        assert float(shift[0]) > 1e-4
        assert (float(shift[1]) > 1e-4) == (name == "full"), step
    losses = [
        float(apply(state, each, step=sft_update)[1]["policy/sft_loss"]) for each in (one, other)
    ]
    assert losses[0] == losses[1]


def test_optimisers_decay_the_policy_only():
    chain = optimisers(OptimiserConfig(weight_decay=0.5))
    params = {"w": jnp.ones(3)}
    nothing = {"w": jnp.zeros(3)}
    steps = [t.update(nothing, t.init(params), params)[0]["w"] for t in chain]
    assert [float(step[0]) for step in steps] == [0.5, 0.0, 0.0, 0.0]


def test_losses_of_rows_are_there_where_draws_adapt_to_them(state, batch):
    stage = replace(STAGE, loss_adaptive=1.0)
    _, metrics = apply(state, batch, step=critic_update, stage=stage)
    losses = metrics[ROW_LOSS]
    assert losses.shape == (BATCH,)
    assert float(losses.std()) > 0
    heads = jax.tree.leaves(jax.eval_shape(NETS.critic.q, state.q, batch.inputs, batch.action))
    assert float(losses.mean()) * heads[0].shape[0] == pytest.approx(float(metrics["critic/loss"]))
    assert ROW_LOSS not in apply(state, batch, step=critic_update)[1]


def test_parts_of_a_batch_give_the_gradient_of_the_whole(state, batch):
    """SFT and TD to rounding; QAM draws other paths for each part, which average out."""
    adaptive = replace(STAGE, loss_adaptive=1.0)
    for step, stage in ((sft_update, STAGE), (critic_update, adaptive)):
        whole, metrics = apply(state, batch, step=step, stage=stage)
        split, again = apply(state, batch, step=step, stage=replace(stage, parts=4))
        assert distance(whole, split) < 1e-6, step.__name__
        for name in metrics:
            np.testing.assert_allclose(again[name], metrics[name], atol=1e-4, err_msg=name)
    new, metrics = apply(state, batch, step=extraction, stage=replace(STAGE, parts=4))
    assert distance(new.policy, state.policy) > 0
    assert np.isfinite(float(metrics["policy/qam_loss"]))


def test_each_part_of_a_batch_draws_its_own_paths(state, batch):
    """Two equal halves: the loss of each is that of its own key."""
    half = jax.tree.map(lambda x: x[: BATCH // 2], batch)
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), half)

    def curved(phi, inputs, a):
        return NETS.critic.q(phi, inputs, jnp.square(a))

    nets = NETS._replace(critic=replace(NETS.critic, q=curved))

    @partial(jax.jit, static_argnames="parts")
    def loss(batch, key, parts):
        stage = replace(STAGE, parts=parts)
        found = extract_policy(state, batch, key, at(1e-2, 1e-2, 0.6), nets, CHAIN, stage)
        return found[1]["policy/qam_loss"]

    each = [float(loss(half, own, 1)) for own in jax.random.split(jax.random.key(3), 2)]
    assert float(loss(twice, jax.random.key(3), 2)) == pytest.approx(np.mean(each), rel=1e-5)
    assert each[0] != pytest.approx(each[1], rel=1e-3)


def test_a_policy_that_predicts_the_action_is_supervised_by_the_error_of_the_action(state, batch):
    """By its own prediction of the velocity the same network has the larger loss: (1 - w)^2 < 1."""
    losses = {}
    for predicts in ("velocity", "action"):
        nets = NETS._replace(policy=replace(NETS.policy, predicts=predicts))
        step = partial(sft_update, nets=nets, optimisers=CHAIN, stage=replace(STAGE, draws=64))
        _, metrics = step(state, batch, jax.random.key(0), at(0.0, 0.0, 0.6))
        losses[predicts] = float(metrics["policy/sft_loss"])
    assert 0 < losses["action"] < 0.6 * losses["velocity"]


def test_every_draw_of_a_supervised_row_has_its_own_noise_and_time(state, batch, monkeypatch):
    """Noise is standard normal, time uniform in [0, 1)."""
    drawn = []

    def noted(velocity, actions, noise, times, mask, *, of):
        jax.debug.callback(lambda *each: drawn.append(each), noise, times)
        return velocity(noise, times).mean(), {}

    monkeypatch.setattr(flow, "sft_loss", noted)
    stage = replace(STAGE, draws=3)
    step = partial(sft_update, nets=NETS, optimisers=CHAIN, stage=stage)
    jax.block_until_ready(step(state, batch, jax.random.key(0), at(0.0, 0.0, 0.6)))
    noise, times = (np.stack(each) for each in zip(*drawn, strict=True))
    assert noise.shape == (3, BATCH, HORIZON, ACTION)
    for values, mean, deviation in ((noise, 0.0, 1.0), (times, 0.5, 12**-0.5)):
        assert len(np.unique(values)) == values.size
        assert values.mean() == pytest.approx(mean, abs=4 * deviation / values.size**0.5)
        assert values.std() == pytest.approx(deviation, rel=0.2)
    assert times.min() >= 0.0
    assert times.max() < 1.0
