"""Does Q know actions, or only states? The same state with other chunks (after RankQ, and others).

A policy that follows dQ/da can be no better than the critic's order of actions in one state. A
small TD error does not show it: V(s) alone explains most of Q(s, a).
"""

from dataclasses import dataclass

import numpy as np

from lwd.learner.diagnose.bootstrap import (
    Estimate,
    estimate,
    mean,
    root_mean_square,
    totals,
)
from lwd.learner.diagnose.grid import Grid
from lwd.learner.diagnose.trained import Trained
from lwd.models.fns import Inputs

NOISES = (0.1, 0.3, 1.0)
"""Standard deviations of what is added to a chunk, in normalised units."""
POLICY, REFERENCE, SHUFFLED = "policy", "reference", "shuffled"


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How often Q prefers the executed chunk to another one in the same state."""

    alternative: str
    task: str
    """Task, or `all`."""
    success: bool
    """Whether the states are those of successes or of failures."""
    episodes: int
    states: int
    wins: Estimate
    """P(Q(executed) > Q(alternative)); a tie is half a win."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviations of Q over the policy's chunks in one state, and over states."""

    task: str
    within: Estimate
    across: Estimate
    ratio: Estimate
    """within / across: what part of Q is about actions."""
    agreement: Estimate
    """Concordance of two heads about the chunks of one state: 2 E[ab] / (E[a^2] + E[b^2]) of their
    deviations. 1: they say the same; 0: what they say of actions is unrelated."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Q of the policy's chunks minus Q of the reference's from the same noise."""

    task: str
    mean: Estimate
    smallest: Estimate
    """By the head that sees least, state by state."""
    agreed: Estimate
    """Part of the states in which every head sees a gain."""


@dataclass(frozen=True, kw_only=True)
class Tilt:
    """How far the policy is from the reference, in normalised units (root mean square)."""

    endpoint: Estimate
    """Of chunks from the same noise."""
    velocity: Estimate
    """Of the velocity along the policy's path."""
    reference: Estimate
    """Spread of the reference's own chunks in one state: the scale of the other two."""
    log_ratio: Estimate
    """inv_temp times the spread of Q over the reference's chunks: Eq. 8's log density ratio."""


def alternatives(
    trained: Trained, grid: Grid, rng: np.random.Generator, *, samples: int
) -> dict[str, np.ndarray]:
    """Other chunks for every state by name, each [samples, states, horizon, action].

    `noise` differs in every number of the chunk, `shift` is one offset for all its ticks, which
    moves the arm; `shuffled` is from another episode of the task; `policy` and `reference` start
    from the same noise.
    """
    shape = (samples, *grid.action.shape)
    found = {}
    for size in NOISES:
        noise = rng.standard_normal(shape, np.float32)
        found[f"noise {size:g}"] = grid.action + size * noise
        offset = rng.standard_normal((*shape[:2], 1, shape[3]), np.float32)
        found[f"shift {size:g}"] = grid.action + size * offset
    found[SHUFFLED] = grid.action[np.stack([_elsewhere(grid, rng) for _ in range(samples)])]
    pairs = [_policy_and_reference(trained, grid.inputs, rng) for _ in range(samples)]
    found[POLICY], found[REFERENCE] = map(np.stack, zip(*pairs, strict=True))
    return found


def _policy_and_reference(
    trained: Trained, inputs: Inputs, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A chunk of each in every state, from the same noise."""
    noise = trained.noise(rng, len(inputs.state))
    return trained.sample(inputs, noise), trained.sample_reference(inputs, noise)


def scores(trained: Trained, inputs: Inputs, others: np.ndarray) -> np.ndarray:
    """[critics, samples, states] Q by head of chunks [samples, states, horizon, action]."""
    return np.stack([trained.heads(inputs, one) for one in others], axis=1)


def rankings(grid: Grid, executed: np.ndarray, others: dict[str, np.ndarray]) -> list[Ranking]:
    """Wins of `executed` [states] over `others` [samples, states], by outcome and task.

    Chunks that the episode's end cut short are left out: their padding gives the outcome away.
    """
    found = []
    for name, q in others.items():
        wins = ((executed > q) + 0.5 * (executed == q)).mean(0)
        for success in (True, False):
            for task, member in grid.groups():
                rows = member & grid.whole & (grid.success == success)
                if rows.any():
                    ranking = Ranking(
                        alternative=name,
                        task=task,
                        success=success,
                        episodes=len(np.unique(grid.episode[rows])),
                        states=int(rows.sum()),
                        wins=mean(grid.episode[rows], wins[rows]),
                    )
                    found.append(ranking)
    return found


def spreads(grid: Grid, heads: np.ndarray, q: np.ndarray) -> list[Spread]:
    """Of Q over the policy's chunks: `heads` [critics, samples, states], `q` [samples, states].

    The spread across states is that of their mean Q, less what the mean of a few samples adds.
    """
    samples, variance, centre = len(q), q.var(0, ddof=1), q.mean(0)
    together, apart = _agreement(heads)
    found = []
    for task, rows in grid.groups():
        columns = (np.ones(len(grid)), variance, centre, centre**2, together, apart)
        sums = totals(grid.episode[rows], *(column[rows] for column in columns))

        def within(m: np.ndarray) -> np.ndarray:
            return np.sqrt(m[..., 1] / m[..., 0])

        def across(m: np.ndarray) -> np.ndarray:
            states, variances, total, squares = (m[..., k] for k in range(4))
            between = squares / states - (total / states) ** 2
            return np.sqrt(np.maximum(between - variances / states / samples, 0.0))

        spread = Spread(
            task=task,
            within=estimate(sums, within),
            across=estimate(sums, across),
            ratio=estimate(sums, lambda m: within(m) / across(m)),
            agreement=estimate(sums, lambda m: m[..., 4] / m[..., 5]),
        )
        found.append(spread)
    return found


def gains(grid: Grid, policy: np.ndarray, reference: np.ndarray, q: np.ndarray) -> list[Gain]:
    """From `policy` and `reference` [critics, samples, states] by head, from the same noise;
    `q` [samples, states] is the difference of the Q that the policy follows."""
    by_head = (policy - reference).mean(1)
    smallest, agreed = by_head.min(0), (by_head > 0).all(0).astype(float)
    return [
        Gain(
            task=task,
            mean=mean(grid.episode[rows], q.mean(0)[rows]),
            smallest=mean(grid.episode[rows], smallest[rows]),
            agreed=mean(grid.episode[rows], agreed[rows]),
        )
        for task, rows in grid.groups()
    ]


def tilt(
    trained: Trained,
    grid: Grid,
    chunks_of: dict[str, np.ndarray],
    q_reference: np.ndarray,
    rng: np.random.Generator,
) -> Tilt:
    """Of the policy against the reference; `q_reference` is [samples, states]. `velocity` compares
    their flows, whatever a robot does beside its flow."""
    policy, reference = chunks_of[POLICY], chunks_of[REFERENCE]
    # Points of the policy's own straight paths: enough for a root mean square.
    noise = rng.standard_normal(policy[0].shape, np.float32)
    times = rng.uniform(size=len(grid)).astype(np.float32)
    w = times[:, None, None]
    points = (1 - w) * noise + w * policy[0]
    ours, theirs = (
        trained.velocity(params, grid.inputs, points, times)
        for params in (trained.networks.policy, trained.networks.beta)
    )
    squares = {
        "endpoint": np.square(policy - reference).mean((0, 2, 3)),
        "velocity": np.square(ours - theirs).mean((1, 2)),
        "reference": reference.var(0, ddof=1).mean((1, 2)),
        "log_ratio": trained.stage.qam.inv_temp**2 * q_reference.var(0, ddof=1),
    }
    return Tilt(**{name: root_mean_square(grid.episode, x) for name, x in squares.items()})


def _elsewhere(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """[states] for each state one of another episode of its task, of any if there is no other."""
    found = np.empty(len(grid), np.int64)
    for task in sorted(set(grid.task)):
        for number in np.unique(grid.episode[grid.task == task]):
            mine = grid.episode == number
            pool = np.flatnonzero((grid.task == task) & ~mine & grid.whole)
            if not len(pool):
                pool = np.flatnonzero(~mine)
            found[mine] = rng.choice(pool, mine.sum())
    return found


def _agreement(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[states] products of the deviations of two heads, and of their sizes, summed over pairs."""
    deviation = heads - heads.mean(1, keepdims=True)
    together, apart = np.zeros(heads.shape[2]), np.zeros(heads.shape[2])
    for first in range(len(heads)):
        for second in range(first):
            a, b = deviation[first], deviation[second]
            together += (a * b).sum(0)
            apart += (np.square(a).sum(0) + np.square(b).sum(0)) / 2
    return together, apart
