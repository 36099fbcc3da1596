"""The best of N samples of a known Gaussian is its N-th order statistic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.test_fql import REFERENCE, STEPS, carried
from lwd.algorithms.best_of_n import best_of_n

EXPECTED_MAXIMUM = {1: 0.0, 2: 0.56419, 4: 1.02938, 10: 1.53875, 32: 2.06967}
"""Mean of the largest of N standard normals."""


def linear(a):
    return jnp.stack([a.sum((1, 2)), a.sum((1, 2))])


def choose(noise, critic=linear, **settings):
    return best_of_n(REFERENCE.velocity, critic, noise, steps=STEPS, **settings)


@pytest.mark.parametrize("candidates", EXPECTED_MAXIMUM)
def test_the_mean_of_the_best_is_the_expected_maximum_of_n_normals(candidates):
    slope, offset = carried(REFERENCE)
    noise = jax.random.normal(jax.random.key(candidates), (candidates, 8192, 1, 1))
    chosen, metrics = choose(noise)
    wanted = offset + slope * EXPECTED_MAXIMUM[candidates]
    assert float(chosen.mean()) == pytest.approx(wanted, abs=4 * slope / np.sqrt(8192))
    assert float(metrics["actor/q"]) == pytest.approx(float(chosen.mean()), abs=1e-4)
    gain = slope * EXPECTED_MAXIMUM[candidates]
    assert float(metrics["actor/gain"]) == pytest.approx(gain, abs=0.03)


def test_every_state_gets_its_own_choice_of_a_whole_chunk():
    noise = jax.random.normal(jax.random.key(0), (5, 3, 2, 2))
    sign = jnp.array([1.0, -1.0, 1.0])
    chosen, _ = choose(noise, lambda a: (sign * a.sum((1, 2)))[None])
    slope, offset = carried(REFERENCE)
    chunks = np.asarray(slope * noise + offset)
    for state in range(3):
        best = np.argmax(sign[state] * chunks[:, state].sum((1, 2)))
        np.testing.assert_allclose(chosen[state], chunks[best, state], atol=1e-5)


def test_the_smallest_head_is_trusted_where_asked():
    """Heads a and -a agree on 0 only: the mean is indifferent, the minimum wants small actions."""
    noise = jnp.array([2.0, 0.5, -3.0]).reshape(3, 1, 1, 1)

    def split(a):
        return jnp.stack([a[:, 0, 0], -a[:, 0, 0]])

    slope, offset = carried(REFERENCE)
    chunks = slope * noise.ravel() + offset
    by_mean, _ = choose(noise, split, reduce="mean")
    by_min, _ = choose(noise, split, reduce="min")
    assert float(by_mean[0, 0, 0]) == pytest.approx(float(chunks[0]), abs=1e-5)
    assert float(by_min[0, 0, 0]) == pytest.approx(float(chunks[jnp.abs(chunks).argmin()]))


def test_candidates_are_clipped_before_they_are_judged():
    noise = jnp.array([50.0, 0.1]).reshape(2, 1, 1, 1)
    chosen, _ = choose(noise, lambda a: -jnp.square(a - 2.0).sum((1, 2))[None], bound=1.0)
    assert float(chosen[0, 0, 0]) == 1.0
