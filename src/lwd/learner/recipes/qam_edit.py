"""QAM-EDIT (Li and Levine 2026): `lwd`, and a small Gaussian edit of what its tilted flow makes.

Adjoint matching tilts the flow as in `lwd`. A soft actor-critic adds at most `scale` to every
number of the flow's chunk; robots act with the edited chunk. With `inv_temp` 0 the flow stays the
supervised one, and this is EXPO (Dong et al. 2025) with values that need no policy.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from lwd.algorithms.edit import edit_loss
from lwd.algorithms.flow import euler_sample
from lwd.config import COMPACT, ControlConfig, LearnerConfig, StageConfig
from lwd.config.require import require_positive
from lwd.learner.actors import SoftStage, box, learn, train_extra
from lwd.learner.heads import worth
from lwd.learner.loss import Loss, Metrics
from lwd.learner.recipes import lwd
from lwd.learner.state import Nets, Networks, Optimisers, Rates, TrainState, Transitions
from lwd.learner.update import extract_policy
from lwd.models.acts import Acting, gaussian, velocity
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Params


@dataclass(frozen=True, kw_only=True)
class EditStage(SoftStage):
    """A stage that trains an editor."""

    scale: float = 0.1
    """Largest change of a normalised action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "scale")


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """`lwd` with the scale that the authors have for most tasks."""
    return lwd.with_stages("qam_edit", EditStage, lwd.settings(control, seed=seed))


def edit(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """One step of the editor of the flow as it is now, and of its entropy's coefficient."""
    assert isinstance(stage, EditStage)
    flow_key, edit_key = jax.random.split(key)
    noise = jax.random.normal(flow_key, batch.action.shape)
    flown = euler_sample(velocity(nets.policy, state.policy, batch.inputs), noise, FLOW_STEPS)
    flown = jnp.clip(flown, -box(stage), box(stage))
    q = worth(nets.critic, state, batch.inputs, stage.qam)

    def loss(params: Params) -> tuple[Array, Metrics]:
        return edit_loss(
            gaussian(nets.policy, params["net"], batch.inputs),
            params["log_coefficient"] + math.log(stage.coefficient),
            q,
            flown,
            jax.random.normal(edit_key, batch.action.shape),
            batch.action_mask,
            scale=stage.scale,
            bound=box(stage),
            target_entropy=stage.target_entropy,
        )

    return train_extra("editor", loss, state, optimisers, rates.policy)


def editor(key: Array, nets: Nets) -> dict[str, Params]:
    """A network of the policy's kind, and how far the coefficient is from its start."""
    return {"editor": {"net": nets.policy.init(key), "log_coefficient": jnp.zeros(())}}


def acting(networks: Networks, stage: StageConfig) -> Acting:
    """Robots edit what the flow makes."""
    assert isinstance(stage, EditStage)
    numbers = {"scale": stage.scale, "bound": box(stage)}
    return Acting(act="edited", extra={"editor": networks.extra["editor"]["net"]}, settings=numbers)


RL = Loss(learn(extract_policy, edit), extra=editor, acting=acting)
LOSSES = lwd.with_rl(RL)
