"""A flow from N(0, 1) to a Gaussian or a mixture of Gaussians, and its tilt by a quadratic Q.

Q(a) = c . a - k / 2 |a|^2 turns N(m, s) into N((m / s + c) / P, 1 / P) with P = 1 / s + k, so both
the tilted distribution and its velocity are known.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Gaussian(NamedTuple):
    """N(mean, variance), one dimension."""

    mean: float
    variance: float

    def tilt(self, c: float, k: float) -> "Gaussian":
        precision = 1 / self.variance + k
        return Gaussian((self.mean / self.variance + c) / precision, 1 / precision)

    def affine(self, w):
        """Slope and offset of the velocity at flow time w."""
        total = (1 - w) ** 2 + w**2 * self.variance
        slope = (w * self.variance - (1 - w)) / total
        return slope, self.mean - slope * w * self.mean

    def velocity(self, a, w):
        """Velocity for chunks a [batch, horizon, action] and times w [batch]."""
        slope, offset = self.affine(w[:, None, None])
        return slope * a + offset


def euler_moments(affine, steps: int) -> tuple[float, float]:
    """Mean and variance of Euler samples of a velocity slope * a + offset, from N(0, 1)."""
    mean, scale = 0.0, 1.0
    for i in range(steps):
        slope, offset = affine(i / steps)
        mean = mean + (slope * mean + offset) / steps
        scale = scale * (1 + slope / steps)
    return float(mean), float(scale**2)


class Mixture(NamedTuple):
    """Isotropic Gaussians in d dimensions: weights [modes], means [modes, d], variances [modes]."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def tilt(self, c: np.ndarray, k: float) -> "Mixture":
        precision = 1 / self.variances + k
        means = (self.means / self.variances[:, None] + c[None]) / precision[:, None]
        variances = 1 / precision
        log_weights = (
            np.log(self.weights)
            + self.means.shape[1] / 2 * np.log(variances / self.variances)
            + ((means**2).sum(1) * precision - (self.means**2).sum(1) / self.variances) / 2
        )
        weights = np.exp(log_weights - log_weights.max())
        return Mixture(weights / weights.sum(), means, variances)

    def velocity(self, a, w):
        """Posterior-weighted velocity for chunks a [batch, 1, d] and times w [batch]."""
        flat, time = a[:, 0, :], w[:, None]
        logits, fields = [], []
        for weight, mean, variance in zip(*self, strict=True):
            total = (1 - time) ** 2 + time**2 * variance
            apart = flat - time * jnp.asarray(mean, jnp.float32)[None, :]
            distance = jnp.square(apart).sum(axis=1, keepdims=True)
            logits.append(
                jnp.log(weight) - flat.shape[1] / 2 * jnp.log(total) - distance / 2 / total
            )
            slope = (time * variance - (1 - time)) / total
            fields.append(jnp.asarray(mean, jnp.float32)[None, :] + slope * apart)
        posterior = jax.nn.softmax(jnp.concatenate(logits, axis=1), axis=1)
        mixed = sum(posterior[:, i : i + 1] * field for i, field in enumerate(fields))
        return mixed[:, None, :]

    def assign(self, samples: np.ndarray) -> np.ndarray:
        """Fraction of the samples [n, d] that is nearest to each mode."""
        distance = np.linalg.norm(samples[:, None] - self.means[None], axis=-1)
        return np.bincount(distance.argmin(1), minlength=len(self.weights)) / len(samples)
