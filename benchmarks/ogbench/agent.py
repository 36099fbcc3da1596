"""One offline agent per cell of the grid critic x extractor, built on `lwd.algorithms`.

Settings that all cells share are those of the authors' QAM code (agents/qam.py): joint Adam with
the joint gradient clipped to norm 1, EMA of critic and behaviour flow from the parameters before
the update, critics without dropout, a tilted flow with its own initialisation, trained at once with
the behaviour flow. All critics get the same negative rewards, so that inv_temp means the same for
them. DIVL's support of [-0.1, 1.1] for returns in [0, 1] then becomes 1.1 and -0.1 times the lowest
return: with sparse rewards the two scales differ by an affine map of the value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.ogbench import nets
from benchmarks.ogbench.data import Chunks
from lwd.algorithms import categorical, divl, iql
from lwd.algorithms.best_of_n import best_of_n
from lwd.algorithms.ema import ema
from lwd.algorithms.flow import Metrics, Velocity, euler_sample, sft_loss
from lwd.algorithms.fql import one_step_loss
from lwd.algorithms.qam import adjoint_matching_loss, boxed

Params = dict[str, nets.Net]
Critic = Literal["qam_td", "iql", "divl"]
Extractor = Literal["best_of_n", "fql", "euler", "bridge"]
CRITICS: tuple[Critic, ...] = ("qam_td", "iql", "divl")
EXTRACTORS: tuple[Extractor, ...] = ("best_of_n", "fql", "euler", "bridge")


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """One cell of the grid, and the size of its networks."""

    critic: Critic
    extractor: Extractor
    observation: int
    action: int = 5
    horizon: int = 5
    lowest_return: float = -100.0
    flow_steps: int = 10
    hidden: tuple[int, ...] = (128, 128)
    critics: int = 2
    batch: int = 256
    learning_rate: float = 3e-4
    ema_rate: float = 0.005
    rho: float = 0.5
    """Pessimism: the critic's value is mean - rho * std of its heads."""
    inv_temp: float = 1.0
    """QAM: weight of the critic against the behaviour flow."""
    distil: float = 300.0
    """FQL: weight of the distance to the behaviour flow."""
    expectile: float = 0.9
    """IQL."""
    tau_base: float = 0.9
    alpha: float = 0.3
    """DIVL: quantile level tau_base - alpha * entropy."""
    atoms: int = 201
    candidates: int = 32
    """Best of N: chunks drawn to act."""
    td_candidates: int = 4
    """Best of N: chunks drawn for the target of `qam_td`."""

    def __post_init__(self) -> None:
        if self.critic not in CRITICS or self.extractor not in EXTRACTORS:
            given = f"{self.critic!r} x {self.extractor!r}"
            raise ValueError(f"cell {given} is unknown: {CRITICS} x {EXTRACTORS}.")


class Batch(NamedTuple):
    """Chunks drawn for one update."""

    observations: Array
    actions: Array
    """[batch, horizon, action]"""
    following: Array
    returns: Array
    discounts: Array


class State(NamedTuple):
    """All that an agent is; `key` decides every later draw."""

    params: Params
    target: Params
    optimiser: optax.OptState
    key: Array


def optimiser(config: AgentConfig) -> optax.GradientTransformation:
    """One Adam over all networks behind one clip of the joint gradient."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))


@partial(jax.jit, static_argnums=0)
def create(config: AgentConfig, seed: Array | int) -> State:
    """Fresh networks; the targets are copies."""
    key, *parts = jax.random.split(jax.random.key(seed), 6)
    flat = config.horizon * config.action
    point = config.observation + flat

    def critic(part: Array) -> nets.Net:
        return nets.init(part, point, config.hidden, 1, norm=True)

    def net(part: Array, inputs: int, outputs: int, *, norm: bool = False) -> nets.Net:
        return nets.init(part, inputs, config.hidden, outputs, norm=norm)

    params: Params = {
        "critic": jax.vmap(critic)(jax.random.split(parts[0], config.critics)),
        "slow": net(parts[1], point + 1, flat),
    }
    if config.extractor in ("euler", "bridge"):
        params["fast"] = net(parts[2], point + 1, flat)
    if config.extractor == "fql":
        params["one_step"] = net(parts[3], point, flat)
    if config.critic != "qam_td":
        outputs = 1 if config.critic == "iql" else config.atoms
        params["value"] = net(parts[4], config.observation, outputs, norm=True)
    target = {name: jax.tree.map(jnp.copy, params[name]) for name in ("critic", "slow")}
    return State(params, target, optimiser(config).init(params), key)


def heads(critic: nets.Net, observations: Array, actions: Array) -> Array:
    """Q of every head, [critics, batch]."""
    inputs = jnp.concatenate([observations, actions.reshape(len(actions), -1)], axis=-1)
    return jax.vmap(nets.apply, in_axes=(0, None))(critic, inputs)[..., 0]


def pessimistic(q: Array, rho: float) -> Array:
    """[critics, batch] to [batch]: mean - rho * std over the heads."""
    return q.mean(axis=0) - rho * q.std(axis=0)


def velocity(net: nets.Net, observations: Array) -> Velocity:
    """The flow at given observations; the network sees observation, chunk and flow time."""

    def field(a: Array, w: Array) -> Array:
        inputs = jnp.concatenate([observations, a.reshape(len(a), -1), w[:, None]], axis=-1)
        return nets.apply(net, inputs).reshape(a.shape)

    return field


def policy(config: AgentConfig, params: Params, observations: Array, key: Array) -> Array:
    """Chunks of the extracted policy, [batch, horizon, action] in the action box."""
    noise = jax.random.normal(key, (len(observations), config.horizon, config.action))
    if config.extractor == "fql":
        return jnp.clip(one_step(params["one_step"], observations, noise), -1, 1)
    name = "slow" if config.extractor == "best_of_n" else "fast"
    flow = velocity(params[name], observations)
    return jnp.clip(euler_sample(flow, noise, config.flow_steps), -1, 1)


def one_step(net: nets.Net, observations: Array, noise: Array) -> Array:
    """FQL's actor: from noise to a chunk in one evaluation."""
    inputs = jnp.concatenate([observations, noise.reshape(len(noise), -1)], axis=-1)
    return nets.apply(net, inputs).reshape(noise.shape)


def best(
    config: AgentConfig, params: Params, observations: Array, key: Array, candidates: int
) -> Array:
    """The chunk that the critic likes best among `candidates` of the flow, for each state."""
    shape = (candidates, len(observations), config.horizon, config.action)
    chosen, _ = best_of_n(
        velocity(params["slow"], observations),
        lambda actions: heads(params["critic"], observations, actions),
        jax.random.normal(key, shape),
        steps=config.flow_steps,
        bound=1.0,
    )
    return chosen


def act(config: AgentConfig, params: Params, observations: Array, key: Array) -> Array:
    """What is executed in the environment, [batch, horizon, action]."""
    if config.extractor == "best_of_n":
        return best(config, params, observations, key, config.candidates)
    return policy(config, params, observations, key)


def loss(
    params: Params, target: Params, batch: Batch, key: Array, config: AgentConfig
) -> tuple[Array, Metrics]:
    """Sum of the critic's, the value's, the behaviour flow's and the extractor's losses."""
    key_critic, key_flow, key_policy = jax.random.split(key, 3)
    parts = [
        _critic_loss(params, target, batch, key_critic, config),
        _flow_loss(params, batch, key_flow),
    ]
    if config.critic != "qam_td":
        parts.append(_value_loss(params, target, batch, config))
    if config.extractor == "fql":
        parts.append(_fql_loss(params, batch, key_policy, config))
    if config.extractor in ("euler", "bridge"):
        parts.append(_qam_loss(params, target, batch, key_policy, config))
    metrics = {name: value for _, part in parts for name, value in part.items()}
    return sum((part for part, _ in parts), jnp.zeros(())), metrics


def _critic_loss(
    params: Params, target: Params, batch: Batch, key: Array, config: AgentConfig
) -> tuple[Array, Metrics]:
    frozen = jax.lax.stop_gradient(params)
    value, metrics = _bootstrap(frozen, target, batch.following, key, config)
    wanted, _ = divl.td_target(batch.returns, batch.discounts, value)
    q = heads(params["critic"], batch.observations, batch.actions)
    total, found = divl.critic_loss(q, wanted)
    return total / config.critics, found | metrics


def _bootstrap(
    frozen: Params, target: Params, following: Array, key: Array, config: AgentConfig
) -> tuple[Array, Metrics]:
    """Value of the state after the chunk, which is what the critics of the grid differ in."""
    if config.critic == "iql":
        return nets.apply(frozen["value"], following)[:, 0], {}
    if config.critic == "divl":
        logits = nets.apply(frozen["value"], following)
        return divl.bootstrap(
            logits,
            _atoms(config),
            tau_base=config.tau_base,
            alpha=config.alpha,
            tau_min=0.05,
            tau_max=0.95,
        )
    if config.extractor == "best_of_n":
        actions = best(config, frozen, following, key, config.td_candidates)
    else:
        actions = policy(config, frozen, following, key)
    return pessimistic(heads(target["critic"], following, actions), config.rho), {}


def _atoms(config: AgentConfig) -> Array:
    low = config.lowest_return
    return categorical.support(1.1 * low, -0.1 * low, config.atoms)


def _value_loss(
    params: Params, target: Params, batch: Batch, config: AgentConfig
) -> tuple[Array, Metrics]:
    q = pessimistic(heads(target["critic"], batch.observations, batch.actions), config.rho)
    value = nets.apply(params["value"], batch.observations)
    if config.critic == "iql":
        return iql.expectile_loss(value[:, 0], q, config.expectile)
    return divl.value_loss(value, q, _atoms(config))


def _flow_loss(params: Params, batch: Batch, key: Array) -> tuple[Array, Metrics]:
    key_noise, key_time = jax.random.split(key)
    noise = jax.random.normal(key_noise, batch.actions.shape)
    times = jax.random.uniform(key_time, (len(noise),))
    flow = velocity(params["slow"], batch.observations)
    return sft_loss(flow, batch.actions, noise, times, _whole(batch))


def _whole(batch: Batch) -> Array:
    """Every frame of every chunk counts: chunks across an episode's end are not drawn."""
    return jnp.ones(batch.actions.shape[:2], bool)


def _fql_loss(
    params: Params, batch: Batch, key: Array, config: AgentConfig
) -> tuple[Array, Metrics]:
    frozen = jax.lax.stop_gradient(params)
    return one_step_loss(
        lambda noise: one_step(params["one_step"], batch.observations, noise),
        velocity(frozen["slow"], batch.observations),
        lambda actions: heads(frozen["critic"], batch.observations, actions).mean(axis=0),
        jax.random.normal(key, batch.actions.shape),
        _whole(batch),
        steps=config.flow_steps,
        alpha=config.distil,
        bound=1.0,
    )


def _qam_loss(
    params: Params, target: Params, batch: Batch, key: Array, config: AgentConfig
) -> tuple[Array, Metrics]:
    """Adjoint matching with the scale of the authors' code: summed over steps and dimensions."""
    key_start, key_path = jax.random.split(key)

    def value(actions: Array) -> Array:
        return heads(target["critic"], batch.observations, actions).mean(axis=0).sum(axis=0)

    total, metrics = adjoint_matching_loss(
        velocity(params["fast"], batch.observations),
        velocity(target["slow"], batch.observations),
        boxed(jax.grad(value), 1.0),
        jax.random.normal(key_start, batch.actions.shape),
        key_path,
        steps=config.flow_steps,
        inv_temp=config.inv_temp,
        sampler="bridge" if config.extractor == "bridge" else "euler",
        action_mask=_whole(batch),
    )
    steps = config.flow_steps if config.extractor == "bridge" else 1
    return total * steps * config.horizon * config.action, metrics


def draw(chunks: Chunks, key: Array, config: AgentConfig) -> Batch:
    """Chunks with uniformly drawn starts."""
    drawn = jax.random.randint(key, (config.batch,), 0, len(chunks.starts))
    index = jnp.asarray(chunks.starts)[drawn]
    frames = index[:, None] + jnp.arange(config.horizon)[None]
    rows = (chunks.observations, chunks.following, chunks.returns, chunks.discounts)
    observations, following, returns, discounts = (jnp.asarray(row)[index] for row in rows)
    actions = jnp.asarray(chunks.actions)[frames]
    return Batch(observations, actions, following, returns, discounts)


def update(state: State, chunks: Chunks, config: AgentConfig) -> tuple[State, Metrics]:
    """One gradient step of everything; targets follow the parameters from before it."""
    key, key_batch, key_loss = jax.random.split(state.key, 3)
    batch = draw(chunks, key_batch, config)
    gradient = jax.grad(loss, has_aux=True)
    grads, metrics = gradient(state.params, state.target, batch, key_loss, config)
    steps, inner = optimiser(config).update(grads, state.optimiser, state.params)
    params: Params = optax.apply_updates(state.params, steps)  # pyright: ignore
    old = {name: state.params[name] for name in state.target}
    target = ema(state.target, old, config.ema_rate)
    return State(params, target, inner, key), metrics | {"norm": optax.tree.norm(grads)}


def updates(config: AgentConfig, count: int) -> Callable[[State, Chunks], tuple[State, Metrics]]:
    """`count` updates in one dispatch; metrics are their means."""

    def many(state: State, chunks: Chunks) -> tuple[State, Metrics]:
        def step(state: State, _: None) -> tuple[State, Metrics]:
            return update(state, chunks, config)

        state, metrics = jax.lax.scan(step, state, None, length=count)
        return state, jax.tree.map(lambda values: values.mean(axis=0), metrics)

    return many
