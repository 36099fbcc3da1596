"""What the learner needs of a policy and of a critic, whatever network is behind it (IV-D)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import Array
from jaxtyping import Float, Int

Params = Any
"""A tree of arrays."""


class Inputs(NamedTuple):
    """One batch of what a policy or critic conditions on, s_t with its instruction."""

    state: Float[Array, "batch state"]
    """Normalised state."""
    tokens: Int[Array, "batch tokens"]
    """Instruction tokens, 0 where there is none."""


@dataclass(frozen=True, kw_only=True)
class PolicyFns:
    """A flow-matching policy: pi(a | s) by integrating f(a, w | s) from w = 0 (noise) to 1."""

    init: Callable[[Array], Params]
    """Key to parameters."""
    encode: Callable[[Params, Inputs], Array]
    """Context that does not depend on the flow, computed once per batch or chunk."""
    velocity: Callable[[Params, Array, Array, Array], Array]
    """(params, context, a [batch, horizon, action], w [batch]) to velocity of the shape of a."""


@dataclass(frozen=True, kw_only=True)
class CriticFns:
    """Distributional V and an ensemble of Q heads, each with a tree of its own."""

    init_value: Callable[[Array], Params]
    """Key to parameters of V."""
    init_q: Callable[[Array], Params]
    """Key to parameters of Q."""
    value_logits: Callable[[Params, Inputs], Array]
    """(params, inputs) to [batch, atoms] logits of V(s)."""
    q: Callable[[Params, Inputs, Array], Array]
    """(params, inputs, a [batch, horizon, action]) to [critics, batch]."""
