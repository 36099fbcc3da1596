"""A small data plane in one folder: objects, a catalog, and a coordinator's commit."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.episode.types import Episode
from lwd.replay.reader import Options, Reader
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.rows import EpisodeRow
from sample_episodes import make_episode


class Plane:
    """Where episodes are put and committed without any process."""

    def __init__(self, folder: Path, blank: Path):
        self.folder = folder
        shutil.copy(blank, folder / "catalog.db")
        self.objects = Objects((folder / "objects").as_uri())
        self.catalog = Catalog(f"sqlite:///{folder / 'catalog.db'}")
        token = self.catalog.acquire_lease(COORDINATOR, "test", 1e9)
        assert token is not None
        self.token = token

    def put(self, episode: Episode, *, payload: bytes | None = None, store: bool = True):
        """Catalogue an episode and store its payload, unless told to lose it."""
        data = encode(episode) if payload is None else payload
        row = describe(episode, sha256=sha256_of(data), size_bytes=len(data))
        if store:
            self.objects.put(episode_key(row.sha256), data)
        self.catalog.insert_episode(row)
        return row

    def commit(self, *episodes: Episode) -> int:
        """Put episodes and make them the next snapshot."""
        return self.snapshot(*(self.put(episode) for episode in episodes))

    def snapshot(self, *rows: EpisodeRow) -> int:
        """Make catalogued rows the next snapshot."""
        return self.catalog.commit_snapshot([r.episode_id for r in rows], token=self.token)


@pytest.fixture(scope="session")
def blank_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty catalog to copy: migrating each time would take most of the tests' time."""
    path = tmp_path_factory.mktemp("blank") / "catalog.db"
    Catalog(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def plane(tmp_path: Path, blank_catalog: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path, blank_catalog)
    yield plane
    plane.catalog.close()


@pytest.fixture
def read(plane: Plane) -> Iterator[Callable[..., Reader]]:
    """Opens readers (H = 5, gamma = 0.9) that download in place unless told otherwise."""
    readers: list[Reader] = []

    def open_reader(cache: str = "cache", *, options: Options | None = None, **settings) -> Reader:
        reader = Reader(
            plane.catalog,
            plane.objects,
            plane.folder / cache,
            horizon=5,
            discount=0.9,
            options=options or Options(prefetcher=False),
            **settings,
        )
        readers.append(reader)
        return reader

    yield open_reader
    for reader in readers:
        reader.close()


@pytest.fixture
def fleet() -> list[Episode]:
    """Six episodes of two tasks, half of them demonstrations."""
    return [
        make_episode(ticks=6 + i, seed=i, kind=("demo", "online")[i % 2], task=f"task-{i % 3}")
        for i in range(6)
    ]
