"""What a doctor finds, in the fleet's own data or in a LeRobotDataset."""

from enum import StrEnum
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is wrong."""

    trouble: StrEnum
    """The doctor's own `Trouble`."""
    subject: str
    """Episode, file, hash, version or name."""
    explanation: str
    remedy: str
    """What `repair` does, or what a person has to do."""
    repairable: bool
