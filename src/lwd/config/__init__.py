"""Every knob of the system: frozen dataclasses with the paper's values as defaults.

Functions take values, not these objects; only processes (learner, actor, services, cli) see them.
Section numbers point to the LWD paper (arXiv 2605.00416).
"""

from lwd.config.learning import (
    STAGES,
    DivlConfig,
    LearnerConfig,
    OptimiserConfig,
    QamConfig,
    StageConfig,
)
from lwd.config.processes import (
    ActorConfig,
    ChaosConfig,
    DemoConfig,
    DiagnosisConfig,
    EdgeConfig,
    HostConfig,
    PlaneConfig,
)
from lwd.config.robots import (
    BLIND,
    COMPACT,
    CONTROL,
    FULL,
    ControlConfig,
    SightConfig,
    StateLayout,
    control,
)

__all__ = [
    "BLIND",
    "COMPACT",
    "CONTROL",
    "FULL",
    "STAGES",
    "ActorConfig",
    "ChaosConfig",
    "ControlConfig",
    "DemoConfig",
    "DiagnosisConfig",
    "DivlConfig",
    "EdgeConfig",
    "HostConfig",
    "LearnerConfig",
    "OptimiserConfig",
    "PlaneConfig",
    "QamConfig",
    "SightConfig",
    "StageConfig",
    "StateLayout",
    "control",
]
