"""What a LeRobotDataset becomes here, and what of the data set becomes one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lwd.config.require import require, require_not_negative


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """How recordings in LeRobot's format become episodes."""

    state: tuple[str, ...] = ()
    """Features that make up the state, in this order; empty takes `observation.state` or `state`,
    or else every vector below `observation.`."""
    action: str = ""
    """Feature of the action; empty takes `action` or `actions`."""
    cameras: tuple[str, ...] = ()
    """Features of the cameras to take; empty takes all of them."""
    image_every: int = 1
    """Keep every so many pictures; the chunk length keeps one a chunk, as robots do."""
    jpeg_quality: int = 90
    """Of pictures that are not JPEG already."""
    kind: Literal["auto", "demo", "rollout", "play", "online"] = "auto"
    """What the episodes are; `auto` believes our own column, calls what has interventions a
    rollout, a success a demonstration and a failure play."""
    unlabelled: Literal["success", "failure", "interrupted", "skip"] = "success"
    """Outcome of an episode that says nothing about its success."""
    labels: Path | None = None
    """JSON lines `{"episode_index": 3, "success": true}` for episodes that do not say."""
    task: str = ""
    """Plain name of the task; empty makes one of each instruction."""
    instruction: str = ""
    """Instruction of episodes that have none."""
    robot: str = ""
    """Name of the robot; empty takes our own column, or the robot type."""
    horizon: int = 0
    """Ticks in a chunk; 0 is one second of them."""
    tolerance_s: float = 1e-4
    """How far a picture may lie from its frame's time, as in LeRobot."""
    upload: bool = True
    """Upload each episode at once; else `lwd edge` carries them from the spool."""
    spool_quota_bytes: int = 20 << 30
    """Bound of the spool on disk; what is uploaded makes room."""

    def __post_init__(self) -> None:
        require(self.image_every >= 1, f"image_every is {self.image_every}; at least 1.")
        require(1 <= self.jpeg_quality <= 100, f"jpeg_quality is {self.jpeg_quality}; 1 to 100.")
        require_not_negative(self, "horizon")
        require(self.tolerance_s > 0, f"tolerance_s is {self.tolerance_s}; it must be positive.")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which episodes become a LeRobotDataset, and how."""

    snapshot: int = 0
    """Version of the data set; 0 is the newest."""
    robot: str = ""
    """Only of this robot."""
    task: str = ""
    """Only of this task."""
    kind: str = ""
    """Only of this kind: demo, play, rollout or online."""
    outcome: str = ""
    """Only those that ended so: success, failure, timeout or interrupted."""
    images: Literal["hold", "whole", "none"] = "hold"
    """Pictures that were not kept: `hold` repeats the last one, `whole` leaves such episodes out,
    `none` writes no cameras."""
    crf: int = 18
    """Quality of the videos: 0 is lossless, 51 the worst."""
    gop: int = 2
    """Frames from one key frame to the next; small is fast to read at random."""
    robot_type: str = "lwd"
    """What info.json says about the robot."""

    def __post_init__(self) -> None:
        require_not_negative(self, "snapshot")
        require(0 <= self.crf <= 51, f"crf is {self.crf}; 0 to 51.")
        require(self.gop >= 1, f"gop is {self.gop}; at least 1.")
