"""DIVL one number at a time, in float64, straight from the equations."""

import math

import numpy as np

GRID = np.linspace(-0.1, 1.1, 201)
STEP = 0.006


def random_probs(seed: int, temperature: float) -> np.ndarray:
    """A distribution over 201 atoms: smooth if the temperature is low, ragged if it is high."""
    logits = np.random.default_rng(seed).normal(size=201).cumsum() * temperature
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


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


def hl_gauss(value: float, atoms: np.ndarray, sigma: float) -> np.ndarray:
    """Mass of a Gaussian around one value in a bin around each atom, renormalised."""
    step = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    clipped = min(max(value, atoms[0]), atoms[-1])

    def below(place: float) -> float:
        return math.erf((place - clipped) / (sigma * step * math.sqrt(2))) / 2

    mass = np.array([below(atom + step / 2) - below(atom - step / 2) for atom in atoms])
    return mass / mass.sum()


def quantile_atom(probs: np.ndarray, atoms: np.ndarray, tau: float) -> float:
    """Eq. 23, with the last atom if rounding keeps the CDF below tau."""
    total = 0.0
    for mass, atom in zip(probs, atoms, strict=True):
        total += mass
        if total >= tau:
            return float(atom)
    return float(atoms[-1])


def quantile_interpolated(
    probs: np.ndarray, atoms: np.ndarray, tau: float, sigma: float = 0.0
) -> float:
    """Linear between edges of the atoms' masses; an edge moves towards the mean around it."""
    edges = [edge(i, probs, atoms, sigma) for i in range(-1, len(atoms))]
    median = int(np.flatnonzero(atoms == quantile_atom(probs, atoms, 0.5))[0])
    for i in range(median - 1, -1, -1):
        edges[i] = min(edges[i], edges[i + 1])
    for i in range(median + 1, len(edges)):
        edges[i] = max(edges[i], edges[i - 1])
    total = 0.0
    for i, mass in enumerate(probs):
        if total + mass >= tau:
            return float(edges[i] + (edges[i + 1] - edges[i]) * (tau - total) / mass)
        total += mass
    return float(edges[-1])


def edge(i: int, probs: np.ndarray, atoms: np.ndarray, sigma: float) -> float:
    """Where the mass of atom i ends."""
    last, window = len(atoms) - 1, 3 + math.ceil(5 * sigma)
    step = (atoms[-1] - atoms[0]) / last
    own = sigma**2 + 1 / 12 if sigma else 1 / 4
    middle = atoms[0] + step * (i + 1 / 2)
    near = [j for j in range(i - window + 1, i + window + 1) if 0 <= j <= last and probs[j] > 0]
    place = middle
    if near:
        mass = probs[near] / probs[near].sum()
        mean = mass @ ((atoms[near] - middle) / step)
        variance = mass @ ((atoms[near] - middle) / step - mean) ** 2
        kept = math.sqrt(max(variance - own, 0) / (variance + 1 / 12))
        place = middle + step * mean * (1 - kept)
    return min(max(place, atoms[0]), atoms[-1])


def normalised_entropy(probs: np.ndarray) -> float:
    """Eq. 24."""
    return -sum(p * math.log(p) for p in probs if p > 0) / math.log(len(probs))
