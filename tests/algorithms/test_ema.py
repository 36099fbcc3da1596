"""Target networks."""

import jax.numpy as jnp
import pytest

from lwd.algorithms.ema import ema


def test_the_rate_is_the_step_towards_the_online_network():
    target = ema(
        {"a": jnp.zeros(2), "b": (jnp.ones(1),)}, {"a": jnp.ones(2), "b": (jnp.ones(1),)}, 0.005
    )
    assert float(target["a"][0]) == pytest.approx(0.005)
    assert float(target["b"][0][0]) == 1.0


def test_many_steps_approach_the_online_network_geometrically():
    target = jnp.zeros(())
    for _ in range(100):
        target = ema(target, jnp.ones(()), 0.05)
    assert float(target) == pytest.approx(1 - 0.95**100, rel=1e-5)


def test_the_ends_of_the_rate():
    assert float(ema(jnp.zeros(()), jnp.ones(()), 0.0)) == 0.0
    assert float(ema(jnp.zeros(()), jnp.ones(()), 1.0)) == 1.0
