"""A policy as it travels: tensors and metadata of one safetensors file, and back to actions."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from lwd.algorithms.flow import euler_sample
from lwd.config import ControlConfig
from lwd.errors import IntegrityError
from lwd.models.fns import Inputs, Params, PolicyFns
from lwd.models.normaliser import Normaliser
from lwd.models.presets import build
from lwd.models.tokenizer import TOKENIZER_HASH, tokenize

FLOW_STEPS = 10
"""Euler steps of a robot that samples a chunk."""


@runtime_checkable
class Sensed(Protocol):
    """The part of an observation that the policy reads."""

    @property
    def state(self) -> np.ndarray:
        """[state] float32 in the robot's units."""
        ...


def pack(
    params: Params, normaliser: Normaliser, *, preset: str, control: ControlConfig
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by path and the metadata that a robot needs to act with them."""
    tensors = {f"policy/{name}": np.asarray(leaf) for name, leaf in _named(params)}
    tensors |= {f"normaliser/{name}": array for name, array in normaliser.tensors().items()}
    metadata = {
        "preset": preset,
        "rate_hz": repr(control.rate_hz),
        "horizon": str(control.horizon),
        "flow_steps": str(FLOW_STEPS),
        "normalisation_hash": normaliser.sha256,
        "tokenizer_hash": TOKENIZER_HASH,
    }
    return tensors, metadata


def unpack(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], control: ControlConfig
) -> tuple[Params, Normaliser, PolicyFns]:
    """Inverse of `pack`; IntegrityError says which tensor or setting does not fit."""
    for name, here in (("horizon", str(control.horizon)), ("tokenizer_hash", TOKENIZER_HASH)):
        if metadata.get(name) != here:
            raise IntegrityError(
                f"weights have {name} {metadata.get(name)!r}, here it is {here!r}."
            )
    fns, _ = build(metadata.get("preset", "absent"), control)
    shapes = jax.eval_shape(fns.init, jax.random.key(0))
    leaves = [_tensor(tensors, f"policy/{name}", leaf.shape) for name, leaf in _named(shapes)]
    normaliser = Normaliser.from_tensors(
        {name.removeprefix("normaliser/"): t for name, t in tensors.items() if "normaliser" in name}
    )
    if normaliser.sha256 != metadata.get("normalisation_hash"):
        raise IntegrityError("normalisation statistics differ from the hash in the metadata.")
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves), normaliser, fns


def expected_shapes(preset: str, control: ControlConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every policy tensor of `preset`, by its name in the artifact."""
    fns, _ = build(preset, control)
    shapes = jax.eval_shape(fns.init, jax.random.key(0))
    return {f"policy/{name}": tuple(leaf.shape) for name, leaf in _named(shapes)}


class FlowPolicy:
    """Acts with one published version: state and instruction to a chunk of joint targets."""

    def __init__(
        self,
        tensors: Mapping[str, np.ndarray],
        metadata: Mapping[str, str],
        version: int,
        *,
        control: ControlConfig,
    ) -> None:
        self.version = version
        self.params, self.normaliser, _ = unpack(tensors, metadata, control)
        self.normalisation_hash = metadata["normalisation_hash"]
        self.tokenizer_hash = metadata["tokenizer_hash"]
        self._sample = _sampler(metadata["preset"], control, int(metadata["flow_steps"]))
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Start the noise of an episode, so that policies can be compared on the same draws."""
        self._rng = np.random.default_rng(seed)

    def chunk(self, observation: Sensed, instruction: str) -> np.ndarray:
        """[horizon, action] float32 absolute targets."""
        state = observation.state[None]
        tokens = jnp.asarray(tokenize([instruction]))
        inputs = Inputs(jnp.asarray(self.normaliser.state(state)), tokens)
        noise = self._rng.standard_normal((1, *self.normaliser.action_mean.shape), np.float32)
        return self.normaliser.restore(state, np.asarray(self._sample(self.params, inputs, noise)))[
            0
        ]


@cache
def _sampler(preset: str, control: ControlConfig, steps: int):
    """Jitted (params, inputs, noise) to normalised actions, compiled once per process."""
    fns, _ = build(preset, control)

    @jax.jit
    def sample(params: Params, inputs: Inputs, noise: jax.Array) -> jax.Array:
        context = fns.encode(params, inputs)
        return euler_sample(lambda a, w: fns.velocity(params, context, a, w), noise, steps)

    return sample


def _named(tree: Params) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _tensor(tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> jax.Array:
    if name not in tensors:
        raise IntegrityError(f"weights lack tensor {name!r} of shape {shape}.")
    if tensors[name].shape != shape:
        raise IntegrityError(f"tensor {name!r} has shape {tensors[name].shape}, expected {shape}.")
    return jnp.asarray(tensors[name])
