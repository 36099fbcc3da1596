"""Rows of the catalog as the rest of the system sees them."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EpisodeRow:
    """One catalogued episode: enough to find, verify, select and schedule its payload."""

    episode_id: str
    sha256: str
    """Of the payload; the object is `episodes/<sha256>`."""
    size_bytes: int
    robot: str
    task: str
    instruction: str
    kind: str
    """A value of `lwd.episode.types.Kind`."""
    policy_version: int
    outcome: str
    terminated: bool
    truncated: bool
    ticks: int
    rate_hz: float
    horizon: int
    produced_at: float
    """UTC seconds at which the robot finished the episode."""
    inserted_at: float = 0.0
    """UTC seconds of the catalog transaction."""
    interventions: int = 0
    """Ticks in which a human acted."""
    held_out: bool = False
    """The scene came from the held-out split; never trained on."""


@dataclass(frozen=True, kw_only=True)
class WeightsRow:
    """One published policy."""

    version: int
    sha256: str
    """Of the artifact; the object is `weights/<sha256>.safetensors`."""
    size_bytes: int
    snapshot: int
    """Newest dataset snapshot it was trained on."""
    stage: str
    """`sft`, `offline` or `online`."""
    update: int
    """Learner updates done in that stage."""
    published_at: float = 0.0
    audience: str = ""
    """Robots that get it, between commas (`,robot-00,robot-01,`); empty for all of them."""
    note: str = ""
    """What an operator did, for example `promoted 12`; empty for the learner's publications."""
    chain: str = ""
    """Hash of this row and of the chain before it: no version can be changed unnoticed."""

    def chained(self, before: str) -> str:
        """Hash of the row after a chain that ends in `before`."""
        parts = (self.version, self.sha256, self.stage, self.update, self.snapshot)
        text = "\n".join(map(str, (before, *parts, self.audience, self.note)))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class LoadRow:
    """A robot's report that it acts with a version from now on."""

    robot: str
    version: int
    loaded_at: float
