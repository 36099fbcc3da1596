"""What the learner needs of a policy and of a critic, whatever network is behind it (IV-D)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
from jax import Array
from jaxtyping import Bool, Float, Int, UInt8

Params = Any
"""A tree of arrays."""


class Inputs(NamedTuple):
    """One batch of what a policy or critic conditions on, s_t with its instruction."""

    state: Float[Array, "batch state"]
    """Normalised state."""
    tokens: Int[Array, "batch tokens"]
    """Instruction tokens, 0 where there is none."""
    images: Mapping[str, UInt8[Array, "batch height width 3"]] | None = None
    """By camera; None for a preset that does not see."""
    image_mask: Mapping[str, Bool[Array, " batch"]] | None = None
    """By camera, whether there is an image."""
    critic_tokens: Int[Array, "batch tokens"] | None = None
    """The same words in the critic's vocabulary; None where it has the policy's."""


@dataclass(frozen=True, kw_only=True)
class PolicyFns:
    """A flow-matching policy: pi(a | s) by integrating f(a, w | s) from w = 0 (noise) to 1."""

    init: Callable[[Array], Params]
    """Key to parameters."""
    encode: Callable[[Params, Inputs], Any]
    """Context that does not depend on the flow, computed once per batch or chunk."""
    velocity: Callable[[Params, Any, Array, Array], Array]
    """(params, context, a [batch, horizon, action], w [batch]) to velocity of the shape of a."""
    predicts: Literal["velocity", "action"] = "velocity"
    """What the network puts out, and what the supervised loss is measured in; `velocity` makes a
    velocity of either (`lwd.algorithms.flow.velocity_towards`)."""
    is_expert: Callable[[str], bool] = lambda path: True
    """Whether a parameter, by its path with slashes, is one that `velocity` reads. Those that only
    `encode` reads are frozen online."""


@dataclass(frozen=True, kw_only=True)
class CriticFns:
    """Distributional V and an ensemble of Q heads, each with a tree of its own.

    What they share in order to see, if anything, belongs to the tree of Q.
    """

    init_value: Callable[[Array], Params]
    """Key to parameters of V."""
    init_q: Callable[[Array], Params]
    """Key to parameters of Q."""
    value_logits: Callable[[Params, Any], Array]
    """(params, context) to [batch, atoms] logits of V(s)."""
    q: Callable[[Params, Any, Array], Array]
    """(params, context, a [batch, horizon, action]) to [critics, batch]."""
    encode: Callable[[Params, Inputs], Any] = lambda params, inputs: inputs
    """(parameters of Q, inputs) to the context of V and Q, computed once per batch or chunk: the
    inputs themselves where the heads share nothing."""


def take(params: Params, wanted: Callable[[str], bool]) -> Params:
    """The parameters whose path is `wanted`; None in place of every other one."""

    def taken(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf if wanted(name) else None

    return jax.tree_util.tree_map_with_path(taken, params)


def combine(first: Params, second: Params) -> Params:
    """Inverse of `take`: each parameter from the tree that has it."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda x: x is None
    )
