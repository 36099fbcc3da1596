"""A small fleet at rest, and its page as a real server."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from dashboard.pictures import jpeg
from episodes_at_rest import AtRest, at_rest
from lwd.config import PlaneConfig
from lwd.dashboard.serve import serve
from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.errors import LwdError
from lwd.store.objects import episode_key, sha256_of
from lwd.store.rows import EpisodeRow, LoadRow
from processes import free_port
from sample_episodes import make_episode
from sample_rows import POLICY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


@dataclass
class Fleet:
    """A catalog with an object store, and who adds to them."""

    rest: AtRest
    plane: PlaneConfig

    def record(self, seed: int, *, ticks: int = 30, images: bool = True, **changes) -> EpisodeRow:
        """An episode that is in the catalog and in the object store."""
        episode = make_episode(ticks, seed=seed, **changes)
        head = tuple(jpeg(tick) if images and tick % 10 == 0 else None for tick in range(ticks + 1))
        payload = encode(replace(episode, images={"head": head} if images else {}))
        row = describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
        row = replace(row, produced_at=self.rest.clock.now - 1.0)
        self.rest.objects.put(episode_key(row.sha256), payload)
        self.rest.catalog.insert_episode(row)
        return row

    def commit(self, *rows: EpisodeRow) -> int:
        """A snapshot with these episodes and all amendments."""
        ids = [row.episode_id for row in rows]
        return self.rest.catalog.commit_snapshot(ids, token=self.rest.token)

    def publish(self, robots: tuple[str, ...] = ()) -> int:
        """One more policy, which some robots load."""
        catalog = self.rest.catalog
        update = len(catalog.list_weights()) + 1
        version = catalog.publish_weights(replace(POLICY, update=update)).version
        for robot in robots:
            at = self.rest.clock.now
            catalog.report_load(LoadRow(robot=robot, version=version, loaded_at=at))
        return version


def make_fleet(folder: Path) -> Fleet:
    """Three robots, two tasks, two policies, six episodes."""
    rest = at_rest(folder)
    rest.clock.now = time.time()
    plane = PlaneConfig(root=folder, service_url=f"http://127.0.0.1:{free_port()}")
    fleet = Fleet(rest, plane)
    fleet.publish(("robot-1", "robot-2"))
    rows = [
        fleet.record(
            number,
            robot=f"robot-{1 + number % 3}",
            task="restocking" if number % 2 else "freezer",
            outcome="success" if number % 3 else "failure",
            policy_version=1,
        )
        for number in range(6)
    ]
    fleet.commit(*rows)
    return fleet


@contextmanager
def served(plane: PlaneConfig, address: str = "http://127.0.0.1:0") -> Iterator[str]:
    """URL of a page that runs in a thread."""
    stop, ready = threading.Event(), Future()

    def run() -> None:
        try:
            serve(plane, address, every_s=0.05, stop=stop, started=ready.set_result)
        except LwdError as error:
            ready.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(20)
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = make_fleet(tmp_path)
    yield made
    made.rest.catalog.close()


@pytest.fixture
def http(fleet: Fleet) -> Iterator[httpx.Client]:
    """A client of the page of `fleet`."""
    with served(fleet.plane) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one page for all tests that change nothing."""
    made = make_fleet(tmp_path_factory.mktemp("fleet"))
    with served(made.plane) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client
        assert made.rest.catalog.amendments() == []
        assert len(made.rest.catalog.list_weights()) == 1
    made.rest.catalog.close()
