"""The `state` preset: policy and critic on state vectors, small enough to learn on a laptop.

An instruction, with the sub-steps that have been done, attends over the object slots by what they
are (kind, colour), so that "red can" selects one object whatever its slot, and "kettle" once the
leaves are in. Their distances to both hands and to the goal are features; the rest are plain
multi-layer perceptrons. The policy's predicts the action, of which the velocity follows.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from lwd.algorithms.flow import velocity_towards
from lwd.config import StateLayout
from lwd.models.fns import CriticFns, Inputs, Params, PolicyFns
from lwd.models.tokenizer import VOCABULARY

WORD = 64
"""Width of a word embedding."""
HEADS = 8
"""Heads of the attention over object slots."""
KEY = 24
"""Width of an attention key."""
SHARPNESS = 4.0
"""Scale of fresh queries: the attention starts near a choice, not near an average."""
BLOCKS = 2
"""Residual blocks of the flow."""
TIMES = 32
"""Width of the flow time embedding."""


def policy(layout: StateLayout, *, horizon: int, action: int, width: int = 256) -> PolicyFns:
    """Flow policy over chunks [horizon, action]."""

    def init(key: Array) -> Params:
        encoder, lift, condition, layers, out = jax.random.split(key, 5)
        return {
            "encoder": _init_encoder(encoder, layout, width),
            "lift": _init_dense(lift, horizon * action + TIMES, width),
            "condition": _init_dense(condition, width, (1 + BLOCKS) * width),
            "blocks": [_init_block(k, width) for k in jax.random.split(layers, BLOCKS)],
            "action": _init_dense(out, width, horizon * action, scale=0.0),
        }

    clock = layout.size - layout.scalars

    def encode(params: Params, inputs: Inputs) -> Array:
        # Demonstrations end early: what the clock says later would be foreign to the policy.
        inputs = inputs._replace(state=inputs.state.at[:, clock].set(0.0))
        return _dense(params["condition"], _encode(params["encoder"], inputs, layout))

    def velocity(params: Params, context: Array, a: Array, w: Array) -> Array:
        flow = jnp.concatenate([a.reshape(len(a), -1), _flow_time(w)], axis=-1)
        shift, *scales = jnp.split(context, 1 + BLOCKS, axis=-1)
        x = _dense(params["lift"], flow) + shift
        for block, scale in zip(params["blocks"], scales, strict=True):
            x = _block(block, x, scale)
        predicted = _dense(params["action"], _norm(x)).reshape(a.shape)
        return velocity_towards(predicted, a, w)

    return PolicyFns(init=init, encode=encode, velocity=velocity, predicts="action")


def critic(
    layout: StateLayout,
    *,
    horizon: int,
    action: int,
    atoms: int,
    critics: int = 2,
    width: int = 256,
) -> CriticFns:
    """Categorical V over `atoms` and `critics` Q heads that share nothing but their inputs."""

    def init_value(key: Array) -> Params:
        encoder, out = jax.random.split(key)
        return {
            "encoder": _init_encoder(encoder, layout, width),
            "out": _init_dense(out, width, atoms, scale=0.0),
        }

    def value_logits(params: Params, inputs: Inputs) -> Array:
        return _dense(params["out"], _norm(_encode(params["encoder"], inputs, layout)))

    def init_head(key: Array) -> Params:
        encoder, lift, condition, block, out = jax.random.split(key, 5)
        return {
            "encoder": _init_encoder(encoder, layout, width),
            "lift": _init_dense(lift, horizon * action, width),
            "condition": _init_dense(condition, width, 2 * width),
            "block": _init_block(block, width),
            "out": _init_dense(out, width, 1, scale=0.0),
        }

    def head(params: Params, inputs: Inputs, a: Array) -> Array:
        context = _dense(params["condition"], _encode(params["encoder"], inputs, layout))
        shift, scale = jnp.split(context, 2, axis=-1)
        x = _dense(params["lift"], a.reshape(len(a), -1)) + shift
        return _dense(params["out"], _norm(_block(params["block"], x, scale)))[:, 0]

    return CriticFns(
        init_value=init_value,
        init_q=lambda key: jax.vmap(init_head)(jax.random.split(key, critics)),
        value_logits=value_logits,
        q=jax.vmap(head, in_axes=(0, None, None)),
    )


def _init_dense(key: Array, inputs: int, outputs: int, *, scale: float = 1.0) -> Params:
    weight = jax.random.truncated_normal(key, -2, 2, (inputs, outputs))
    return {"w": weight * scale / math.sqrt(inputs), "b": jnp.zeros(outputs)}


def _dense(params: Params, x: Array) -> Array:
    return x @ params["w"] + params["b"][None]


def _norm(x: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
    """Layer norm without parameters; the next layer has its own."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def _init_block(key: Array, width: int) -> Params:
    first, second = jax.random.split(key)
    return {
        "in": _init_dense(first, width, width),
        "out": _init_dense(second, width, width, scale=0.5),
    }


def _block(params: Params, x: Array, scale: Array) -> Array:
    """Residual block whose normalised input is scaled by what it is conditioned on."""
    hidden = jax.nn.gelu(_dense(params["in"], _norm(x) * (1 + scale)))
    return x + _dense(params["out"], hidden)


def _flow_time(w: Float[Array, " batch"]) -> Float[Array, "batch times"]:
    frequency = jnp.geomspace(math.pi / 2, 16 * math.pi, TIMES // 2)
    angle = w[:, None] * frequency[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def _init_encoder(key: Array, layout: StateLayout, width: int) -> Params:
    word, query, slot, first, second = jax.random.split(key, 5)
    distances = 3 * (layout.arms + 1) * HEADS
    features = layout.proprio + HEADS * layout.slot + layout.scalars + WORD + distances
    return {
        "word": jax.random.normal(word, (VOCABULARY, WORD)),
        "query": _init_dense(query, WORD + layout.done, HEADS * KEY, scale=SHARPNESS),
        "key": _init_dense(slot, layout.identity, HEADS * KEY)["w"],
        "in": _init_dense(first, features, width),
        "out": _init_dense(second, width, width),
    }


def _encode(params: Params, inputs: Inputs, layout: StateLayout) -> Float[Array, "batch width"]:
    batch = len(inputs.state)
    edges = [layout.proprio, layout.proprio + layout.slots * layout.slot]
    proprio, slots, scalars = jnp.split(inputs.state, edges, axis=-1)
    said = _words(params["word"], inputs.tokens)
    wanted = jnp.concatenate([said, scalars[:, -layout.done :]], axis=-1)
    attended = _attend(params, wanted, slots.reshape(batch, layout.slots, layout.slot), layout)
    places = [inputs.state[:, p] for p in (*layout.positions[: layout.arms], layout.positions[-1])]
    distances = attended[:, :, None, :3] - jnp.stack(places, axis=1)[:, None]
    features = [proprio, scalars, said, attended.reshape(batch, -1), distances.reshape(batch, -1)]
    hidden = jax.nn.gelu(_dense(params["in"], jnp.concatenate(features, axis=-1)))
    return jax.nn.gelu(_dense(params["out"], _norm(hidden)))


def _words(embedding: Array, tokens: Array) -> Float[Array, "batch word"]:
    """Sum of word embeddings, scaled to unit variance."""
    said = (tokens > 0)[..., None] * embedding[tokens]
    return said.sum(1) / jnp.sqrt(jnp.maximum((tokens > 0).sum(1, keepdims=True), 1))


def _attend(
    params: Params, wanted: Array, slots: Array, layout: StateLayout
) -> Float[Array, "batch heads slot"]:
    """Objects that the instruction speaks of; linear in words, so that "red" and "can" add up.

    Which hand has an object is no part of what it is: attention, and V with it, would jump where a
    grasp begins. A head's score of a slot is query . (W identity). W^T query, once for all slots,
    spares the keys of every slot: the same products in another order.
    """
    batch = len(slots)
    identity, present = slots[..., layout.identities], slots[..., -1] > 0.5
    query = _dense(params["query"], wanted).reshape(batch, HEADS, KEY)
    keys = params["key"].reshape(layout.identity, HEADS, KEY)
    asked = jnp.einsum("bhk,ihk->bhi", query, keys)
    score = jnp.einsum("bhi,bsi->bhs", asked, identity)
    score = jnp.where(present[:, None], score, -1e9)
    return jnp.einsum("bhs,bsd->bhd", jax.nn.softmax(score, axis=-1), slots)
