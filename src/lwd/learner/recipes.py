"""Settings of Algorithm 1 that are known to work, by model preset."""

from lwd.config import (
    COMPACT,
    ControlConfig,
    DivlConfig,
    LearnerConfig,
    OptimiserConfig,
    QamConfig,
    StageConfig,
)


def state(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """Policy and critic on state vectors; minutes on two cores.

    The networks start from nothing, so rates are higher than the paper's, which fine-tunes a
    pretrained VLA, and targets move faster. Q is at most 1 and a chunk changes it by a few
    hundredths: `inv_temp` brings its gradient to the scale of normalised actions.
    """
    rl = OptimiserConfig(policy_lr=3e-4, critic_lr=5e-4, ema_rate=0.02)
    qam = QamConfig(steps=4, inv_temp=60.0)
    return LearnerConfig(
        preset="state",
        control=control,
        seed=seed,
        sft=StageConfig(
            updates=2500,
            mixture={"demo": 1.0},
            episodes=120,
            optimiser=OptimiserConfig(policy_lr=2e-3),
        ),
        offline=StageConfig(
            updates=1000,
            policy_every=4,
            mixture={"offline": 1.0},
            episodes=280,
            divl=DivlConfig(tau_base=0.6, n_step=3),
            qam=qam,
            optimiser=rl,
        ),
        online=StageConfig(
            updates=1000,
            policy_every=4,
            mixture={"offline": 1.0, "online": 1.0},
            updates_per_episode=8.0,
            divl=DivlConfig(tau_base=0.9, n_step=1),
            qam=qam,
            optimiser=rl,
        ),
    )
