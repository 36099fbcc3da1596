"""What a stage learns by: the interface between Algorithm 1 and the recipes."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from jax import Array
from jax.sharding import Mesh

from lwd.config import LearnerConfig, StageConfig
from lwd.learner.state import Nets, Networks, Optimisers, Rates, TrainState, Transitions
from lwd.models.acts import Acting
from lwd.models.fns import Params
from lwd.models.inputs.preparation import Preparation
from lwd.replay.batch import Batch
from lwd.replay.reader import Reader

Metrics = dict[str, Array]

ROW_LOSS = "critic/loss_of_rows"
"""The only metric with an axis, [batch]: TD losses, for draws that adapt to them."""


@runtime_checkable
class Step(Protocol):
    """One update, pure and jitted by the learner: all of it or, if not finite, nothing."""

    __name__: str

    def __call__(
        self,
        state: TrainState,
        batch: Transitions,
        key: Array,
        rates: Rates,
        *,
        nets: Nets,
        optimisers: Optimisers,
        stage: StageConfig,
    ) -> tuple[TrainState, Metrics]: ...


class Data(NamedTuple):
    """What a loss may look at before its first batch: all of the bound snapshot."""

    config: LearnerConfig
    stage: StageConfig
    nets: Nets
    reader: Reader
    normaliser: Preparation
    mesh: Mesh


Relabel = Callable[[Batch], Batch]
"""Says more about the rows of a batch than the robots knew."""


HowToAct = Callable[[Networks, StageConfig], Acting]
"""What robots need of the networks, and how they act with it."""


def plainly(networks: Networks, stage: StageConfig) -> Acting:
    """A robot integrates the policy's flow."""
    return Acting()


def unchanged(state: TrainState) -> TrainState:
    """Start with the networks as they are."""
    return state


def no_nets(key: Array, nets: Nets) -> dict[str, Params]:
    """Policy, value and critics are all there is."""
    return {}


class Loss(NamedTuple):
    """How a stage changes the networks."""

    step: Callable[[StageConfig, int], Step]
    """Settings and number of an update to the update."""
    start: Callable[[TrainState], TrainState] = unchanged
    """What happens to the networks before the first update."""
    extra: Callable[[Array, Nets], dict[str, Params]] = no_nets
    """Key to the networks that only this loss has, kept in `TrainState.extra`."""
    prepare: Callable[[TrainState, Data], Relabel] | None = None
    """What is found out from all data at the start, and again after a restart; the stage then
    keeps the snapshot that it started with."""
    acting: HowToAct | None = plainly
    """How robots act with what was trained; None where no policy is, so that nothing is published.
    """
    learns_q: bool = True
    """Whether its updates train Q."""
