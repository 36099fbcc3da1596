"""Policy and critic by name."""

from lwd.config import ControlConfig, StateLayout
from lwd.errors import unknown
from lwd.models import state
from lwd.models.fns import CriticFns, PolicyFns

ACTION = 16
"""Action dimensions: 2 x (7 joint targets, gripper opening)."""
PRESETS = ("state",)


def build(name: str, control: ControlConfig, *, atoms: int = 201) -> tuple[PolicyFns, CriticFns]:
    """Functions of preset `name` for chunks of `control.horizon`; ConfigError for another name."""
    if name not in PRESETS:
        raise unknown("model preset", name, PRESETS)
    layout, horizon = StateLayout(), control.horizon
    return (
        state.policy(layout, horizon=horizon, action=ACTION),
        state.critic(layout, horizon=horizon, action=ACTION, atoms=atoms),
    )
