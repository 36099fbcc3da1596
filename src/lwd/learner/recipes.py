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

    The networks start from nothing, so the policy's rates are higher than the paper's, which
    fine-tunes a pretrained VLA; the value learning is the paper's.
    """
    rl = OptimiserConfig(policy_lr=3e-4, critic_lr=5e-4)
    qam = QamConfig(steps=4, inv_temp=20.0)
    return LearnerConfig(
        preset="state",
        control=control,
        seed=seed,
        sft=StageConfig(
            updates=2000,
            mixture={"demo": 1.0},
            episodes=120,
            optimiser=OptimiserConfig(policy_lr=1e-3),
        ),
        offline=StageConfig(
            updates=800,
            mixture={"offline": 1.0},
            episodes=280,
            divl=DivlConfig(tau_base=0.6, n_step=10),
            qam=qam,
            optimiser=rl,
        ),
        online=StageConfig(
            updates=800,
            mixture={"offline": 1.0, "online": 1.0},
            updates_per_episode=8.0,
            divl=DivlConfig(tau_base=0.9, n_step=1),
            qam=qam,
            optimiser=rl,
        ),
    )
