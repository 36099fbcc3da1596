"""Where policies and episodes come from: which episodes trained which policy, and the reverse."""

from typing import NamedTuple

from lwd.episode.types import Outcome
from lwd.errors import MissingError
from lwd.store.amendments import Amendment
from lwd.store.catalog import Catalog
from lwd.store.rows import EpisodeRow, WeightsRow


class Policy(NamedTuple):
    """A published policy, what trained it and what it did."""

    weights: WeightsRow
    trained_on: list[EpisodeRow]
    """As labelled in the snapshot that it was trained on."""
    made: int
    """Catalogued episodes in which it acted."""


class Life(NamedTuple):
    """An episode from the policy that made it to the policies that it trained."""

    row: EpisodeRow
    """As recorded."""
    acted: WeightsRow | None
    """The policy; None where none acted."""
    behind: int | None
    """Newer policies that its robot could have had when it ended; None where none acted."""
    age_s: float | None
    """How long before the end of the episode its policy was published."""
    joined: int | None
    """Version of the data set; None while it has not joined."""
    amendments: list[Amendment]
    trained: list[int]
    """Versions of the policies whose snapshot has it."""


def policy(catalog: Catalog, version: int) -> Policy:
    """Lineage of a policy; MissingError if it was never published."""
    weights = catalog.weights(version)
    if weights is None:
        raise MissingError(f"Weights version {version} was never published.")
    rows = [row for row in catalog.snapshot_episodes(weights.snapshot) if _trains(row)]
    return Policy(weights, rows, catalog.count_episodes(policy_version=version))


def episode(catalog: Catalog, episode_id: str) -> Life:
    """Lineage of an episode; MissingError if it is not in the catalog."""
    row = catalog.episode(episode_id)
    if row is None:
        raise MissingError(f"Episode {episode_id[:80]} is not in the catalog.")
    entries, every = catalog.episode_log(episode_id), catalog.list_weights()
    acted = catalog.weights(row.policy_version) if row.policy_version else None
    trained = []
    for weights in every:
        past = [entry for entry in entries if entry.version <= weights.snapshot]
        if past and past[-1].present and _trains(past[-1].row):
            trained.append(weights.version)
    return Life(
        row=row,
        acted=acted,
        behind=acted and _behind(row, every),
        age_s=acted and row.produced_at - acted.published_at,
        joined=catalog.snapshot_of(episode_id),
        amendments=catalog.amendments(episode_id),
        trained=trained,
    )


def _behind(row: EpisodeRow, every: list[WeightsRow]) -> int:
    """Staleness in versions; by clocks of robot and service, which may differ."""
    newer = (w for w in every if w.version > row.policy_version)
    meant = (w for w in newer if not w.audience or f",{row.robot}," in w.audience)
    return sum(w.published_at < row.produced_at for w in meant)


def _trains(row: EpisodeRow) -> bool:
    return not row.held_out and row.outcome != Outcome.INVALID
