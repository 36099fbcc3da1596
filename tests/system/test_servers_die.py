"""The database and the object store themselves are killed while episodes flow."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from ring import Cell

from lwd.config import PlaneConfig
from lwd.edge.spool import Spool
from lwd.episode.payload import encode
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects, episode_key
from postgres import postgres_server
from processes import free_port, wait_until
from s3_gateway import CREDENTIALS, s3_gateway
from sample_episodes import make_episode

A_ROUND = 6


@pytest.fixture
def servers() -> Iterator[dict]:
    """Servers of this test alone, for they are killed."""
    with ExitStack() as stack:
        yield {
            "database": stack.enter_context(postgres_server()),
            "store": stack.enter_context(s3_gateway()),
        }


@pytest.fixture
def cell(servers, tmp_path, monkeypatch) -> Cell:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    config = PlaneConfig(
        root=tmp_path,
        catalog_url=servers["database"].create(),
        objects_url=servers["store"].create(),
        queue_url=f"nats://127.0.0.1:{free_port()}",
        service_url=f"http://127.0.0.1:{free_port()}",
    )
    return Cell(config=config)


@pytest.mark.slow
@pytest.mark.services
def test_a_killed_database_and_a_killed_store_lose_and_double_nothing(cell: Cell, servers, ring):
    ids: list[str] = []
    with Spool(cell.config.root / "spool" / "arm-1") as spool, Catalog(cell.config.catalog) as at:

        def _produce() -> None:
            for _ in range(A_ROUND):
                episode = make_episode(20, seed=len(ids), robot="arm-1")
                spool.save(episode.header.episode_id, encode(episode))
                ids.append(episode.header.episode_id)

        def _members() -> list[str]:
            return [row.episode_id for row in at.snapshot_episodes(at.snapshot_version())]

        for victim in ("database", "store", "database", "store"):
            _produce()
            wait_until(lambda: at.count_episodes() > len(ids) - A_ROUND, "the first of a round")
            servers[victim].kill()
            _produce()
            servers[victim].start()
        wait_until(lambda: len(_members()) >= len(ids), "all episodes", deadline_s=90)
        assert sorted(_members()) == sorted(ids)
        assert at.dead_letters() == []
        objects = Objects(cell.config.objects)
        for episode_id in ids:
            row = at.episode(episode_id)
            assert row is not None
            objects.get(episode_key(row.sha256), sha256=row.sha256)
        wait_until(lambda: not spool.pending(), "the acknowledgements")
        assert spool.rejected() == {}
    assert ring.stop() == dict.fromkeys(ring.running, 0)
