"""Who tells a robot what to do, besides the fleet's own policy."""

from dataclasses import dataclass
from typing import Literal

from lwd.config.require import require, require_not_negative

PAGE = "page"
"""The device of a robot that nobody gave another."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Another's policy server, planning while the robot moves, and a person's device."""

    policy_url: str = ""
    """ws://HOST:PORT of a policy server to act with, openpi's or `lwd serve`; empty for the fleet's
    weights. Its API key is in the environment's LWD_POLICY_KEY."""
    layout: Literal["lwd", "libero", "droid", "aloha"] = "lwd"
    """Keys of the observations that this server wants."""
    lanes: int = 0
    """Chunks that are planned at a time while the robot moves; 0 plans one while it waits."""
    blend: int = 5
    """Ticks over which a chunk that was planned meanwhile takes over."""
    device: str = PAGE
    """What a person takes over with: `page`, the fleet's page, which leaves the simulated operator
    of `--intervene` in place; or instead of both `keyboard`, `gamepad`, `gamepad:/dev/input/js1`,
    `expert`, or another plugin. Empty for nobody but the simulated operator."""

    def __post_init__(self) -> None:
        require_not_negative(self, "lanes", "blend")
        require(
            bool(self.policy_url) or self.lanes <= 1,
            f"lanes is {self.lanes}; a policy on this machine has one, only a server has more.",
        )
