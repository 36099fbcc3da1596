"""What a robot still has when the fleet's store does not: copies of payloads, and their rows."""

from collections.abc import Callable
from pathlib import Path

from lwd.edge.announce import describe
from lwd.episode.payload import decode
from lwd.errors import PayloadError
from lwd.store.objects import sha256_of
from lwd.store.rows import EpisodeRow


def spool_copies(folder: Path) -> Callable[[EpisodeRow], bytes | None]:
    """Looks a payload up in the spools under a folder, as robots keep them until their quota."""

    def _find(row: EpisodeRow) -> bytes | None:
        for state in ("done", "pending", "rejected"):
            path = folder / row.robot / state / f"{row.episode_id}.arrow"
            if path.is_file():
                return path.read_bytes()
        return None

    return _find


def described(payload: bytes) -> EpisodeRow | None:
    """The row that a robot would have sent with a payload; None if that is no whole episode."""
    try:
        episode = decode(payload, images=False)
    except PayloadError:
        return None
    return describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
