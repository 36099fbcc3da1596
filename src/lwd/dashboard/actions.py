"""What people change from the page: each with who did it and why, in the catalog's own trail."""

from dataclasses import dataclass, field
from typing import Any

from lwd.errors import ConfigError
from lwd.store.access import Grant
from lwd.store.amendments import Change
from lwd.store.catalog import Catalog

CHANGES = tuple(change for change in Change if change is not Change.LOST)
"""What may be done to an episode; that a payload is lost is for `lwd doctor` to say."""
MAX_REASON = 500


@dataclass(frozen=True, kw_only=True)
class Amend:
    """A correction of an episode."""

    change: str
    value: str = ""
    """JSON of a relabel, empty otherwise."""
    reason: str
    author: str = ""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A promotion, a roll-back or a canary."""

    reason: str
    author: str = ""
    robots: list[str] = field(default_factory=list)
    """Of a canary."""


def author(grant: Grant | None, given: str) -> str:
    """Whose deed it is: the token's name, else the name that was given; ConfigError for none."""
    name = grant.robot if grant is not None else given.strip()
    if not name or len(name) > 100:
        raise ConfigError("Give your name: whatever is changed is signed by somebody.")
    return name


def reason(given: str) -> str:
    """Why; ConfigError where nothing is said."""
    text = " ".join(given.split())
    if not text or len(text) > MAX_REASON:
        raise ConfigError(f"Give a reason of at most {MAX_REASON} characters: it stays on record.")
    return text


def amend(catalog: Catalog, episode_id: str, wanted: Amend, who: str) -> dict[str, Any]:
    """Write a correction down; it holds from the next snapshot on."""
    if wanted.change not in CHANGES:
        raise ConfigError(f"{wanted.change[:40]!r} is no change; known: {', '.join(CHANGES)}.")
    number = catalog.amend(
        episode_id, wanted.change, wanted.value, author=who, reason=reason(wanted.reason)
    )
    return {"amendment": number, "done": f"{wanted.change}: holds from the next snapshot on"}


def release(catalog: Catalog, kind: str, version: int, wanted: Release, who: str) -> dict[str, Any]:
    """Promote, roll back or try a published policy; the new version that says so."""
    by = f"{who}: {reason(wanted.reason)}"
    if kind == "promote":
        row = catalog.promote_weights(version, by=by)
    elif kind == "rollback":
        row = catalog.roll_back_weights(version, by=by)
    elif kind == "canary":
        row = catalog.try_weights(version, wanted.robots, by=by)
    else:
        raise ConfigError(f"{kind[:40]!r} is no release; known: promote, rollback, canary.")
    return {"version": row.version, "done": f"version {row.version}: {row.note}"}
