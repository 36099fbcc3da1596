"""What a stage learns by: the interface between Algorithm 1 and the recipes."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from jax import Array

from lwd.config import StageConfig
from lwd.learner.state import Nets, Optimisers, Rates, TrainState, Transitions
from lwd.models.fns import Params

Metrics = dict[str, Array]


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
