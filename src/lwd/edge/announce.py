"""What the catalog is told about an episode."""

import numpy as np

from lwd.episode.types import Episode, Source
from lwd.store.rows import EpisodeRow


def describe(episode: Episode, *, sha256: str, size_bytes: int) -> EpisodeRow:
    """Catalog row of an episode whose payload has this hash and size."""
    header = episode.header
    return EpisodeRow(
        episode_id=header.episode_id,
        sha256=sha256,
        size_bytes=size_bytes,
        robot=header.robot,
        task=header.task,
        instruction=header.instruction,
        kind=str(header.kind),
        policy_version=header.policy_version,
        outcome=str(header.outcome),
        terminated=header.terminated,
        truncated=header.truncated,
        ticks=episode.ticks,
        rate_hz=header.rate_hz,
        horizon=header.horizon,
        produced_at=header.ended_at,
        interventions=int(np.count_nonzero(episode.source == Source.HUMAN)),
        held_out=header.held_out,
    )
