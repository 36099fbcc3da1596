"""Every process of the data plane is killed while episodes flow; each episode arrives once."""

from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

from lwd.config import PlaneConfig
from lwd.edge.spool import Spool
from lwd.episode.payload import encode
from lwd.replay.reader import Options, Reader
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects
from processes import wait_until
from sample_episodes import make_episode

EPISODES_A_ROUND = 8
VICTIMS = ("queue", "service", "coordinator", "edge", "prefetcher")


@pytest.fixture
def reader(config: PlaneConfig, catalog: Catalog) -> Iterator[Reader]:
    cache = config.root / "cache"
    opened = Reader(
        catalog,
        Objects(config.objects),
        cache,
        horizon=5,
        discount=0.9,
        options=Options(prefetcher=True),
    )
    with opened:
        yield opened


@pytest.fixture
def produce(config: PlaneConfig) -> Iterator[Callable[[int], list[str]]]:
    """Saves finished episodes as a robot does; gives the ids of all so far."""
    ids: list[str] = []
    with Spool(config.root / "spool" / "arm-1") as spool:

        def _produce(count: int) -> list[str]:
            for _ in range(count):
                episode = make_episode(20, seed=len(ids), robot="arm-1")
                spool.save(episode.header.episode_id, encode(episode))
                ids.append(episode.header.episode_id)
            return ids

        yield _produce


def prefetcher() -> psutil.Process:
    """The reader's subprocess, which is a child of this process."""
    (found,) = (
        child for child in psutil.Process().children() if "lwd.replay.prefetch" in child.cmdline()
    )
    return found


def members(catalog: Catalog) -> list[str]:
    return [row.episode_id for row in catalog.snapshot_episodes(catalog.snapshot_version())]


@pytest.mark.slow
def test_each_process_killed_in_turn_loses_and_doubles_nothing(
    ring, config, catalog, reader, produce
):
    versions = [reader.sync()]
    for victim in VICTIMS:
        produce(EPISODES_A_ROUND // 2)
        versions.append(reader.sync())
        if victim == "prefetcher":
            prefetcher().kill()
        else:
            ring.kill(victim)
        produce(EPISODES_A_ROUND // 2)
        versions.append(reader.sync())
        if victim != "prefetcher":
            ring.restart(victim)
    produced = produce(0)
    wait_until(lambda: len(members(catalog)) >= len(produced), "all episodes", deadline_s=90)
    assert sorted(members(catalog)) == sorted(produced)
    assert catalog.dead_letters() == []

    def bound() -> bool:
        versions.append(reader.sync())
        return versions[-1] == catalog.snapshot_version()

    wait_until(bound, "the reader", deadline_s=60)
    assert versions == sorted(versions)
    batch = reader.sample(0, {"online": 1.0}, 8000)
    assert set(batch.episode.tolist()) == set(produced)
    assert np.isfinite(batch.state).all()
    assert set(catalog.availability()) == set(produced)

    spool = Spool(config.root / "spool" / "arm-1")
    wait_until(lambda: not spool.pending(), "the acknowledgements")
    assert spool.rejected() == {}
    assert ring.stop() == dict.fromkeys(ring.running, 0)
