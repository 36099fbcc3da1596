"""The whole method on a toy whose answer is known: two throws in a row, each into the plane.

Somebody throws at five spots, unevenly often. The closer a throw comes to the target of its turn
the likelier it hits, and only two hits win. From a record of throws we learn to throw like that
(SFT), what each throw is worth (DIVL) and to throw better (QAM), and compare with the exact tilt.

    python examples/01_divl_and_qam_on_a_toy.py --out runs/toy
"""

from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import throws
import tyro

from lwd.algorithms import categorical, divl, flow, qam
from lwd.algorithms.ema import ema

BATCH, RATE, EMA_RATE = 256, 2e-3, 0.01
FLOW_STEPS, INV_TEMP = 20, 5.0
TAU = {"tau_base": 0.9, "alpha": 0.3, "tau_min": 0.05, "tau_max": 0.95}
ATOMS = categorical.support(-0.1, 1.1, 201)
EVERY_TICK = jnp.ones((BATCH, 1), bool)


def init(key, *sizes):
    """Layers of an MLP."""
    sizes = zip(jax.random.split(key, len(sizes) - 1), pairwise(sizes), strict=True)
    return [(jax.random.normal(k, (m, n)) / m**0.5, jnp.zeros((1, n))) for k, (m, n) in sizes]


def mlp(layers, *inputs):
    """An MLP of the columns of all inputs."""
    x = jnp.concatenate(inputs, axis=-1)
    for weight, bias in layers[:-1]:
        x = jax.nn.gelu(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


def velocity(layers, state):
    """The flow's velocity of action chunks [batch, horizon = 1, action = 2]."""
    return lambda a, w: mlp(layers, a[:, 0], w[:, None], state)[:, None]


def sft_loss(nets, frozen, batch, key):
    """Throw as in the record."""
    key_noise, key_time = jax.random.split(key)
    noise, w = jax.random.normal(key_noise, (BATCH, 1, 2)), jax.random.uniform(key_time, (BATCH,))
    policy = velocity(nets["policy"], batch.state)
    return flow.sft_loss(policy, batch.action[:, None], noise, w, EVERY_TICK)[0]


def lwd_loss(nets, frozen, batch, key):
    """Algorithm 2: V learns the record's Q, Q learns from V's quantile, Q tilts the policy."""
    q = mlp(frozen["critic"], batch.state, batch.action).min(axis=-1)
    value_loss, _ = divl.value_loss(mlp(nets["value"], batch.state), q, ATOMS)

    value, _ = divl.bootstrap(mlp(nets["value"], batch.next_state), ATOMS, **TAU)
    target, _ = divl.td_target(batch.reward, batch.discount, value)
    critic_loss, _ = divl.critic_loss(mlp(nets["critic"], batch.state, batch.action).T, target)

    key_noise, key_path = jax.random.split(key)
    policy_loss, _ = qam.adjoint_matching_loss(
        velocity(nets["policy"], batch.state),
        velocity(frozen["reference"], batch.state),
        jax.grad(lambda a: mlp(frozen["critic"], batch.state, a[:, 0]).mean(axis=-1).sum()),
        jax.random.normal(key_noise, (BATCH, 1, 2)), key_path,
        steps=FLOW_STEPS, inv_temp=INV_TEMP, action_mask=EVERY_TICK,
    )  # fmt: skip
    return value_loss + critic_loss + policy_loss


def train(loss, nets, frozen, record, key, updates):
    """Adam on a loss; the target critic follows the critic."""
    optimiser = optax.adam(optax.cosine_decay_schedule(RATE, updates))

    def update(carry, key):
        nets, frozen, moments = carry
        key_rows, key_loss = jax.random.split(key)
        rows = jax.random.randint(key_rows, (BATCH,), 0, len(record.state))
        batch = jax.tree.map(lambda column: column[rows], record)
        slope = jax.grad(loss)(nets, frozen, batch, key_loss)
        change, moments = optimiser.update(slope, moments)
        nets = optax.apply_updates(nets, change)
        frozen = {**frozen, "critic": ema(frozen["critic"], nets["critic"], EMA_RATE)}
        return (nets, frozen, moments), None

    scan = jax.jit(lambda carry: jax.lax.scan(update, carry, jax.random.split(key, updates))[0])
    return scan((nets, frozen, optimiser.init(nets)))[:2]


def main(out: Path = Path("runs/toy"), updates: int = 1500, seed: int = 0) -> dict[str, float]:
    """Train, print how often each policy hits, and write policy.png and value.png to `out`."""
    keys = jax.random.split(jax.random.key(seed), 6)
    record = throws.record(np.random.default_rng(seed), 20_000)
    sizes = {"policy": (5, 64, 64, 2), "critic": (4, 64, 64, 2), "value": (2, 64, 201)}
    nets = {name: init(key, *sizes[name]) for name, key in zip(sizes, keys, strict=False)}
    nets, frozen = train(sft_loss, nets, {"critic": nets["critic"]}, record, keys[3], 2 * updates)
    frozen["reference"] = nets["policy"]
    nets, frozen = train(lwd_loss, nets, frozen, record, keys[4], updates)

    learned, noise = [], jax.random.normal(keys[5], (len(throws.GRID), 1, 2))
    for state in jnp.eye(2)[:, None].repeat(len(throws.GRID), axis=1):
        flows = velocity(frozen["reference"], state), velocity(nets["policy"], state)
        samples = [flow.euler_sample(f, noise, FLOW_STEPS)[:, 0] for f in flows]
        q = mlp(nets["critic"], state, throws.GRID).mean(axis=-1)
        learned.append(throws.Turn(*samples, q, mlp(nets["value"], state[:1])[0]))
    exact = throws.solve(INV_TEMP, ATOMS, TAU)
    throws.draw(learned, exact, ATOMS, TAU, out)
    return throws.report(learned, exact, ATOMS, TAU)


if __name__ == "__main__":
    tyro.cli(main)
