"""DIVL with one quantile level for all states, all else as in `lwd`: the ablation of Table III."""

from dataclasses import replace

from lwd.config import COMPACT, ControlConfig, LearnerConfig
from lwd.learner.recipes import lwd
from lwd.learner.recipes.lwd import LOSSES as LOSSES


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """The settings of `lwd` with alpha = 0 in Eq. 18 and the level that its tau had on average in
    the paper's adaptive run."""
    base = lwd.settings(control, seed=seed)
    stages = {
        name: replace(stage, divl=replace(stage.divl, tau_base=0.52, alpha=0.0))
        for name, stage in base.stages.items()
    }
    return replace(base, recipe="constant_tau", stages=stages)
