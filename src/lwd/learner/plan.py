"""How much memory a stage takes on each device, before anything is allocated.

Networks, optimisers and gradients are the shapes of the real ones. Activations are what JAX's own
differentiation keeps between the forward and the backward pass of the real losses, found with
abstract arrays of two batch sizes: the part that grows with the batch. With remat, one block at a
time is evaluated again and adds what that keeps. XLA fuses, so that what it really takes is less.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lwd.algorithms import flow, qam
from lwd.config import ControlConfig, QamConfig
from lwd.config.machine import Machine
from lwd.errors import ConfigError
from lwd.models import vla
from lwd.models.fns import CriticFns, Inputs, Params, PolicyFns, take
from lwd.models.inputs.format import InputFormat
from lwd.models.presets import VLA, Vla, sees

GIB = 2**30
Stage = Literal["sft", "offline", "online"]
Reference = Literal["own_vlm", "shared_vlm"]
Size = Callable[[int], int]
"""Batch size to bytes."""


class Row(NamedTuple):
    """One use of memory on each device."""

    name: str
    fixed: int
    """Bytes that do not depend on the batch."""
    each: int
    """Bytes for each sample that is on the device at a time."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rows of a stage on a machine."""

    machine: Machine
    rows: tuple[Row, ...]
    samples: int
    """Samples that are on a device at a time."""

    @property
    def total(self) -> int:
        """Bytes on each device."""
        return sum(row.fixed + row.each * self.samples for row in self.rows)

    @property
    def room(self) -> int:
        """Bytes of a device that may be used."""
        return int(self.machine.memory_gib * GIB * (1 - self.machine.headroom))

    @property
    def fits(self) -> bool:
        """Whether a device has room for all."""
        return self.total <= self.room

    @property
    def most(self) -> int:
        """Largest number of samples on a device at a time that fits; 0 if none does."""
        fixed, each = (sum(getattr(row, name) for row in self.rows) for name in ("fixed", "each"))
        return max((self.room - fixed) // max(each, 1), 0)


def plan(  # noqa: PLR0913
    preset: str,
    control: ControlConfig,
    machine: Machine,
    *,
    batch: int,
    parts: int = 1,
    stage: Stage = "sft",
    reference: Reference = "own_vlm",
    qam_config: QamConfig | None = None,
) -> Plan:
    """Memory of a stage of Algorithm 1. ConfigError if the batch cannot be divided.

    `parts` is the number of parts of a batch whose gradients are taken one after another;
    `reference` says whether the reference policy keeps a vision-language model of its own.
    """
    if not sees(preset):
        raise ConfigError(f"preset {preset!r} takes a few MiB; plan one of {', '.join(VLA)}.")
    pieces = machine.devices * parts
    if batch < 1 or batch % pieces:
        raise ConfigError(
            f"a batch of {batch} cannot be divided over {machine.devices} devices in {parts} "
            f"parts each; give a multiple of {pieces}."
        )
    model = VLA[preset](control.horizon, 201)
    steps = qam_config or QamConfig()
    rows = [
        *_state(model, stage, machine.shards, reference),
        Row("weights of one block and of the embedding, cast", _cast(model), 0),
        *_activations(model, stage, steps, reference),
    ]
    return Plan(machine=machine, rows=tuple(rows), samples=batch // pieces)


def _state(model: Vla, stage: Stage, shards: int, reference: Reference) -> list[Row]:
    """What a train state holds, and the gradients of the largest network."""
    policy, critic = vla.policy(model.policy), vla.critic(model.critic)
    key = jax.random.key(0)
    theta, phi, psi = (
        size(jax.eval_shape(init, key)) for init in (policy.init, critic.init_q, critic.init_value)
    )
    expert = size(take(jax.eval_shape(policy.init, key), policy.is_expert))
    trained = expert if stage == "online" else theta
    gradients = trained if stage == "sft" else max(trained, phi)
    sizes = {
        "policy": theta,
        "reference policy": theta if reference == "own_vlm" else expert,
        "critic: V, Q and the target of Q": psi + 2 * phi,
        "optimiser of the policy": 2 * trained,
        "optimisers of V and Q": 2 * (psi + phi),
        "gradients": gradients,
    }
    return [Row(name, -(-number // shards), 0) for name, number in sizes.items()]


def _cast(model: Vla) -> int:
    """A block's weights, gathered and in the dtype of activations, and those of the embedding."""
    config = model.policy
    llm = _shapes(vla.policy(config).init)["PaliGemma"]["llm"]
    count = sum(leaf.size for leaf in jax.tree.leaves(llm["layers"])) // config.vlm.depth
    table = llm["embedder"]["input_embedding"].size
    return (count + table) * config.dtype.itemsize


@cache
def _activations(
    model: Vla, stage: Stage, steps: QamConfig, reference: Reference
) -> tuple[Row, ...]:
    policy, critic = vla.policy(model.policy), vla.critic(model.critic)
    format_, horizon = model.inputs, model.policy.horizon
    prefix = _growth(lambda n: size(_context(policy, format_, n)))
    if stage == "sft":
        kept, contexts, states = _growth(lambda n: _kept_by_sft(policy, format_, horizon, n)), 1, 1
    else:  # the reference has a cache of its own, and there is a next state
        theirs = _growth(lambda n: _kept_by_q(critic, model, n))
        ours = _growth(lambda n: _kept_by_qam(policy, format_, horizon, n, steps, stage))
        kept, contexts, states = max(theirs, ours), 1 + (reference == "own_vlm"), 2
    live = _one_block(model, stage, steps) if model.policy.remat else 0
    inputs = states * _growth(lambda n: size(_inputs(format_, n)))
    return (
        Row("keys and values of the prefix", 0, contexts * prefix),
        Row("activations kept for the backward pass", 0, kept),
        Row("activations of one block, evaluated again", 0, live),
        Row("inputs", 0, inputs),
    )


def _one_block(model: Vla, stage: Stage, steps: QamConfig) -> int:
    """What the largest of the repeated blocks keeps without remat: what one more of them adds."""

    def policy(vision: int, language: int) -> int:
        config = _shallow(model, vision, language).policy
        fns, format_, horizon = vla.policy(config), model.inputs, config.horizon
        if stage == "online":
            return _growth(lambda n: _kept_by_qam(fns, format_, horizon, n, steps, stage))
        return _growth(lambda n: _kept_by_sft(fns, format_, horizon, n))

    def critic(vision: int, language: int) -> int:
        shallow = _shallow(model, vision, language)
        return _growth(lambda n: _kept_by_q(vla.critic(shallow.critic), shallow, n))

    towers = (policy,) if stage == "sft" else (policy, critic)
    return max(max(kept(2, 1), kept(1, 2)) - kept(1, 1) for kept in towers)


def _shallow(model: Vla, vision: int, language: int) -> Vla:
    """The same with so many blocks in each tower, and without remat."""
    ours, theirs = model.policy, model.critic
    policy = replace(
        ours,
        remat=False,
        vision=replace(ours.vision, depth=vision),
        vlm=replace(ours.vlm, depth=language),
        expert=replace(ours.expert, depth=language),
    )
    critic = replace(
        theirs,
        remat=False,
        vision=replace(theirs.vision, depth=vision),
        text=replace(theirs.text, depth=language),
    )
    return replace(model, policy=policy, critic=critic)


def _kept_by_sft(policy: PolicyFns, format: InputFormat, horizon: int, batch: int) -> int:
    def loss(theta: Params, inputs: Inputs, a: Array, w: Array) -> Array:
        context = policy.encode(theta, inputs)
        mask = jnp.ones(a.shape[:2], bool)
        return flow.sft_loss(lambda a, w: policy.velocity(theta, context, a, w), a, a, w, mask)[0]

    chunk, time = _chunk(format.action, horizon, batch), _floats(batch)
    return kept_by(loss, _shapes(policy.init), _inputs(format, batch), chunk, time)


def _kept_by_qam(
    policy: PolicyFns,
    format: InputFormat,
    horizon: int,
    batch: int,
    steps: QamConfig,
    stage: Stage,
) -> int:
    """Offline the whole policy learns; online its context is a constant."""

    def loss(theta: Params, context: Any, noise: Array, key: Array) -> Array:
        seen = policy.encode(theta, context) if stage == "offline" else context

        def velocity(a: Array, w: Array) -> Array:
            return policy.velocity(theta, seen, a, w)

        return qam.adjoint_matching_loss(
            velocity, velocity, jnp.zeros_like, noise, key,
            steps=steps.steps, inv_temp=steps.inv_temp, sampler=steps.sampler,
            action_mask=jnp.ones(noise.shape[:2], bool), recompute=steps.recompute,
        )[0]  # fmt: skip

    given = _inputs(format, batch) if stage == "offline" else _context(policy, format, batch)
    chunk = _chunk(format.action, horizon, batch)
    return kept_by(loss, _shapes(policy.init), given, chunk, _shapes(lambda key: key))


def _kept_by_q(critic: CriticFns, model: Vla, batch: int) -> int:
    def loss(phi: Params, inputs: Inputs, a: Array) -> Array:
        return critic.q(phi, critic.encode(phi, inputs), a).sum()

    chunk = _chunk(model.critic.action, model.critic.horizon, batch)
    return kept_by(loss, _shapes(critic.init_q), _inputs(model.inputs, batch), chunk)


def kept_by(loss: Callable[..., Array], params: Params, *arguments: Any) -> int:
    """Bytes that differentiation by the parameters keeps from the forward pass, parameters that
    the backward pass reads included."""

    def backward(params: Params, *arguments: Any) -> Any:
        return jax.vjp(lambda given: loss(given, *arguments), params)[1]

    return size(jax.eval_shape(backward, params, *arguments))


def size(tree: Any) -> int:
    """Bytes of all arrays, or shapes of arrays, in a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _growth(of: Size) -> int:
    """Bytes for each sample: of two batches less those of one."""
    return of(2) - of(1)


def _context(policy: PolicyFns, format: InputFormat, batch: int) -> Any:
    return jax.eval_shape(policy.encode, _shapes(policy.init), _inputs(format, batch))


def _inputs(format: InputFormat, batch: int) -> Inputs:
    side = format.image
    cameras = [camera for camera, _ in format.cameras]
    return Inputs(
        state=_array((batch, len(format.state)), jnp.float32),
        tokens=_array((batch, format.tokens), jnp.int32),
        images={name: _array((batch, side, side, 3), jnp.uint8) for name in cameras},
        image_mask={name: _array((batch,), bool) for name in cameras},
    )


def _chunk(dimensions: int, horizon: int, batch: int) -> Any:
    return _array((batch, horizon, dimensions), jnp.float32)


def _floats(batch: int) -> Any:
    return _array((batch,), jnp.float32)


def _shapes(init: Callable[[Array], Params]) -> Params:
    return jax.eval_shape(init, jax.random.key(0))


def _array(shape: tuple[int, ...], dtype: Any) -> Any:
    """Stands for an array; functions are traced with it only."""
    return jax.ShapeDtypeStruct(shape, dtype)
