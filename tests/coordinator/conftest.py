"""A catalog, an object store and a queue that really run."""

from dataclasses import replace
from pathlib import Path

import pytest

from lwd.config import PlaneConfig
from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.rows import EpisodeRow
from processes import QUEUE, Processes, answers, free_port, wait_until
from sample_episodes import make_episode


@pytest.fixture
def processes():
    group = Processes()
    yield group
    group.close()


@pytest.fixture
def config(tmp_path: Path) -> PlaneConfig:
    return PlaneConfig(
        root=tmp_path,
        queue_url=f"nats://127.0.0.1:{free_port()}",
        lease_s=2.0,
        reconcile_s=0.2,
        patience_s=1.0,
    )


@pytest.fixture
def queue_server(processes, config):
    process = processes.start(QUEUE, config.root, config.queue_url.rsplit(":", 1)[1])
    wait_until(lambda: answers(config.queue_url), "the queue")
    return process


@pytest.fixture
def catalog(config):
    with Catalog(config.catalog) as opened:
        yield opened


@pytest.fixture
def objects(config) -> Objects:
    return Objects(config.objects)


@pytest.fixture
def payloads() -> dict[str, bytes]:
    """Every payload that `produce` made, by object key."""
    return {}


@pytest.fixture
def produce(catalog, objects, payloads):
    """Uploads and catalogues a new episode, as a robot does; changes go to the row."""

    def _produce(*, seed: int = 0, upload: bool = True, **changes) -> EpisodeRow:
        episode = make_episode(5, seed=seed)
        payload = encode(episode)
        row = describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
        payloads[episode_key(row.sha256)] = payload
        if upload:
            objects.put(episode_key(row.sha256), payload)
        row = replace(row, **changes)
        catalog.insert_episode(row)
        return row

    return _produce
