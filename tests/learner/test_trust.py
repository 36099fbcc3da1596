"""The trust gate inside an update: closed it holds the policy, open it changes nothing."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.diagnose.known import SHAPE, STAGE, STATE, linear
from lwd.learner.state import Nets, Rates, Transitions, init, optimisers
from lwd.learner.trust import trusted
from lwd.learner.update import extract_policy
from lwd.models.fns import CriticFns, Inputs, PolicyFns

BATCH = 8
NETS = Nets(
    PolicyFns(
        init=lambda key: {"shift": jnp.zeros(SHAPE)},
        encode=lambda params, inputs: inputs.state,
        velocity=lambda params, context, a, w: jnp.broadcast_to(params["shift"][None], a.shape),
    ),
    CriticFns(
        init_value=lambda key: {"w": jnp.zeros((STATE, STAGE.divl.atoms))},
        init_q=lambda key: {"slope": jnp.zeros((2, *SHAPE)), "by_state": jnp.float32(0)},
        value_logits=lambda params, inputs: inputs.state @ params["w"],
        q=linear,
    ),
)
CHAIN = optimisers(STAGE.optimiser)
AGREED, DISPUTED = (0.02, 0.01), (0.02, -0.01)
"""Slopes of the two heads in every number of a chunk; both have a positive mean."""


@pytest.fixture
def batch(rng) -> Transitions:
    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    inputs = Inputs(normal(BATCH, STATE), jnp.ones((BATCH, 1), jnp.int32))
    return Transitions(
        inputs=inputs,
        action=normal(BATCH, *SHAPE),
        action_mask=jnp.ones((BATCH, SHAPE[0]), bool),
        returns=jnp.zeros(BATCH),
        discount=jnp.zeros(BATCH),
        next_inputs=inputs,
    )


def updated(slopes, batch, shift=0.0, **qam):
    """After an update of a policy that is `shift` from its reference everywhere."""
    stage = replace(STAGE, qam=replace(STAGE.qam, **qam))
    state = init(jax.random.key(0), *NETS, CHAIN)
    slope = jnp.asarray(slopes)[:, None, None] * jnp.ones((2, *SHAPE))
    heads = state.q | {"slope": slope}
    moved = jax.tree.map(lambda x: x + shift, state.policy)
    state = state._replace(policy=moved, q=heads, target_q=jax.tree.map(jnp.copy, heads))
    return jitted(stage)(state, batch, jax.random.key(1))


@cache
def jitted(stage):
    """The policy's half of an update."""
    rates = Rates(jnp.float32(1e-2), jnp.float32(0.0), jnp.float32(0.6))
    return jax.jit(
        lambda state, batch, key: extract_policy(state, batch, key, rates, NETS, CHAIN, stage)
    )


def test_a_disputed_gain_holds_the_policy_at_the_reference(batch):
    new, metrics = updated(DISPUTED, batch, gate=0.0)
    assert float(metrics["policy/gate_open"]) == 0.0
    assert float(metrics["policy/adjoint"]) == 0.0
    np.testing.assert_allclose(new.policy["shift"], 0.0, atol=1e-9)
    free, _ = updated(DISPUTED, batch)
    assert np.abs(free.policy["shift"]).min() > 1e-3, "without the gate the mean decides"


def test_an_agreed_gain_is_followed_as_without_the_gate(batch):
    gated, metrics = updated(AGREED, batch, gate=0.0)
    free, without = updated(AGREED, batch)
    assert float(metrics["policy/gate_open"]) == 1.0
    np.testing.assert_array_equal(gated.policy["shift"], free.policy["shift"])
    assert "policy/gate_open" not in without


def test_the_gain_that_counts_is_that_of_the_step_along_the_gradient(batch):
    """Slope . step, and each number of the step is gate_step beyond where the policy is by now."""
    for shift in (0.0, 0.5):
        _, metrics = updated(AGREED, batch, shift, gate=0.0, gate_step=0.25)
        wanted = 0.01 * (shift + 0.25) * np.prod(SHAPE)
        assert float(metrics["policy/gain"]) == pytest.approx(wanted, rel=1e-3)
    _, metrics = updated(AGREED, batch, gate=2.1)  # gains 2 : 1, so the least is 2 deviations
    assert float(metrics["policy/gate_open"]) == 0.0
    _, metrics = updated(AGREED, batch, gate=1.9)
    assert float(metrics["policy/gate_open"]) == 1.0


def test_the_gate_compares_chunks_from_the_same_noise_and_steps_only_where_the_mask_is(batch):
    judged = []

    def q(a):
        judged.append(np.asarray(a))
        return jnp.zeros((2, BATCH))

    mask = batch.action_mask.at[:, 1].set(False)
    config = replace(STAGE.qam, gate=0.0, gate_step=0.25)
    trusted(
        jnp.ones_like, q, lambda a, w: 0 * a + 0.5, lambda a, w: 0 * a,
        batch._replace(action_mask=mask), jax.random.key(0), config,
    )  # fmt: skip
    ahead, theirs = judged
    wanted = np.where(np.arange(SHAPE[0]) == 1, 0.5, 0.75)[None, :, None]
    np.testing.assert_allclose(ahead - theirs, np.broadcast_to(wanted, theirs.shape), atol=1e-5)
    assert theirs.mean() == pytest.approx(0.0, abs=4 / theirs.size**0.5)
    assert theirs.std() == pytest.approx(1.0, abs=0.1)


def test_without_a_gate_the_gradient_is_the_same_function(batch):
    def slope(a):
        return a

    def nobody(*_):
        raise AssertionError("nothing is evaluated")

    found, metrics = trusted(slope, nobody, nobody, nobody, batch, jax.random.key(0), STAGE.qam)
    assert found is slope
    assert metrics == {}
