"""DIVL one number at a time, in float64, straight from the equations."""

import math

import numpy as np


def two_hot(value: float, atoms: np.ndarray) -> np.ndarray:
    """C51 projection of one value."""
    last = len(atoms) - 1
    step = (atoms[-1] - atoms[0]) / last
    position = (min(max(value, atoms[0]), atoms[-1]) - atoms[0]) / step
    lower = min(math.floor(position), last - 1)
    mass = np.zeros(len(atoms))
    mass[lower] = 1 - (position - lower)
    mass[lower + 1] = position - lower
    return mass


def quantile_atom(probs: np.ndarray, atoms: np.ndarray, tau: float) -> float:
    """Eq. 23, with the last atom if rounding keeps the CDF below tau."""
    total = 0.0
    for mass, atom in zip(probs, atoms, strict=True):
        total += mass
        if total >= tau:
            return float(atom)
    return float(atoms[-1])


def quantile_interpolated(probs: np.ndarray, atoms: np.ndarray, tau: float) -> float:
    """Linear between edges of the atoms' masses; an edge moves towards the mean around it."""
    last = len(atoms) - 1
    step = (atoms[-1] - atoms[0]) / last
    edges = [atoms[0]]
    for i in range(-1, len(atoms)):
        middle = atoms[0] + step * (i + 1 / 2)
        near = [j for j in range(i - 2, i + 4) if 0 <= j <= last and probs[j] > 0]
        edge = middle
        if near:
            mass = probs[near] / probs[near].sum()
            place = (atoms[near] - middle) / step
            mean = mass @ place
            variance = mass @ (place - mean) ** 2
            kept = math.sqrt(max(variance - 1 / 4, 0) / (variance + 1 / 12))
            edge = middle + step * mean * (1 - kept)
        edges.append(max(edges[-1], min(max(edge, atoms[0]), atoms[-1])))
    edges = edges[1:]
    total = 0.0
    for i, mass in enumerate(probs):
        if total + mass >= tau:
            return float(edges[i] + (edges[i + 1] - edges[i]) * (tau - total) / mass)
        total += mass
    return float(edges[-1])


def normalised_entropy(probs: np.ndarray) -> float:
    """Eq. 24."""
    return -sum(p * math.log(p) for p in probs if p > 0) / math.log(len(probs))
