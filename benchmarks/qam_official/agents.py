"""One update of the authors' agent and of ours: the same nets, losses, batch and optimiser.

Both learn a critic from the policy's own next actions, clone the data with a second flow and
tilt the policy by adjoint matching, in one step of Adam on the joint, clipped gradient. Runs under
the authors' old JAX too: of `lwd` it needs only the pure functions.
"""

import itertools
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.qam_official.goldens import official_agent
from lwd.algorithms import flow, qam
from lwd.algorithms.ema import ema

OBSERVATION, ACTION, HORIZON, BATCH = 40, 5, 5, 256
"""Sizes of OGBench's scene task with the authors' chunks."""
FLAT = ACTION * HORIZON
DISCOUNT, PESSIMISM, EMA, INV_TEMP = 0.99**HORIZON, 0.5, 0.005, 1.0
Net = list[dict[str, jax.Array]]


class Sizes(NamedTuple):
    """Hidden layers of every net and number of critics."""

    width: int
    layers: int
    critics: int


class State(NamedTuple):
    """Nets, their targets and the optimiser's memory."""

    online: dict[str, Any]
    """`policy`, `cloned` and `critic`."""
    target: dict[str, Any]
    """Moving averages of `cloned` and `critic`."""
    optimiser: optax.OptState


def transitions() -> dict[str, np.ndarray]:
    """A batch in the authors' format; speed does not depend on the values."""
    draw = np.random.default_rng(0)
    shape = (BATCH, HORIZON)
    return {
        "observations": draw.normal(size=(BATCH, OBSERVATION)).astype(np.float32),
        "next_observations": draw.normal(size=(*shape, OBSERVATION)).astype(np.float32),
        "actions": draw.uniform(-1, 1, size=(*shape, ACTION)).astype(np.float32),
        "rewards": -np.ones(shape, np.float32),
        "masks": np.ones(shape, np.float32),
        "valid": np.ones(shape, np.float32),
    }


def official(repository: Path, sizes: Sizes, steps: int) -> tuple[Any, Any]:
    """The authors' jitted update and its agent."""
    module: Any = official_agent(repository)
    config = module.get_config()
    hidden = (sizes.width,) * sizes.layers
    config.update(
        actor_hidden_dims=hidden, value_hidden_dims=hidden, num_qs=sizes.critics,
        flow_steps=steps, inv_temp=INV_TEMP, horizon_length=HORIZON, action_chunking=True,
    )  # fmt: skip
    agent = module.QAMAgent.create(0, jnp.zeros(OBSERVATION), jnp.zeros(ACTION), config)
    return module.QAMAgent.update, agent


def ours(sizes: Sizes, sampler: Any, steps: int) -> tuple[Any, State]:
    """Our jitted update, (state, batch, key) to (state, metrics), and its first state."""
    keys = jax.random.split(jax.random.key(0), 2 + sizes.critics)
    hidden = (sizes.width,) * sizes.layers
    critics = [net(key, (OBSERVATION + FLAT, *hidden, 1), normed=True) for key in keys[2:]]
    online = {
        "policy": net(keys[0], (OBSERVATION + FLAT + 1, *hidden, FLAT)),
        "cloned": net(keys[1], (OBSERVATION + FLAT + 1, *hidden, FLAT)),
        "critic": jax.tree.map(lambda *leaves: jnp.stack(leaves), *critics),
    }
    target = {name: online[name] for name in ("cloned", "critic")}
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-4))
    step = jax.jit(partial(_update, chain=chain, sampler=sampler, steps=steps))
    return step, State(online, target, chain.init(online))


def net(key: jax.Array, sizes: tuple[int, ...], *, normed: bool = False) -> Net:
    """Layers of a perceptron with the authors' initialisation."""
    made = []
    for i, k in enumerate(jax.random.split(key, len(sizes) - 1)):
        low, high = sizes[i : i + 2]
        layer = {
            "kernel": jax.nn.initializers.xavier_uniform()(k, (low, high)),
            "bias": jnp.zeros(high),
        }
        if normed and i < len(sizes) - 2:
            layer |= {"scale": jnp.ones(high), "shift": jnp.zeros(high)}
        made.append(layer)
    return made


def perceptron(layers: Net, hidden: jax.Array) -> jax.Array:
    """GELU, then layer norm where the layer has one; `hidden` is the first layer's output."""
    for before, layer in itertools.pairwise(layers):
        hidden = jax.nn.gelu(hidden)
        if "scale" in before:
            mean = hidden.mean(axis=-1, keepdims=True)
            variance = jnp.square(hidden).mean(axis=-1, keepdims=True) - jnp.square(mean)
            hidden = (hidden - mean) * jax.lax.rsqrt(variance + 1e-6)
            hidden = hidden * before["scale"] + before["shift"]
        hidden = hidden @ layer["kernel"] + layer["bias"]
    return hidden


def velocity(layers: Net, observations: jax.Array) -> flow.Velocity:
    """The flow's velocity; the observations pass through the first layer once for all times."""
    first = layers[0]
    of_state, of_action, of_time = jnp.split(first["kernel"], (OBSERVATION, OBSERVATION + FLAT))
    context = observations @ of_state + first["bias"]

    def evaluate(a: jax.Array, w: jax.Array) -> jax.Array:
        hidden = context + a.reshape(len(a), FLAT) @ of_action + w[:, None] * of_time
        return perceptron(layers, hidden).reshape(a.shape)

    return evaluate


def values(critics: Net, observations: jax.Array, a: jax.Array) -> jax.Array:
    """Q of every critic, [critics, batch]."""
    inputs = jnp.concatenate([observations, a.reshape(len(a), FLAT)], axis=1)

    def one(layers: Net) -> jax.Array:
        first = layers[0]
        return perceptron(layers, inputs @ first["kernel"] + first["bias"])[:, 0]

    return jax.vmap(one)(critics)


def _update(
    state: State, batch: dict, key: jax.Array, *, chain: Any, sampler: Any, steps: int
) -> tuple[State, dict]:
    """All three losses, one optimiser step, then the targets."""
    keys = jax.random.split(key, 2)
    y = _td_target(state, batch, keys[0], steps)

    def loss(online: dict) -> tuple[jax.Array, dict]:
        q = values(online["critic"], batch["observations"], batch["actions"])
        critic = (jnp.square(q - y[None]) * batch["valid"][None, :, -1]).mean()
        cloned, tilted = _policy_losses(online, state.target, batch, keys[1], sampler, steps)
        metrics = {"critic": critic, "flow": cloned, "adjoint": FLAT * tilted}
        return critic + metrics["flow"] + metrics["adjoint"], metrics

    gradient, metrics = jax.grad(loss, has_aux=True)(state.online)
    change, memory = chain.update(gradient, state.optimiser, state.online)
    online: Any = optax.apply_updates(state.online, change)
    target = ema(state.target, {name: online[name] for name in state.target}, EMA)
    return State(online, target, memory), metrics | {"norm": optax.global_norm(gradient)}


def _td_target(state: State, batch: dict, key: jax.Array, steps: int) -> jax.Array:
    """Return of the chunk and the pessimistic value of the policy's next action."""
    after = batch["next_observations"][:, -1]
    noise = jax.random.normal(key, (BATCH, FLAT)).reshape(BATCH, HORIZON, ACTION)
    a = flow.euler_sample(velocity(state.online["policy"], after), noise, steps)
    q = values(state.target["critic"], after, jnp.clip(a, -1, 1))
    value = q.mean(axis=0) - PESSIMISM * q.std(axis=0)
    return batch["rewards"][:, -1] + DISCOUNT * batch["masks"][:, -1] * value


def _policy_losses(
    online: dict, target: dict, batch: dict, key: jax.Array, sampler: Any, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Flow matching of the cloned policy, adjoint matching of the tilted one."""
    observations, shape = batch["observations"], (BATCH, HORIZON, ACTION)
    keys = jax.random.split(key, 4)
    noises = [jax.random.normal(k, (BATCH, FLAT)).reshape(shape) for k in keys[:2]]
    cloned, _ = flow.sft_loss(
        velocity(online["cloned"], observations),
        batch["actions"],
        noises[0],
        jax.random.uniform(keys[2], (BATCH,)),
        jnp.ones(shape[:2], bool),
    )

    def critic_gradient(a: jax.Array) -> jax.Array:
        return jax.grad(lambda a: values(target["critic"], observations, a).mean(axis=0).sum())(a)

    tilted, _ = qam.adjoint_matching_loss(
        velocity(online["policy"], observations),
        velocity(target["cloned"], observations),
        qam.boxed(critic_gradient, 1.0),
        noises[1],
        keys[3],
        steps=steps,
        inv_temp=INV_TEMP,
        sampler=sampler,
        action_mask=jnp.ones(shape[:2], bool),
    )
    return cloned, tilted
