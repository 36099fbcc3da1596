"""HG-DAgger, the interactive imitation baseline of -C1: the fleet's successes and corrections.

From the same SFT as `lwd`, flow matching goes on on demonstrations and on what deployment shows to
be worth imitating, with the batch, the updates and the episodes of `lwd`'s online stage.
"""

from dataclasses import replace

from lwd.config import COMPACT, ControlConfig, LearnerConfig
from lwd.learner.recipes import lwd


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """Half demonstrations, half the online episodes that succeeded and all interventions.

    The paper's text speaks of successful roll-outs, its appendix of interventions with autonomous
    roll-outs: weigh `success` or `human` instead of `corrected` for either alone.
    """
    base = lwd.settings(control, seed=seed)
    mixture = {"demo": 1.0, "corrected": 1.0, "success": 0.0, "human": 0.0}
    online = replace(base.stage("online"), mixture=mixture, policy_every=1)
    return replace(base, recipe="hg_dagger", stages={"sft": base.stage("sft"), "online": online})


LOSSES = {"sft": lwd.SUPERVISED, "online": lwd.SUPERVISED}
