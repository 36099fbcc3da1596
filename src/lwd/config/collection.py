"""What `lwd sim collect` is asked for."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from lwd.config.require import require, require_name, require_not_negative
from lwd.config.robots import BLIND, SightConfig

Made = Literal["demo", "rollout", "play"]
"""Kinds of episodes in an offline buffer."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """An offline buffer with the composition of Table IV. The same command goes on after a stop or
    a kill; only `policies`, `tasks`, `kinds`, `workers` and `effort` may differ then."""

    root: Path = Path("runs/demo")
    """Folder of the run; episodes go to ROOT/spool, journal, table and picture to ROOT/collect."""
    scale: float = 0.01
    """Part of the paper's 652.5 hours to make, the same for every cell of the table."""
    tasks: tuple[str, ...] = ()
    """Tasks to make; all of the table if none is named."""
    kinds: tuple[Made, ...] = ("demo", "rollout", "play")
    """What to make; rollouts need policies."""
    policies: tuple[Path, ...] = ()
    """Published weights (safetensors) of earlier checkpoints, which take turns in the rollouts."""
    seed: int = 0
    """Decides every scene and every draw, and the ids of the episodes: two buffers for one catalog
    need two seeds."""
    rate: Literal["compact", "full"] = "compact"
    """Control preset: 10 Hz with chunks of 10 ticks, or 30 Hz with 30."""
    robot: str = "collector"
    """Name under which the episodes are recorded and spooled."""
    sight: Annotated[SightConfig, arg(name="")] = BLIND
    """What the robot's cameras keep."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    effort: float = 4.0
    """Robot time to spend on a task's demonstrations, rollouts or play, as a multiple of what is
    wanted, before a cell counts as one that cannot be filled."""

    def __post_init__(self) -> None:
        positive = 0 < self.scale < math.inf
        require(positive, f"scale is {self.scale}; it must be positive, 1 for the paper's hours.")
        require_name("robot", self.robot)
        require_not_negative(self, "seed")
        require(self.workers >= 1, f"workers is {self.workers}; at least 1 is needed.")
        require(self.effort >= 1, f"effort is {self.effort}; at least 1 is needed.")
