"""Which episodes may join the data set: pure decisions about rows, payloads and notices."""

import json
from dataclasses import dataclass, fields
from enum import StrEnum

from lwd.episode.payload import decode
from lwd.episode.types import Episode, Header
from lwd.errors import PayloadError
from lwd.store.objects import episode_key, sha256_of
from lwd.store.rows import EpisodeRow

COMPARED = sorted({f.name for f in fields(Header)} & {f.name for f in fields(EpisodeRow)})
"""What a row repeats from the header of its payload, word for word."""


class Fate(StrEnum):
    """What becomes of an episode."""

    JOIN = "join"
    """It is whole and what its row says: into the next snapshot."""
    MEMBER = "member"
    """It is in a snapshot already."""
    WAIT = "wait"
    """Nothing is wrong for good: look again later."""
    DEAD = "dead"
    """No retry can save it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The fate of one episode and why."""

    episode_id: str
    fate: Fate
    reason: str = ""


def read_notice(data: bytes) -> str:
    """Episode id in a notice; ValueError if it is something else."""
    try:
        episode_id = json.loads(data)["episode_id"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"Not a notice of an episode: {data[:80]!r}.") from error
    if not (isinstance(episode_id, str) and episode_id.isprintable() and len(episode_id) <= 128):
        raise ValueError(f"Not a notice of an episode: {data[:80]!r}.")
    return episode_id


def judge_absent(row: EpisodeRow, *, now: float, patience_s: float) -> Verdict:
    """A row without a payload: uploads come first, but a store may show them late."""
    key, age_s = episode_key(row.sha256), now - row.inserted_at
    if age_s < patience_s:
        reason = f"object {key} is not there yet"
        return Verdict(episode_id=row.episode_id, fate=Fate.WAIT, reason=reason)
    reason = f"object {key} is not there {age_s:.0f} s after the row was inserted"
    return Verdict(episode_id=row.episode_id, fate=Fate.DEAD, reason=reason)


def judge_size(row: EpisodeRow, size_bytes: int) -> Verdict | None:
    """Verdict if the size of the object already condemns it, before anybody downloads it."""
    if size_bytes == row.size_bytes:
        return None
    reason = f"the payload has {size_bytes} bytes, the row says {row.size_bytes}"
    return Verdict(episode_id=row.episode_id, fate=Fate.DEAD, reason=reason)


def judge_payload(row: EpisodeRow, payload: bytes) -> Verdict:
    """Join if the bytes are the promised ones, decode, and agree with the row."""
    reason = _fault(row, payload)
    return Verdict(
        episode_id=row.episode_id, fate=Fate.DEAD if reason else Fate.JOIN, reason=reason
    )


def _fault(row: EpisodeRow, payload: bytes) -> str:
    digest = sha256_of(payload)
    if digest != row.sha256:
        return f"the payload has sha256 {digest}, the row says {row.sha256}"
    try:
        episode = decode(payload, images=False)
    except PayloadError as error:
        return str(error)
    wrong = _differences(row, episode)
    return f"the payload and its row disagree: {', '.join(wrong)}" if wrong else ""


def _differences(row: EpisodeRow, episode: Episode) -> list[str]:
    pairs = {name: (getattr(episode.header, name), getattr(row, name)) for name in COMPARED}
    pairs["ticks"] = (episode.ticks, row.ticks)
    return [
        f"{name} {ours!r} against {theirs!r}"
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    ]
