"""FQL (Park, Li and Levine 2025): as `lwd`, with a one-step policy in the place of QAM.

The flow stays what SFT made it. A network of the same kind maps noise to a chunk in one evaluation,
close to where the flow carries the noise, and climbs Q; robots act with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax import Array

from lwd.algorithms.fql import one_step_loss
from lwd.config import COMPACT, ControlConfig, LearnerConfig, StageConfig
from lwd.config.require import require_positive
from lwd.learner.actors import Actor, box, copy_of_policy, learn, train_extra
from lwd.learner.heads import worth
from lwd.learner.loss import Loss, Metrics
from lwd.learner.recipes import lwd
from lwd.learner.state import Nets, Networks, Optimisers, Rates, TrainState, Transitions
from lwd.models.acts import Acting, one_step, velocity
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Params


@dataclass(frozen=True, kw_only=True)
class OneStepStage(StageConfig):
    """A stage that trains a one-step policy."""

    alpha: float = 3.0
    """Weight of the distance to the flow, in units of Q. A chunk of d numbers moves by
    d / (2 alpha) times the gradient of Q."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "alpha")


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """Data, critics and budget of `lwd`; `alpha` moves a chunk about as far as its `inv_temp`."""
    return lwd.with_stages("fql", OneStepStage, lwd.settings(control, seed=seed))


def distil(flow: Callable[[TrainState], Params]) -> Actor:
    """One step of the one-step policy towards `flow` and up Q."""

    def follow(
        state: TrainState,
        batch: Transitions,
        key: Array,
        rates: Rates,
        nets: Nets,
        optimisers: Optimisers,
        stage: StageConfig,
    ) -> tuple[TrainState, Metrics]:
        assert isinstance(stage, OneStepStage)
        noise = jax.random.normal(key, batch.action.shape)
        q = worth(nets.critic, state, batch.inputs, stage.qam)

        def loss(params: Params) -> tuple[Array, Metrics]:
            return one_step_loss(
                one_step(nets.policy, params, batch.inputs),
                velocity(nets.policy, flow(state), batch.inputs),
                q,
                noise,
                batch.action_mask,
                steps=FLOW_STEPS,
                alpha=stage.alpha,
                bound=box(stage),
            )

        return train_extra("one_step", loss, state, optimisers, rates.policy)

    return follow


def start(state: TrainState) -> TrainState:
    """The reference is the supervised policy; the one-step policy starts from its parameters."""
    return copy_of_policy(lwd.fix_reference(state), "one_step")


def nets_of_one_step(key: Array, nets: Nets) -> dict[str, Params]:
    """A network of the policy's kind."""
    return {"one_step": nets.policy.init(key)}


def acting(networks: Networks, stage: StageConfig) -> Acting:
    """Robots act with the one-step policy."""
    assert isinstance(stage, OneStepStage)
    nets = {"one_step": networks.extra["one_step"]}
    return Acting(act="one_step", extra=nets, settings={"bound": box(stage)})


RL = Loss(learn(distil(lambda state: state.beta)), extra=nets_of_one_step, acting=acting)
LOSSES = lwd.with_rl(RL, start)
