"""Best of N: as `lwd`, without any policy learning after SFT.

V and Q learn as in `lwd`, or as in IQL with `divl.value` "expectile". Robots draw several chunks
from the supervised flow and act with the one that Q likes most, so they carry the critic.
"""

from dataclasses import dataclass

from lwd.config import COMPACT, ControlConfig, LearnerConfig, StageConfig
from lwd.errors import ConfigError
from lwd.learner.actors import box
from lwd.learner.heads import chosen, reduction
from lwd.learner.loss import Loss
from lwd.learner.recipes import lwd
from lwd.learner.state import Networks
from lwd.learner.update import critic_update
from lwd.models.acts import Acting


@dataclass(frozen=True, kw_only=True)
class BestStage(StageConfig):
    """A stage whose critic chooses among chunks of the supervised flow."""

    candidates: int = 32
    """Chunks to choose from, N."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise ConfigError(f"candidates is {self.candidates}; at least 1, which is no choice.")


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """Data, critics and budget of `lwd`."""
    return lwd.with_stages("best_of_n", BestStage, lwd.settings(control, seed=seed))


def acting(networks: Networks, stage: StageConfig) -> Acting:
    """Robots carry the heads that the stage extracts its policy from."""
    assert isinstance(stage, BestStage)
    reduce = reduction(stage.qam)
    words = {"candidates": stage.candidates, "reduce": reduce, "bound": box(stage)}
    critic = {"critic": chosen(networks, stage.qam)}
    return Acting(act="best_of_n", extra=critic, settings=words)


RL = Loss(lambda stage, number: critic_update, acting=acting)
LOSSES = lwd.with_rl(RL)
