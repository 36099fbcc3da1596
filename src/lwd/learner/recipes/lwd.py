"""Learning while deploying: SFT, offline RL, online RL (Algorithm 1), with DIVL and QAM."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from lwd.config import (
    COMPACT,
    ControlConfig,
    DivlConfig,
    LearnerConfig,
    OptimiserConfig,
    QamConfig,
    StageConfig,
)
from lwd.learner.actors import every_few
from lwd.learner.loss import Loss, Step
from lwd.learner.state import TrainState
from lwd.learner.update import sft_update, update


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """Policy and critic on state vectors; minutes on two cores.

    The networks start from nothing, so rates are higher than the paper's, which fine-tunes a
    pretrained VLA, and targets move faster. Q is at most 1 and a chunk changes it by a few
    hundredths: `inv_temp` brings its gradient to the scale of normalised actions. Online values are
    learned as offline: with the paper's tau_base of 0.9 they forget what fails.
    """
    rl = OptimiserConfig(policy_lr=3e-4, critic_lr=5e-4, ema_rate=0.02)
    divl = DivlConfig(tau_base=0.6, n_step=3)
    qam = QamConfig(steps=4, inv_temp=60.0)
    sft = StageConfig(
        updates=2000,
        mixture={"demo": 1.0},
        episodes=120,
        optimiser=OptimiserConfig(policy="muon", policy_lr=3e-3),
    )
    offline = StageConfig(
        updates=1000,
        policy_every=4,
        mixture={"offline": 1.0},
        episodes=280,
        divl=divl,
        qam=qam,
        optimiser=rl,
    )
    online = StageConfig(
        updates=1000,
        policy_every=4,
        mixture={"offline": 1.0, "online": 1.0},
        updates_per_episode=8.0,
        divl=divl,
        qam=qam,
        optimiser=rl,
        deployed=True,
    )
    stages = {"sft": sft, "offline": offline, "online": online}
    return LearnerConfig(recipe="lwd", stages=stages, control=control, seed=seed, publish_every=100)


def supervised(stage: StageConfig, number: int) -> Step:
    """Flow matching in every update."""
    return sft_update


SUPERVISED = Loss(supervised, learns_q=False)


def fix_reference(state: TrainState) -> TrainState:
    """The reference is the supervised policy (Algorithm 1, line 3), as far as it has an own one."""
    kept = jax.tree.map(
        lambda old, new: None if old is None else jnp.copy(new),
        state.reference, state.policy, is_leaf=lambda leaf: leaf is None,
    )  # fmt: skip
    return state._replace(reference=kept)


def with_rl(rl: Loss, start: Callable[[TrainState], TrainState] = fix_reference) -> dict[str, Loss]:
    """The three stages of Algorithm 1, with `rl` in the last two; `start` is what fixes the
    reference before them."""
    return {"sft": SUPERVISED, "offline": rl._replace(start=start), "online": rl}


def with_stages(
    recipe: str, stage: Callable[..., StageConfig], base: LearnerConfig, **changes: Any
) -> LearnerConfig:
    """`base` as another recipe, its two RL stages of the kind `stage`, with `changes`."""
    rl = {name: stage(**vars(base.stage(name)) | changes) for name in ("offline", "online")}
    return replace(base, recipe=recipe, stages=base.stages | rl)


LOSSES = with_rl(Loss(every_few(update)))
