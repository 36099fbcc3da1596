"""QAM-FQL (Li and Levine 2026): `lwd`, and a one-step policy distilled from its tilted flow.

Adjoint matching tilts the flow as in `lwd`. The one-step policy of `fql` follows that flow instead
of the supervised one, and climbs Q once more; robots act with it, in one evaluation.
"""

from lwd.config import COMPACT, ControlConfig, LearnerConfig
from lwd.learner.actors import learn
from lwd.learner.loss import Loss
from lwd.learner.recipes import fql, lwd
from lwd.learner.update import extract_policy


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """`lwd`, with a distance to the tilted flow that weighs ten times what it does in `fql`."""
    base = lwd.settings(control, seed=seed)
    return lwd.with_stages("qam_fql", fql.OneStepStage, base, alpha=30.0)


TILTED = fql.distil(lambda state: state.policy)
RL = Loss(learn(extract_policy, TILTED), extra=fql.nets_of_one_step, acting=fql.acting)
LOSSES = lwd.with_rl(RL, fql.start)
