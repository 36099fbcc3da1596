"""The trust gate on numbers worked by hand, and on adjoint matching with a linear critic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms import gate, qam


def heads(*rows: list[float]) -> jax.Array:
    return jnp.array(rows, jnp.float32)


REFERENCE = heads([0.5, 0.5, 0.5, 0.5], [0.4, 0.4, 0.4, 0.4])
GAINS = heads([0.2, 0.3, 0.1, 0.0], [0.1, -0.1, 0.1, 0.0])
"""Both heads see a gain; they disagree on its sign; they agree exactly; none."""


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (-1.0, [True, True, True, False]),  # smallest - std: 0.1 + 0.05, -0.1 + 0.2, 0.1, 0
        (0.0, [True, False, True, False]),
        (1.9, [True, False, True, False]),  # 0.1 > 1.9 * 0.05
        (2.1, [False, False, True, False]),  # 0.1 < 2.1 * 0.05; no disagreement stays open
    ],
)
def test_the_gate_opens_where_the_smallest_gain_exceeds_the_disagreement(threshold, expected):
    is_open, metrics = gate.credible_gain(REFERENCE + GAINS, REFERENCE, threshold)
    assert is_open.tolist() == expected
    assert float(metrics["policy/gate_open"]) == pytest.approx(np.mean(expected))
    assert float(metrics["policy/gain"]) == pytest.approx(0.025, abs=1e-6)


def test_what_a_head_is_wrong_about_everywhere_does_not_matter():
    biased = heads([0.5], [-0.3])
    before, _ = gate.credible_gain(REFERENCE + GAINS, REFERENCE, 1.0)
    after, _ = gate.credible_gain(REFERENCE + GAINS + biased, REFERENCE + biased, 1.0)
    assert before.tolist() == after.tolist()


def test_the_same_policy_as_the_reference_is_no_gain():
    is_open, _ = gate.credible_gain(REFERENCE, REFERENCE, 0.0)
    assert not is_open.any()


def test_no_gradient_passes_through_the_gate():
    def total(candidate):
        _, metrics = gate.credible_gain(candidate, REFERENCE, 0.5)
        return metrics["policy/gain"] + metrics["policy/gate_open"]

    assert not jax.grad(total)(REFERENCE + GAINS).any()


def test_a_step_has_its_length_over_live_numbers_and_points_up_the_gradient():
    actions = jnp.ones((3, 2, 2))
    gradient = jnp.array([[[3.0, 0], [0, 4]], [[3.0, 4], [7, 7]], [[0.0, 0], [0, 0]]])
    mask = jnp.array([[True, True], [True, False], [True, True]])
    moved = gate.ascend(actions, gradient, mask, 0.1) - actions
    np.testing.assert_allclose(moved[0], [[0.12, 0], [0, 0.16]], rtol=1e-5)
    np.testing.assert_allclose(
        moved[1], np.array([[3, 4], [0, 0]]) * np.sqrt(2) * 0.1 / 5, rtol=1e-5
    )
    assert not moved[2].any()
    lengths = [
        float(jnp.sqrt(jnp.square(row)[m].mean())) for row, m in zip(moved, mask, strict=True)
    ]
    np.testing.assert_allclose(lengths, [0.1, 0.1, 0.0], rtol=1e-5)
    first = jnp.broadcast_to(jnp.array([True, False]), (3, 2, 2))  # the rest is padding
    padded = gate.ascend(actions, gradient, first, 0.1) - actions
    np.testing.assert_allclose(padded[1], np.array([[3, 0], [7, 0]]) * 0.1 / 29**0.5, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["bridge", "euler"])
def test_a_closed_gate_asks_for_the_reference_and_an_open_one_for_the_tilt(sampler):
    """theta = beta: with g = 0 the target is the reference's velocity and the loss is zero."""

    def velocity(a, w):
        return -0.5 * a

    def shift(is_open):
        slope = gate.gated(lambda a: jnp.full_like(a, 2.0), jnp.array([is_open, is_open]))
        loss, metrics = qam.adjoint_matching_loss(
            velocity,
            velocity,
            slope,
            jax.random.normal(jax.random.key(0), (2, 1, 3)),
            jax.random.key(1),
            steps=4,
            inv_temp=1.0,
            sampler=sampler,
            action_mask=jnp.ones((2, 1), bool),
        )
        return float(loss), float(metrics["policy/adjoint"])

    assert shift(False) == (0.0, 0.0)
    loss, adjoint = shift(True)
    assert loss > 0.1
    assert adjoint == pytest.approx(2.0)


def test_the_gate_acts_on_each_state_alone():
    slope = gate.gated(lambda a: a, jnp.array([True, False]))
    actions = jnp.arange(1.0, 9.0).reshape(2, 2, 2)
    assert jnp.array_equal(slope(actions)[0], actions[0])
    assert not slope(actions)[1].any()
