"""QAM-FQL (Li and Levine 2026): `lwd`, and a one-step policy distilled from its tilted flow.

Adjoint matching tilts the flow as in `lwd`. The one-step policy of `fql` follows that flow instead
of the supervised one, and climbs Q once more; robots act with it, in one evaluation.
"""

from dataclasses import replace

import jax
from jax import Array

from lwd.config import COMPACT, ControlConfig, LearnerConfig, StageConfig
from lwd.learner.actors import every_policy_update
from lwd.learner.loss import Loss, Metrics
from lwd.learner.recipes import fql, lwd
from lwd.learner.state import Nets, Optimisers, Rates, TrainState, Transitions
from lwd.learner.update import commit, extract_policy, learn_values


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """`lwd`, with a distance to the tilted flow that weighs ten times what it does in `fql`."""
    base = lwd.settings(control, seed=seed)
    rl = {
        name: fql.OneStepStage(**vars(base.stage(name)), alpha=30.0)
        for name in ("offline", "online")
    }
    return replace(base, recipe="qam_fql", stages=base.stages | rl)


def update(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    *,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """Algorithm 2, then the one-step policy from the flow that it has moved."""
    flow_key, actor_key = jax.random.split(key)
    valued, values = learn_values(state, batch, rates, nets.critic, optimisers, stage)
    tilted, flow = extract_policy(valued, batch, flow_key, rates, nets, optimisers, stage)
    new, actor = fql.distil(tilted, tilted.policy, batch, actor_key, rates, nets, optimisers, stage)
    return commit(state, new, values | flow | actor)


RL = Loss(every_policy_update(update), extra=fql.nets_of_one_step, acting=fql.acting)
LOSSES = {"sft": Loss(lwd.supervised), "offline": RL._replace(start=fql.start), "online": RL}
