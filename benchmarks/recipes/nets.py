"""Networks for the toy with the interface of the learner's."""

from functools import cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lwd.learner.state import Nets
from lwd.models.fns import CriticFns, Inputs, PolicyFns
from lwd.models.tokenizer import INDICATORS, tokenize

WIDTH = 64


def mlp(layers: list, x: Array) -> Array:
    """[batch, inputs] to [batch, outputs]."""
    for weight, bias in layers[:-1]:
        x = jax.nn.gelu(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


def layers(key: Array, *sizes: int) -> list:
    """Weights and biases."""
    pairs = list(pairwise(sizes))
    return [
        (jax.random.normal(part, pair) / pair[0] ** 0.5, jnp.zeros((1, pair[1])))
        for part, pair in zip(jax.random.split(key, len(pairs)), pairs, strict=True)
    ]


def encode(params: Any, inputs: Inputs) -> Array:
    """The turn, and whether the instruction says "positive" or "negative"."""
    good, bad = (tokenize([INDICATORS[kind]])[0, 1] for kind in (True, False))
    told = [(inputs.tokens == word).any(axis=1, keepdims=True) for word in (good, bad)]
    return jnp.concatenate([inputs.state, *told], axis=1).astype(jnp.float32)


def velocity(params: Any, context: Array, a: Array, w: Array) -> Array:
    """Of chunks [batch, 1, 2]."""
    return mlp(params, jnp.concatenate([a[:, 0], w[:, None], context], axis=1))[:, None]


def q(params: Any, inputs: Inputs, a: Array) -> Array:
    """[critics, batch]"""
    x = jnp.concatenate([inputs.state, a[:, 0]], axis=1)
    return jax.vmap(mlp, in_axes=(0, None))(params, x)[..., 0]


@cache
def nets(outputs: int) -> Nets:
    """Small networks for the toy; `outputs` of V."""
    return Nets(
        PolicyFns(
            init=lambda key: layers(key, 7, WIDTH, WIDTH, 2), encode=encode, velocity=velocity
        ),
        CriticFns(
            init_value=lambda key: layers(key, 2, WIDTH, outputs),
            init_q=lambda key: jax.vmap(lambda k: layers(k, 4, WIDTH, WIDTH, 1))(
                jax.random.split(key, 2)
            ),
            value_logits=lambda params, inputs: mlp(params, inputs.state),
            q=q,
        ),
    )
