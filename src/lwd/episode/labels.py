"""What people may correct about an episode that was recorded: its outcome, who acted, its scores.

The payload never changes; a correction is applied to what was decoded.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lwd.episode.types import Episode, Outcome, Source
from lwd.errors import EpisodeError

MOST_PARTS = 1000
"""Ranges of ticks, or scores, in one correction."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Corrections of an episode; None leaves what the robot recorded."""

    outcome: Outcome | None = None
    human: tuple[tuple[int, int], ...] | None = None
    """Ranges [from, to) of ticks in which a person had taken over; the policy acted in others."""
    substeps: tuple[float, ...] | None = None
    """Step-wise scores in [0, 1]."""

    @property
    def human_ticks(self) -> int | None:
        """Number of ticks in `human`."""
        return None if self.human is None else sum(end - start for start, end in self.human)


NONE = Labels()
FIELDS = ("outcome", "human", "substeps")


def corrected(labels: Labels, field: str, value: str, *, ticks: int) -> Labels:
    """Labels with one more correction, given as JSON; EpisodeError says what would be right."""
    given = _parsed(value)
    if field == "outcome" and given in list(Outcome):
        return replace(labels, outcome=Outcome(given))
    if field == "human" and _are_ranges(given, ticks):
        return replace(labels, human=tuple((start, end) for start, end in given))
    if field == "substeps" and _are_scores(given):
        return replace(labels, substeps=tuple(map(float, given)))
    raise EpisodeError(
        f"Label {field}={value:.80} is not usable. Give outcome as one of {', '.join(Outcome)}; "
        f"human as growing ranges of ticks [[0, 10], [20, 25]] up to {ticks}; substeps as scores "
        "from 0 to 1: [1, 0.5]."
    )


def relabelled(episode: Episode, labels: Labels) -> Episode:
    """The episode as people have corrected it."""
    header, source = episode.header, episode.source
    if labels.outcome is not None:
        ended = labels.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
        header = replace(header, outcome=labels.outcome, terminated=ended, truncated=not ended)
    if labels.substeps is not None:
        header = replace(header, substeps=labels.substeps)
    if labels.human is not None:
        source = np.where(source == Source.HUMAN, np.uint8(Source.POLICY), source)
        for start, end in labels.human:
            source[start:end] = Source.HUMAN
    return replace(episode, header=header, source=source)


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _are_ranges(given: Any, ticks: int) -> bool:
    if not isinstance(given, list) or len(given) > MOST_PARTS:
        return False
    if not all(isinstance(r, list) and len(r) == 2 for r in given):
        return False
    flat = [edge for part in given for edge in part]
    whole = all(type(edge) is int and 0 <= edge <= ticks for edge in flat)
    return whole and all(a < b for a, b in given) and flat == sorted(flat)


def _are_scores(given: Any) -> bool:
    if not isinstance(given, list) or len(given) > MOST_PARTS:
        return False
    return all(type(score) in (int, float) and 0 <= score <= 1 for score in given)
