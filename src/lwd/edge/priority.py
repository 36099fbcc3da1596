"""Which episodes a robot uploads first, where its link is the bottleneck."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from lwd.episode.payload import decode
from lwd.episode.types import Outcome, Source
from lwd.errors import PayloadError


def urgent(path: Path, first: Collection[str]) -> bool:
    """Whether a payload is one of those that go first: `failure` means that the task was not done,
    `intervention` that a person took over."""
    try:
        episode = decode(path, images=False)
    except (PayloadError, OSError):
        return False  # the upload says what is wrong with it
    failed = episode.header.outcome in (Outcome.FAILURE, Outcome.TIMEOUT)
    helped = bool(np.any(episode.source == Source.HUMAN))
    return ("failure" in first and failed) or ("intervention" in first and helped)
