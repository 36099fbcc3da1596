"""Adjoint matching one step at a time, in float64: the formulas, not the coefficients.

`official` follows `adj_matching` of the authors' code (github.com/ColinQiyangLi/qam, agents/qam.py)
line by line: same roll-out, same mixed times in the adjoint, same weights. Velocities are functions
(a [batch, d], w) -> [batch, d]; `jacobian` is that of the reference, [batch, d, d].
"""

import numpy as np


def official(velocity, reference, jacobian, critic_gradient, noises, inv_temp):
    """Loss of the Euler scheme: mean over the batch, sums over steps and dimensions.

    `noises` [steps + 1, batch, d]: the start and the noise of each step.
    """
    steps = len(noises) - 1
    h = 1 / steps
    path = [noises[0]]
    for i in range(steps - 1):
        w, a = i * h, path[-1]
        sigma = np.sqrt(2 * (1 - w + h) / (w + h))
        drift = 2 * velocity(a, w) - a / (w + h)
        path.append(a + h * drift + np.sqrt(h) * sigma * noises[i + 1])
    endpoint = path[-1] + h * reference(path[-1], 1 - h)

    g = -inv_temp * critic_gradient(endpoint)
    identity = np.eye(endpoint.shape[1])
    loss = 0.0
    for i in reversed(range(steps)):
        w, a = i * h, path[i]
        drift_jacobian = 2 * jacobian(a, w + h) - identity / (w + h)
        g = g + h * np.einsum("bij,bi->bj", drift_jacobian, g)
        sigma = np.sqrt(2 * (1 - w + h) / (w + h))
        residual = 2 / sigma * (velocity(a, w) - reference(a, w)) + sigma * g
        loss += (residual**2).sum(axis=1).mean()
    return loss


def bridge(velocity, reference, jacobian, critic_gradient, noises, inv_temp):
    """Loss of the bridge: mean over batch, steps and dimensions."""
    steps = len(noises) - 1
    h = 1 / steps

    def mean_step(a, w, endpoint):
        """Next state without noise, from the predicted endpoint, and the scale of its noise."""
        after = w + h
        r = ((1 - after) * w / ((1 - w) * after)) ** 2
        kept = (1 - after) ** 2 * w / ((1 - w) ** 2 * after)
        return after * (1 - r) * endpoint + kept * a, (1 - after) * np.sqrt(1 - r)

    path = [noises[0]]
    for i in range(steps):
        w, a = i * h, path[-1]
        middle, scale = mean_step(a, w, a + (1 - w) * velocity(a, w))
        path.append(middle + scale * noises[i + 1])

    later = -inv_temp * critic_gradient(path[-1])
    identity = np.eye(later.shape[1])
    loss = 0.0
    for i in reversed(range(steps)):
        w, a = i * h, path[i]
        through_endpoint = identity + (1 - w) * jacobian(a, w)
        columns = mean_step(identity[None], w, through_endpoint)[0]
        g = np.einsum("bij,bi->bj", columns, later)
        change = -((1 - h) ** 2) / h * later if i == 0 else -(1 - w) / w * g
        residual = velocity(a, w) - reference(a, w) - change
        loss += (residual**2).mean() / steps
        later = g
    return loss
