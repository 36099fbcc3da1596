"""Is dQ/da the slope of Q, and how far does it reach?

Finite differences find a wrong gradient (a stopped one, one of another network); steps of a size
that a policy takes find a gradient that is right and useless.
"""

from dataclasses import dataclass

import numpy as np

from lwd.learner.diagnose.bootstrap import Estimate, mean
from lwd.learner.diagnose.grid import Grid
from lwd.learner.diagnose.trained import Trained

STEP = 0.05
"""Length of a finite difference (Euclidean): above float32's noise, below Q's curvature."""
REACH = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Lengths of steps along the gradient, root mean square in normalised units."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What a step along the gradient gains."""

    length: float
    """Root mean square over the numbers of the chunk, normalised units."""
    predicted: float
    """Mean of the gradient's norm times the step."""
    realised: Estimate
    """Mean of Q after the step minus Q before."""
    agreed: Estimate
    """Part of the states in which every head sees a gain."""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """The action gradient at chunks of the policy."""

    states: int
    norm: Estimate
    """Mean Euclidean norm of dQ/da."""
    along: float
    """Finite difference along the gradient over its norm: 1 if it is right."""
    along_error: float
    """95 % quantile over states of the relative error of that finite difference."""
    random_error: float
    """Root mean square error over random directions, relative to their slopes' own."""
    reach: tuple[Reach, ...]


def slope(trained: Trained, grid: Grid, actions: np.ndarray, rng: np.random.Generator) -> Slope:
    """Compare dQ/da at `actions` [states, horizon, action] with differences of Q."""
    gradient = trained.slope(grid.inputs, actions).astype(np.float64)
    norm = np.sqrt(np.square(gradient).sum((1, 2)))
    unit = gradient / np.maximum(norm, 1e-30)[:, None, None]
    random = rng.standard_normal(actions.shape)
    random /= np.sqrt(np.square(random).sum((1, 2), keepdims=True))
    along = _difference(trained, grid, actions, unit)
    aside = _difference(trained, grid, actions, random)
    expected = (gradient * random).sum((1, 2))
    alive = norm > 0
    relative = np.abs(along - norm)[alive] / norm[alive]
    return Slope(
        states=len(grid),
        norm=mean(grid.episode, norm),
        along=float(along.sum() / norm.sum()) if alive.any() else float("nan"),
        along_error=float(np.quantile(relative, 0.95)) if alive.any() else float("nan"),
        random_error=float(np.sqrt(_ratio(np.square(aside - expected), np.square(expected)))),
        reach=tuple(_reach(trained, grid, actions, unit, norm, length) for length in REACH),
    )


def _difference(
    trained: Trained, grid: Grid, actions: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """[states] central difference of Q along unit directions."""
    ends = [
        trained.reduce(trained.heads(grid.inputs, _moved(actions, sign * STEP * direction)))
        for sign in (1, -1)
    ]
    return (ends[0].astype(np.float64) - ends[1]) / (2 * STEP)


def _reach(
    trained: Trained,
    grid: Grid,
    actions: np.ndarray,
    unit: np.ndarray,
    norm: np.ndarray,
    length: float,
) -> Reach:
    distance = length * np.sqrt(unit[0].size)
    before = trained.heads(grid.inputs, actions)
    after = trained.heads(grid.inputs, _moved(actions, distance * unit))
    change = trained.reduce(after) - trained.reduce(before)
    agreed = np.asarray((after > before).all(axis=0), float)
    return Reach(
        length=length,
        predicted=float(distance * norm.mean()),
        realised=mean(grid.episode, change),
        agreed=mean(grid.episode, agreed),
    )


def _moved(actions: np.ndarray, by: np.ndarray) -> np.ndarray:
    return (actions + by).astype(np.float32)


def _ratio(error: np.ndarray, size: np.ndarray) -> float:
    return float(error.sum() / size.sum()) if size.any() else float("nan")
