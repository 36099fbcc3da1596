"""Target networks (Algorithm 2, line 6)."""

import jax
from jaxtyping import PyTree


def ema(target: PyTree, online: PyTree, rate: float) -> PyTree:
    """Move `target` a step `rate` towards `online`: target + rate (online - target).

    Algorithm 2 writes rho target + (1 - rho) online and -B2 calls 0.005 the rate: with the literal
    reading the target would be the online network, so the rate is the step.
    """
    return jax.tree.map(lambda old, new: old + rate * (new - old), target, online)
