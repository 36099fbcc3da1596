"""One choice of heads for updates, gate, robots and diagnosis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.nets import ACTION, HORIZON, NETS, fresh, random_batch
from lwd.config import QamConfig
from lwd.learner import heads

ONLINE, TARGET = (10.0, 30.0), (1.0, 4.0)
"""Slopes of two heads; the second is the least everywhere."""
WORTH = {"target_mean": 2.5, "target_min": 4.0, "online_mean": 20.0}


def of(slopes):
    each = jnp.asarray(slopes)[:, None, None] * jnp.ones((2, HORIZON, ACTION))
    return {"slope": each, "bias": jnp.array([1e3, -1e3])}


@pytest.mark.parametrize("asked", WORTH)
@pytest.mark.parametrize("part", ["state", "networks"])
def test_the_slope_is_that_of_the_heads_that_are_asked_for(asked, part, rng):
    state, batch = fresh()._replace(q=of(ONLINE), target_q=of(TARGET)), random_batch(rng)
    state = state if part == "state" else state.networks
    q = heads.worth(NETS.critic, state, batch.inputs, QamConfig(critic_gradient=asked))
    slope = jax.jit(jax.grad(lambda a: q(a).sum()))(batch.action)
    np.testing.assert_allclose(slope, WORTH[asked], rtol=1e-6)


@pytest.mark.parametrize("asked", WORTH)
def test_what_counts_of_numbers_that_are_there_already_is_the_same(asked, rng):
    state, batch = fresh()._replace(q=of(ONLINE), target_q=of(TARGET)), random_batch(rng)
    config = QamConfig(critic_gradient=asked)
    each = heads.judge(NETS.critic, state, batch.inputs, config)(batch.action)
    expected = heads.worth(NETS.critic, state, batch.inputs, config)(batch.action)
    assert each.shape == (2, len(batch.action))
    for q in (each, np.asarray(each)):
        found = heads.reduced(q, config)
        assert type(found) is type(q)
        np.testing.assert_array_equal(found, expected)
