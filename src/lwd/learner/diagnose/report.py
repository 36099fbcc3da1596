"""Everything that `lwd diagnose critic` measures, as one value that JSON can hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lwd.episode.types import Episode
from lwd.learner.diagnose import actions, calibration
from lwd.learner.diagnose.actions import POLICY, REFERENCE, Gain, Ranking, Spread, Tilt
from lwd.learner.diagnose.calibration import Reliability, Targets, ValueCurve
from lwd.learner.diagnose.grid import Grid, finished, grid
from lwd.learner.diagnose.slope import Slope, slope
from lwd.learner.diagnose.trained import Trained


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a critic is worth on the given episodes."""

    stage: str
    """Of the checkpoint."""
    update: int
    recipe: str
    act: str
    """How robots act with it; the policy's chunks are made so."""
    q: str
    """Which Q is meant everywhere: the one whose gradient the policy follows."""
    inv_temp: float
    episodes: int
    successes: int
    states: int
    samples: int
    """Chunks drawn for each state and alternative."""
    rankings: Sequence[Ranking]
    spreads: Sequence[Spread]
    gains: Sequence[Gain]
    tilt: Tilt
    slope: Slope
    reliability: Sequence[Reliability]
    curves: Sequence[ValueCurve]
    targets: Targets


def diagnose(
    trained: Trained, episodes: Sequence[Episode], *, samples: int = 8, seed: int = 0
) -> Diagnosis:
    """Measure a critic on episodes that it was not trained on.

    Every chunk that begins at a multiple of the horizon is looked at, `samples` alternatives for
    each kind. ConfigError if fewer than two episodes have finished.
    """
    episodes = finished(episodes)
    at, discount = _grid(trained, episodes), trained.control.discount()
    rng = np.random.default_rng(seed)
    others = actions.alternatives(trained, at, rng, samples=samples)
    heads = {name: actions.scores(trained, at.inputs, found) for name, found in others.items()}
    q = {name: trained.reduce(found) for name, found in heads.items()}
    by_head = trained.heads(at.inputs, at.action)
    executed = trained.reduce(by_head)
    values, ahead = trained.values(at.inputs), trained.values(at.next_inputs)
    predictions = {"V mean": values.mean, "V at tau": values.quantile, "Q": executed}
    if len(by_head) > 1:
        predictions["least Q"] = by_head.min(0)
    config = trained.stage.qam
    return Diagnosis(
        stage=trained.at.stage,
        update=trained.at.update,
        recipe=trained.config.recipe,
        act=trained.acting.act,
        q=config.critic_gradient,
        inv_temp=config.inv_temp,
        episodes=len(episodes),
        successes=len(np.unique(at.episode[at.success])),
        states=len(at),
        samples=samples,
        rankings=actions.rankings(at, executed, q),
        spreads=actions.spreads(at, heads[POLICY], q[POLICY]),
        gains=actions.gains(at, heads[POLICY], heads[REFERENCE], q[POLICY] - q[REFERENCE]),
        tilt=actions.tilt(trained, at, others, q[REFERENCE], rng),
        slope=slope(trained, at, others[POLICY][0], rng),
        reliability=calibration.reliability(at, predictions),
        curves=calibration.value_curves(trained, episodes, discount=discount),
        targets=calibration.targets(at, ahead.quantile),
    )


def as_json(value: Any) -> Any:
    """A dataclass, tuple or number as JSON has them; what is not finite becomes null."""
    if hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _grid(trained: Trained, episodes: Sequence[Episode]) -> Grid:
    return grid(
        episodes,
        trained.normaliser,
        horizon=trained.control.horizon,
        discount=trained.control.discount(),
        n_step=trained.stage.divl.n_step,
        cameras=trained.cameras,
        bootstrap_timeouts=trained.config.bootstrap_timeouts,
    )
