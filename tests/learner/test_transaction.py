"""An update is applied whole or not at all, whatever in it is not finite."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.nets import CHAIN, NETS, at, distance, fresh, random_batch
from learner.nets import STAGE as PLAIN
from lwd.learner.state import Nets, Optimisers, OptimiserStates, TrainState, Transitions
from lwd.learner.update import critic_update, update
from lwd.models.fns import CriticFns

STAGE = replace(PLAIN, optimiser=replace(PLAIN.optimiser, value_ema_rate=0.01))
BATCH = random_batch(np.random.default_rng(0))
RATES = at(1e-2, 1e-2, 0.6)
UPDATE = jax.jit(partial(update, nets=NETS, optimisers=CHAIN, stage=STAGE))
CRITIC = jax.jit(partial(critic_update, nets=NETS, optimisers=CHAIN, stage=STAGE))
FRESH = fresh(average_value=True)
BAD = st.sampled_from([np.nan, np.inf, -np.inf])


@pytest.fixture(scope="module")
def state() -> TrainState:
    """After an update, so that averages and optimisers have something to lose."""
    return UPDATE(FRESH, BATCH, jax.random.key(0), RATES)[0]


def floats(tree) -> list[int]:
    """Which leaves of the tree hold floating-point numbers."""
    leaves = jax.tree.leaves(tree)
    return [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def poison(tree, leaf: int, place: int, value: float):
    """The tree with one number replaced, `place` counted around in the leaf."""
    leaves, form = jax.tree.flatten(tree)
    leaves[leaf] = np.array(leaves[leaf])
    leaves[leaf].flat[place % leaves[leaf].size] = value
    return jax.tree.unflatten(form, leaves)


def assert_only_counted(new: TrainState, old: TrainState, metrics: dict) -> None:
    assert not bool(metrics["finite"])
    assert int(new.update) == int(old.update) + 1
    assert_same(new._replace(update=old.update), old)


def assert_same(new: TrainState, old: TrainState) -> None:
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sound_update_is_applied(state):
    new, metrics = UPDATE(state, BATCH, jax.random.key(1), RATES)
    assert bool(metrics["finite"])
    for name in ("policy", "value", "target_value", "q", "target_q", "optimiser"):
        assert distance(getattr(new, name), getattr(state, name)) > 0, name


@given(st.sampled_from(floats(BATCH)), st.integers(0, 10_000), BAD)
@settings(max_examples=30, deadline=None)
def test_one_bad_number_anywhere_in_the_batch_changes_nothing_but_the_count(
    state, leaf, place, value
):
    new, metrics = UPDATE(state, poison(BATCH, leaf, place, value), jax.random.key(1), RATES)
    assert_only_counted(new, state, metrics)


@given(st.sampled_from(floats(FRESH)), st.integers(0, 10_000), BAD)
@settings(max_examples=60, deadline=None)
def test_one_bad_number_in_any_network_average_or_optimiser_changes_nothing(
    state, leaf, place, value
):
    """Policy, reference, V, Q, their averages, and the moments that the optimisers remember."""
    bad = poison(state, leaf, place, value)
    new, metrics = UPDATE(bad, BATCH, jax.random.key(1), RATES)
    assert_only_counted(new, bad, metrics)


def test_where_only_the_policys_half_fails_the_critics_half_is_not_applied_either(state):
    """The reference is read by the policy's loss alone."""
    bad = state._replace(reference=jax.tree.map(lambda x: x * jnp.nan, state.reference))
    new, metrics = UPDATE(bad, BATCH, jax.random.key(1), RATES)
    assert_only_counted(new, bad, metrics)
    norms = {name: float(metrics[f"{name}/grad_norm"]) for name in ("value", "critic", "policy")}
    finite = {name: bool(np.isfinite(norm)) for name, norm in norms.items()}
    assert finite == {"value": True, "critic": True, "policy": False}
    _, metrics = CRITIC(bad, BATCH, jax.random.key(1), RATES)
    assert bool(metrics["finite"])


def test_a_critic_whose_action_gradient_is_not_finite_changes_nothing(state):
    """sqrt(0 |a|^2) is 0 for every action, and its gradient is 0 times infinity."""

    def q(params, inputs, a):
        flat = jnp.sqrt(0.0 * jnp.square(a).sum((1, 2)))
        return NETS.critic.q(params, inputs, a) + flat[None]

    critic = CriticFns(
        init_value=NETS.critic.init_value,
        init_q=NETS.critic.init_q,
        value_logits=NETS.critic.value_logits,
        q=q,
    )
    step = partial(update, nets=Nets(NETS.policy, critic), optimisers=CHAIN, stage=STAGE)
    new, metrics = jax.jit(step)(state, BATCH, jax.random.key(1), RATES)
    assert np.isfinite(float(metrics["critic/loss"]))
    assert_only_counted(new, state, metrics)


def squaring() -> optax.GradientTransformation:
    """Steps of 1, and a memory that is squared at every step."""
    return optax.GradientTransformation(
        lambda params: jnp.ones(()),
        lambda grads, memory, params=None: (jax.tree.map(jnp.ones_like, grads), memory**2),
    )


def test_overflow_in_an_optimiser_changes_nothing_although_every_metric_is_finite(state):
    """First in what one of them remembers, then in parameters to which a finite step is added."""
    chain = Optimisers(*[squaring()] * 4)
    step = jax.jit(partial(update, nets=NETS, optimisers=chain, stage=STAGE))
    unused = {"unused": jnp.full(3, -3.4e38)}
    state = state._replace(
        policy=state.policy | unused,
        reference=state.reference | unused,
        optimiser=OptimiserStates(*3 * [jnp.ones(())], extra={}),
    )
    _, metrics = step(state, BATCH, jax.random.key(1), RATES)
    assert bool(metrics["finite"])
    memories = [{half: jnp.float32(1e30)} for half in ("policy", "value", "q")]
    cases = [(state._replace(optimiser=state.optimiser._replace(**m)), RATES) for m in memories]
    for before, rates in [*cases, (state, at(1e37, 1e-2, 0.6))]:
        new, metrics = step(before, BATCH, jax.random.key(1), rates)
        assert all(np.isfinite(float(value)) for value in metrics.values())
        assert_only_counted(new, before, metrics)


def run(state: TrainState, numbers: list[int], batches: dict[int, Transitions]) -> TrainState:
    for number in numbers:
        key = jax.random.fold_in(jax.random.key(7), number)
        state, _ = UPDATE(state, batches[number], key, RATES)
    return state


def test_a_skipped_update_leaves_no_trace_in_later_ones(state):
    """Keys and batches belong to the number of an update, so the one after draws what it would
    have drawn anyway; the count goes on."""
    batches = {n: random_batch(np.random.default_rng(n)) for n in range(4)}
    batches[1] = poison(batches[1], 0, 0, np.nan)
    skipped, without = run(state, [0, 1, 2, 3], batches), run(state, [0, 2, 3], batches)
    assert int(skipped.update) == int(without.update) + 1
    assert_same(skipped._replace(update=without.update), without)
