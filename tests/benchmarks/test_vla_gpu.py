"""The script that measures pi05 on a GPU, as far as a machine without one can tell."""

import jax
import jax.numpy as jnp
import pytest
from benchmarks.vla_gpu import flops

from benchmarks import vla_gpu
from lwd.config import FULL
from lwd.learner.plan import _chunk, _context, _floats, _inputs, _shapes
from lwd.models import vla
from lwd.models.presets import VLA

GIGA = 1e9


def test_products_are_counted_by_hand_and_in_loops():
    a, b = jnp.ones((2, 3)), jnp.ones((3, 5))

    def five_times(a, b):
        return jax.lax.scan(lambda x, _: (x, x @ b), a, None, length=5)[1]

    assert flops(lambda a, b: jax.nn.relu(a @ b), a, b) == 2 * 2 * 3 * 5
    assert flops(five_times, a, b) == 5 * 2 * 2 * 3 * 5
    gradient = jax.grad(lambda b: jax.checkpoint(lambda b: jnp.sin(a @ b))(b).sum())
    assert flops(gradient, b) == 3 * 2 * 2 * 3 * 5, "forward, again, and to the weights"
    with pytest.raises(ValueError, match="while is not counted"):
        flops(lambda b: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, b), jnp.eye(2))


def test_the_numbers_that_the_floors_are_made_of_are_those_of_the_networks():
    model = VLA["pi05"](FULL.horizon, 201)
    policy, critic = vla.policy(model.policy), vla.critic(model.critic)
    theta, seen, chunk = _shapes(policy.init), _inputs(model.inputs, 1), _chunk(32, FULL.horizon, 1)
    context = _context(policy, model.inputs, 1)
    assert flops(policy.encode, theta, seen) / GIGA == pytest.approx(660 + 3975, rel=0.02)
    step = flops(policy.velocity, theta, context, chunk, _floats(1)) / GIGA
    assert step == pytest.approx(23.3, rel=0.05)
    assert flops(critic.encode, _shapes(critic.init_q), seen) / GIGA == pytest.approx(714, rel=0.05)


def test_pi05_is_not_measured_on_a_cpu():
    with pytest.raises(
        SystemExit, match=r"JAX finds only cpu.*or try the script with --preset tiny"
    ):
        vla_gpu.main([])
