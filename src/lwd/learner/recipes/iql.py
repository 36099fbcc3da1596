"""IQL's scalar V in place of DIVL's distribution, all else as in `lwd`: the ablation of Table V.

The paper does not give its expectile; it is tau_base here, the same in every state.
"""

from dataclasses import replace

from lwd.config import COMPACT, ControlConfig, LearnerConfig
from lwd.learner.recipes import lwd
from lwd.learner.recipes.lwd import LOSSES as LOSSES


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """The settings of `lwd` with an expectile in every stage."""
    base = lwd.settings(control, seed=seed)
    stages = {
        name: replace(stage, divl=replace(stage.divl, value="expectile"))
        for name, stage in base.stages.items()
    }
    return replace(base, recipe="iql", stages=stages)
