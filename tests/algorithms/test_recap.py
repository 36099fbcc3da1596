"""RECAP: advantages, labels by rank, dropped indicators and guidance, against numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwd.algorithms import recap
from lwd.algorithms.categorical import support
from lwd.algorithms.flow import euler_sample

ATOMS = support(-0.1, 1.1, 13)  # atoms at whole tenths


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def label(advantage, intervention=(), fraction=0.3):
    human = np.zeros(len(advantage), bool)
    human[list(intervention)] = True
    return recap.improvement_labels(np.array(advantage), human, fraction, rng())


def test_the_value_model_learns_the_mean_of_the_returns_of_a_state():
    returns = jnp.array([0.0, 1.0, 1.0, 1.0])

    def loss(logits):
        return recap.value_loss(jnp.broadcast_to(logits, (4, 13)), returns, ATOMS)[0]

    def step(logits, _):
        return logits - 2.0 * jax.grad(loss)(logits), None

    logits, _ = jax.jit(lambda x: jax.lax.scan(step, x, None, length=400))(jnp.zeros(13))
    np.testing.assert_allclose(recap.expected(logits, ATOMS), 0.75, atol=0.01)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert float(loss(logits)) == pytest.approx(entropy, abs=0.02)


def test_the_value_error_is_in_units_of_the_return():
    logits = 50.0 * jax.nn.one_hot(jnp.array([1, 11]), 13)  # 0 and 1
    returns = jnp.array([0.5, 1.0])
    _, metrics = recap.value_loss(logits, returns, ATOMS)
    assert float(metrics["value/error"]) == pytest.approx(0.25, abs=1e-4)
    slope = jax.grad(lambda returns: recap.value_loss(logits, returns, ATOMS)[0])(returns)
    np.testing.assert_array_equal(slope, [0.0, 0.0])


def test_advantages_by_hand():
    returns, discount = jnp.array([0.0, 0.99, 0.0, 0.0]), jnp.array([0.9, 0.0, 0.0, 0.9])
    value, after = jnp.array([0.5, 0.6, 0.4, 0.45]), jnp.array([0.8, 0.7, 0.9, 0.5])
    found = recap.lookahead_advantage(returns, discount, value, after)
    # progress, success, failure, and a state that is reached just as expected
    np.testing.assert_allclose(found, [0.22, 0.39, -0.4, 0.0], atol=1e-6)


def test_the_advantage_with_discount_one_is_the_papers():
    ones = jnp.ones(3)
    value, after = jnp.array([0.1, 0.2, 0.3]), jnp.array([0.2, 0.2, 0.1])
    found = recap.lookahead_advantage(0 * ones, ones, value, after)
    np.testing.assert_allclose(found, [0.1, 0.0, -0.2], atol=1e-6)


def test_the_best_are_positive_and_the_threshold_is_one_for_all():
    assert label([3.0, -1.0, 5.0, 0.0, 4.0, 1.0, 2.0, -2.0, -3.0, -4.0]).tolist() == [
        *(True, False, True, False, True, False, False, False, False, False)
    ]


def test_ties_do_not_change_how_many_are_positive():
    advantage = np.zeros(1000)
    advantage[:100] = 1.0
    found = label(advantage)
    assert found.sum() == 300
    assert found[:100].all()
    # among equals the lot decides, not the order in which episodes came
    assert 60 < found[100:550].sum() < 140


def test_when_all_are_equal_the_fraction_is_still_exact():
    assert label(np.zeros(10)).sum() == 3
    assert label(np.zeros(7), fraction=0.5).sum() == 4  # round half to even: 3.5 to 4


def test_interventions_are_positive_on_top():
    found = label([9.0, 8.0, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -5.0], intervention=[0, 9])
    assert found.tolist() == [True, True, True, *6 * [False], True]


@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.25, 1.0]), min_size=1, max_size=80),
    fraction=st.floats(0.05, 0.95),
)
@settings(max_examples=60, deadline=None)
def test_no_window_is_positive_that_is_worse_than_a_negative_one(values, fraction):
    found = label(values, fraction=fraction)
    advantage = np.array(values)
    assert found.sum() == round(fraction * len(values))
    if found.any() and not found.all():
        assert advantage[found].min() >= advantage[~found].max()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.3, 30.0])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match=r"strictly between 0 and 1"):
        label([1.0, 2.0], fraction=fraction)


def test_advantages_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 of 2 advantages are not finite"):
        label([1.0, np.nan])


def test_a_flag_is_needed_for_each_window():
    with pytest.raises(ValueError, match=r"shape \(2,\), interventions \(3,\)"):
        recap.improvement_labels(np.zeros(2), np.zeros(3, bool), 0.3, rng())


def test_a_dropped_indicator_leaves_the_plain_instruction():
    tokens = jnp.array([[5, 6, 7, 8, 0], [5, 8, 9, 0, 0]] * 500)
    found, dropped = recap.drop_indicator(tokens, 2, 0.3, jax.random.key(0))
    plain = jnp.array([[5, 6, 0, 0, 0], [5, 0, 0, 0, 0]] * 500)
    np.testing.assert_array_equal(found, jnp.where(dropped[:, None], plain, tokens))
    assert 0.25 < float(dropped.mean()) < 0.35


def test_guidance_amplifies_what_the_indicator_changes():
    def unconditional(a, w):
        return jnp.full_like(a, 0.5)

    def conditional(a, w):
        return jnp.ones_like(a)

    noise = jnp.zeros((1, 2, 3))
    for guidance in (0.0, 1.0, 2.5):
        velocity = recap.guided(conditional, unconditional, guidance)
        wanted = 0.5 + 0.5 * guidance
        np.testing.assert_allclose(euler_sample(velocity, noise, 4), wanted, rtol=1e-6)
