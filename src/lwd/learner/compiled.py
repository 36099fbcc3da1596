"""The learner's pure functions jitted on a mesh, each compiled once in a process."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import jax
from jax import Array
from jax.sharding import Mesh

from lwd.config import LearnerConfig, OptimiserConfig, StageConfig
from lwd.learner.diagnose.probe import probe
from lwd.learner.loss import HowToAct, Metrics, Step, plainly
from lwd.learner.recipes import fresh
from lwd.learner.state import Nets, Rates, TrainState, Transitions, optimisers, start_stage
from lwd.models.sharding import everywhere, spread

Update = Callable[[TrainState, Transitions, Array, Rates], tuple[TrainState, Metrics]]
"""A jitted step with its settings."""


@cache
def compiled_init(config: LearnerConfig, over: Mesh) -> Callable[[Array], TrainState]:
    """Key to the state before the first update."""
    return jax.jit(lambda key: spread(fresh(config, key), over))


@cache
def compiled_start(
    start: Callable[[TrainState], TrainState],
    optimiser: OptimiserConfig,
    over: Mesh,
    wanted: Callable[[str], bool] | None,
) -> Callable[[TrainState], TrainState]:
    """What happens to the networks at the start of a stage, with optimisers that begin anew and
    remember only what is `wanted` of the policy."""
    chain = optimisers(optimiser)
    return jax.jit(lambda state: spread(start_stage(start(state), chain, wanted), over))


@cache
def compiled(step: Step, nets: Nets, static: StageConfig, over: Mesh) -> Update:
    """`step` with its settings, compiled at its first call and once in a process."""
    apply = partial(step, nets=nets, optimisers=optimisers(static.optimiser), stage=static)

    def update(
        state: TrainState, batch: Transitions, key: Array, rates: Rates
    ) -> tuple[TrainState, Metrics]:
        new, metrics = apply(state, batch, key, rates)
        return spread(new, over), jax.lax.with_sharding_constraint(metrics, everywhere(over))

    return jax.jit(update, donate_argnums=0)


@cache
def compiled_probe(
    nets: Nets, static: StageConfig, acting: HowToAct | None, over: Mesh
) -> Callable[..., Metrics]:
    """The look at the critic, compiled like an update."""
    look = partial(probe, nets=nets, stage=static, acting=acting or plainly)
    return jax.jit(look, out_shardings=everywhere(over))


def without_rates(stage: StageConfig) -> StageConfig:
    """What an update is compiled for: stages that differ only in `Rates` or in data share it."""
    peaks = replace(stage.optimiser, policy_lr=0.0, critic_lr=0.0, warmup=0)
    divl = replace(stage.divl, tau_base=0.5, n_step=1)
    return replace(
        stage,
        updates=0,
        mixture={"demo": 1.0},
        task_balanced=False,
        loss_adaptive=float(stage.loss_adaptive > 0),
        episodes=0,
        fresh=0,
        updates_per_episode=math.inf,
        policy_every=1,
        divl=divl,
        optimiser=peaks,
        deployed=False,
    )
