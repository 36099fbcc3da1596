"""Is the action that Q prefers the better one? The simulator tells: same state, several chunks.

A state is saved, a chunk of the policy is executed from it, the policy goes on to the end, several
times; then the next chunk. What Q says of the chunks is compared with what came of them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lwd.actor.policy import Policy
from lwd.actor.robot import Status
from lwd.eval.evaluate import Starts
from lwd.learner.diagnose.bootstrap import Estimate, correlation, estimate, totals
from lwd.learner.diagnose.trained import Trained
from lwd.models.fns import Inputs
from lwd.sim.robot import Moment, SimRobot

log = logging.getLogger(__name__)

SHIFT = 1.0
"""Standard deviation of the offset of a shifted chunk, normalised units."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is simulated: states x chunks x continuations episodes to their end."""

    states: int = 2
    """States of each episode."""
    chunks: int = 8
    """Chunks in each state: half of the policy, half of these moved by one offset."""
    continuations: int = 4
    """Episodes after each chunk; the same noise after every chunk of a state."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Q against outcomes among the chunks of one state."""

    chunks: str
    """`policy`, or `policy, half with offsets`."""
    states: int
    decided: int
    """States in which the chunks' mean returns differ at all."""
    accuracy: Estimate
    """P(Q prefers the chunk that turned out better), over pairs that differ; chance is 0.5."""
    correlation: Estimate
    """Rank correlation of Q with mean returns inside a state, averaged over decided states."""
    repeatability: Estimate
    """The same between the outcomes of two halves of the continuations: near 0 where so few do
    not show which chunk is better, and then not even a perfect Q could agree with them."""


@dataclass(frozen=True, kw_only=True)
class TrueRanking:
    """What the simulator says of Q."""

    continuations: int
    """Episodes that were simulated to their end."""
    across: Estimate
    """Correlation over states of mean Q with mean return: how well Q ranks states."""
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One state: what Q said of its chunks and what came of them."""

    episode: int
    q: np.ndarray
    """[chunks]."""
    returns: np.ndarray
    """[chunks, continuations] discounted from the state on."""


def try_chunks(
    trained: Trained,
    policy: Policy,
    starts: Starts,
    effort: Effort,
    *,
    robot: Callable[[str], SimRobot],
) -> list[Trial]:
    """Save states of episodes of `policy` and execute several chunks from each."""
    robots = {task: robot(task) for task in starts.tasks}
    rng, trials = np.random.default_rng(starts.seed), []
    scenes = starts.scenes()
    for number, (task, seed) in enumerate(scenes):
        episode = _Episode(robots[task], policy, seed)
        moments = episode.moments()
        chosen = rng.choice(len(moments), min(effort.states, len(moments)), replace=False)
        for index in sorted(chosen):
            q, returns = episode.trial(trained, moments[index], effort, rng)
            trials.append(Trial(episode=number, q=q, returns=returns))
        log.info("ranked episode=%d of=%d task=%s", number + 1, len(scenes), task)
    return trials


def agreement(trials: Sequence[Trial]) -> TrueRanking:
    """Statistics of trials; intervals are over episodes."""
    half = len(trials[0].q) // 2
    groups = (("policy", slice(0, half)), ("policy, half with offsets", slice(None)))
    episode = np.array([trial.episode for trial in trials])
    q = np.array([trial.q[:half].mean() for trial in trials])
    returns = np.array([trial.returns[:half].mean() for trial in trials])
    return TrueRanking(
        continuations=sum(trial.returns.size for trial in trials),
        across=correlation(episode, q, returns),
        agreements=tuple(_agreement(name, episode, trials, part) for name, part in groups),
    )


def pairs(q: np.ndarray, returns: np.ndarray) -> tuple[float, float]:
    """Pairs of [chunks] that Q orders as `returns` [chunks] does, a tie of Q being half; all pairs
    whose returns differ."""
    better = returns[:, None] > returns[None]
    preferred = (q[:, None] > q[None]) + 0.5 * (q[:, None] == q[None])
    return float(preferred[better].sum()), float(better.sum())


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's, ties sharing their mean rank; NaN where one of the two is constant."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (x, y)]
    size = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float((ranks[0] * ranks[1]).sum() / size) if size else float("nan")


def _agreement(name: str, episode: np.ndarray, trials: Sequence[Trial], part: slice) -> Agreement:
    found = []
    for trial in trials:
        q, returns = trial.q[part], trial.returns[part]
        even, odd = returns[:, ::2].mean(1), returns[:, 1::2].mean(1)
        numbers = rank_correlation(q, returns.mean(1)), rank_correlation(even, odd)
        found.append([*pairs(q, returns.mean(1)), *numbers])
    table = np.array(found)
    known = np.isfinite(table)
    sums = totals(episode, *np.nan_to_num(table).T, *known.astype(float).T)
    return Agreement(
        chunks=name,
        states=len(trials),
        decided=int((table[:, 1] > 0).sum()),
        accuracy=estimate(sums, lambda m: m[..., 0] / m[..., 1]),
        correlation=estimate(sums, lambda m: m[..., 2] / m[..., 6]),
        repeatability=estimate(sums, lambda m: m[..., 3] / m[..., 7]),
    )


class _Episode:
    """An episode of a policy, and what else could have come of its states."""

    def __init__(self, robot: SimRobot, policy: Policy, seed: int) -> None:
        self._robot, self._policy = robot, policy
        self._task = robot.reset(seed)
        policy.reset(seed)

    def moments(self) -> list[Moment]:
        """Play it; every state at which the policy planned."""
        found = []
        while self._robot.status is Status.RUNNING:
            found.append(self._robot.save())
            self._robot.apply(self._plan())
        return found

    def trial(
        self, trained: Trained, moment: Moment, effort: Effort, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Q [chunks] and returns [chunks, continuations] of chunks executed from one state."""
        self._robot.restore(moment)
        seen = self._robot.observe()
        state = seen.state[None].repeat(effort.chunks, axis=0)
        images = {name: [image] * effort.chunks for name, image in seen.images.items()}
        said = [self._task.instruction] * effort.chunks
        inputs = Inputs(*trained.normaliser.observe(state, images, said))  # pyright: ignore
        noise = trained.noise(rng, effort.chunks)
        offset = SHIFT * rng.standard_normal((effort.chunks, 1, noise.shape[-1]), np.float32)
        offset[: effort.chunks // 2] = 0.0
        chunks = trained.sample(inputs, noise) + offset
        seeds = rng.integers(1 << 31, size=effort.continuations).tolist()
        commands = trained.normaliser.restore(state, chunks)
        ticks = np.array([[self._outcome(moment, c, seed) for seed in seeds] for c in commands])
        returns = np.where(ticks > 0, trained.control.discount() ** (ticks - 1.0), 0.0)
        return trained.reduce(trained.heads(inputs, chunks)), returns

    def _outcome(self, moment: Moment, command: np.ndarray, seed: int) -> int:
        """Ticks from the moment to success when the policy goes on after `command`; 0 without."""
        self._robot.restore(moment)
        self._policy.reset(seed)
        ticks = len(self._robot.apply(command))
        while self._robot.status is Status.RUNNING:
            ticks += len(self._robot.apply(self._plan()))
        return ticks if self._robot.status is Status.SUCCESS else 0

    def _plan(self) -> np.ndarray:
        return self._policy.chunk(self._robot.observe(), self._task.instruction)


def _ranks(values: np.ndarray) -> np.ndarray:
    """[n] ranks from 0, ties sharing their mean."""
    below = (values[:, None] > values[None]).sum(1)
    return below + ((values[:, None] == values[None]).sum(1) - 1) / 2
