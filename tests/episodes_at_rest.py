"""A catalog and a local store with real payloads, without any process."""

import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.rows import EpisodeRow
from sample_episodes import make_episode
from sample_rows import Clock


@dataclass
class AtRest:
    """Episodes by number; every payload stays in `copies`, as robots keep theirs."""

    catalog: Catalog
    objects: Objects
    clock: Clock
    copies: dict[str, bytes] = field(default_factory=dict)
    rows: dict[int, EpisodeRow] = field(default_factory=dict)
    token: int = 0

    def put(self, number: int, *, row: bool = True, **changes) -> EpisodeRow:
        """Store the payload of a new episode, and its row unless told not to."""
        episode = make_episode(5, seed=number, robot="arm-1", **changes)
        payload = encode(episode)
        found = describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
        self.objects.put(episode_key(found.sha256), payload)
        self.copies[found.sha256], self.rows[number] = payload, found
        if row:
            self.catalog.insert_episode(found)
        return found

    def commit(self, *numbers: int) -> int:
        """A snapshot with these, and with whatever amendments wait."""
        return self.catalog.commit_snapshot(
            [self.rows[number].episode_id for number in numbers], token=self.token
        )

    def amend(self, number: int, change: str, value: str = "") -> None:
        """Change an episode."""
        episode_id = self.rows[number].episode_id
        self.catalog.amend(episode_id, change, value, author="ana", reason="seen")

    def key(self, number: int) -> str:
        """Where the payload of an episode is."""
        return episode_key(self.rows[number].sha256)

    def stored(self, prefix: str = "episodes") -> set[int]:
        """Numbers of the episodes whose payload is under a prefix, whole."""
        here = set()
        for number, row in self.rows.items():
            key = f"{prefix}/{row.sha256}"
            if self.objects.exists(key) and sha256_of(self.objects.get(key)) == row.sha256:
                here.add(number)
        return here


@cache
def blank() -> bytes:
    """A migrated, empty catalog: migrating each time would take most of the tests' time."""
    with tempfile.TemporaryDirectory() as folder:
        Catalog(f"sqlite:///{folder}/catalog.db").close()
        return Path(folder, "catalog.db").read_bytes()


def at_rest(folder: Path) -> AtRest:
    """An empty one; its coordinator has the lease."""
    clock = Clock()
    (folder / "catalog.db").write_bytes(blank())
    catalog = Catalog(f"sqlite:///{folder}/catalog.db", clock)
    found = AtRest(catalog, Objects((folder / "objects").as_uri()), clock)
    token = catalog.acquire_lease(COORDINATOR, "me", 1e12)
    assert token is not None
    found.token = token
    return found
