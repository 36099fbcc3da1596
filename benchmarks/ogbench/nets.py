"""The multi-layer perceptrons of the authors' QAM code, as pure functions of their parameters."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

Layer = dict[str, Array]
Net = list[Layer]


def init(key: Array, inputs: int, hidden: Sequence[int], outputs: int, *, norm: bool) -> Net:
    """Xavier-uniform weights and zero biases; with `norm` a layer norm after every activation."""
    sizes = [inputs, *hidden, outputs]
    net = []
    for i, part in enumerate(jax.random.split(key, len(sizes) - 1)):
        fan_in, fan_out = sizes[i], sizes[i + 1]
        edge = (6.0 / (fan_in + fan_out)) ** 0.5
        weight = jax.random.uniform(part, (fan_in, fan_out), minval=-edge, maxval=edge)
        layer = {"weight": weight, "bias": jnp.zeros(fan_out)}
        if norm and i < len(hidden):
            layer |= {"scale": jnp.ones(fan_out), "shift": jnp.zeros(fan_out)}
        net.append(layer)
    return net


def apply(net: Net, inputs: Array) -> Array:
    """[batch, inputs] to [batch, outputs]: GELU (tanh form), then layer norm if the net has it."""
    x = inputs
    for i, layer in enumerate(net):
        x = x @ layer["weight"] + layer["bias"][None]
        if i < len(net) - 1:
            x = jax.nn.gelu(x)
            x = _normalised(x, layer) if "scale" in layer else x
    return x


def _normalised(x: Array, layer: Layer) -> Array:
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x).mean(axis=-1, keepdims=True) - jnp.square(mean)
    scaled = (x - mean) * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-6)
    return scaled * layer["scale"][None] + layer["shift"][None]
