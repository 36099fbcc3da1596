"""Small, varied, valid episodes for the tests of the data plane."""

from dataclasses import replace

import numpy as np

from lwd.episode.payload import new_id
from lwd.episode.types import Episode, Header, Kind, Outcome, Source

JPEG = b"\xff\xd8\xff\xe0 not a picture, but it begins like one"


def make_header(**changes) -> Header:
    """Header of a successful online episode, with changes; the end flags follow the outcome."""
    changes["kind"] = Kind(changes.get("kind", Kind.ONLINE))
    changes["outcome"] = outcome = Outcome(changes.get("outcome", Outcome.SUCCESS))
    ended = outcome in (Outcome.SUCCESS, Outcome.FAILURE)
    header = Header(
        episode_id=new_id(),
        robot="robot-3",
        task="restocking",
        instruction="put the red can on the shelf",
        kind=Kind.ONLINE,
        policy_version=7,
        rate_hz=10.0,
        horizon=10,
        seed=11,
        outcome=outcome,
        terminated=ended,
        truncated=not ended,
        started_at=1_700_000_000.0,
        ended_at=1_700_000_010.0,
        substeps=(1.0, 0.5),
        normalisation_hash="a" * 64,
    )
    return replace(header, **changes)


def make_episode(ticks: int = 25, *, state: int = 6, action: int = 4, seed: int = 0, **changes):
    """Random episode; every state and action number differs, so that a mixed-up row is seen."""
    rng = np.random.default_rng(seed)
    wanted = rng.normal(size=(ticks, action)).astype(np.float32)
    wanted[: ticks // 4] = np.nan
    source = np.full(ticks, Source.POLICY, np.uint8)
    source[: ticks // 4] = Source.HUMAN
    header = make_header(**changes)
    if header.kind is Kind.DEMO:
        source[:] = Source.EXPERT
    return Episode(
        header=header,
        time=1_700_000_000.0 + 0.1 * np.arange(ticks + 1),
        state=rng.normal(size=(ticks + 1, state)).astype(np.float32),
        action=rng.normal(size=(ticks, action)).astype(np.float32),
        action_policy=wanted,
        source=source,
        events=tuple(("dropped:red can", "näh") if t == 2 else () for t in range(ticks)),
        images={
            "head": tuple(JPEG + bytes([t % 256]) if t % 5 == 0 else None for t in range(ticks + 1))
        },
    )
