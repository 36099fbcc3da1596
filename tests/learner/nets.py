"""Networks so small that their answers are known, and batches for them."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from lwd.config import DivlConfig, QamConfig, StageConfig
from lwd.learner.state import Nets, Rates, TrainState, Transitions, init, optimisers
from lwd.models.fns import CriticFns, Inputs, PolicyFns

STATE, HORIZON, ACTION, BATCH, ATOMS = 3, 2, 2, 64, 51
STAGE = StageConfig(
    updates=1,
    mixture={"demo": 1.0},
    divl=DivlConfig(atoms=ATOMS),
    qam=QamConfig(steps=4, inv_temp=2.0),
)
CHAIN = optimisers(STAGE.optimiser)
SLOPE = np.array([[0.4, 0.0], [-0.2, 0.0]], np.float32)
"""dQ/da of the known critic."""


def standard_flow(a, w):
    """Velocity that carries N(0, 1) to N(0, 1), and how it changes when the goal moves by one."""
    w = w[:, None, None]
    slope = (2 * w - 1) / (jnp.square(1 - w) + jnp.square(w))
    return slope * a, 1 - w * slope


def velocity(params, context, a, w):
    still, per_shift = standard_flow(a, w)
    return still + per_shift * (params["shift"][None] + context)


NETS = Nets(
    PolicyFns(
        init=lambda key: {
            "shift": jnp.zeros((HORIZON, ACTION)),
            "weight": 0.1 * jax.random.normal(key, (STATE, HORIZON * ACTION)),
        },
        encode=lambda params, inputs: (inputs.state @ params["weight"]).reshape(
            -1, HORIZON, ACTION
        ),
        velocity=velocity,
    ),
    CriticFns(
        init_value=lambda key: {"w": 0.1 * jax.random.normal(key, (STATE, ATOMS))},
        init_q=lambda key: {
            "slope": 0.1 * jax.random.normal(key, (2, HORIZON, ACTION)),
            "bias": jnp.zeros(2),
        },
        value_logits=lambda params, inputs: inputs.state @ params["w"],
        q=lambda params, inputs, a: (
            jnp.einsum("cha,bha->cb", params["slope"], a) + params["bias"][:, None]
        ),
    ),
)


@cache
def fresh(*, average_value: bool = False) -> TrainState:
    begin = partial(init, policy=NETS.policy, critic=NETS.critic, chain=CHAIN)
    return jax.jit(partial(begin, average_value=average_value))(jax.random.key(0))


def random_batch(rng: np.random.Generator) -> Transitions:
    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    tokens = jnp.ones((BATCH, 1), jnp.int32)
    return Transitions(
        inputs=Inputs(normal(BATCH, STATE), tokens),
        action=normal(BATCH, HORIZON, ACTION),
        action_mask=jnp.ones((BATCH, HORIZON), bool),
        returns=jnp.asarray(rng.uniform(size=BATCH), jnp.float32),
        discount=jnp.where(jnp.arange(BATCH) % 2, 0.9, 0.0),
        next_inputs=Inputs(normal(BATCH, STATE), tokens),
    )


def at(*rates: float) -> Rates:
    return Rates(*map(jnp.float32, rates))


def distance(a, b) -> float:
    return max(
        float(jnp.abs(x - y).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
