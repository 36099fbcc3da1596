"""benchmarks/ingest.py: what it counts as acknowledged is there, what it measures it does."""

import pytest

from benchmarks import ingest
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects


@pytest.mark.slow
def test_every_delivery_is_catalogued_and_stored(tmp_path):
    with ingest.plane(tmp_path, "") as running:
        config, before = running.config, running.cpu_s()
        load = ingest.Load(robots=3, size_bytes=1000, seconds=0.5)
        *seconds, whole = ingest.deliver(config, load)
        assert whole >= load.seconds
        assert len(seconds) >= load.robots
        assert 0 < min(seconds) <= max(seconds) <= whole
        with Catalog(config.catalog) as catalog:
            assert catalog.count_episodes() == len(seconds)
            assert {r.robot for r in catalog.unsnapshotted(10_000)} == {
                "robot-0",
                "robot-1",
                "robot-2",
            }
        assert running.cpu_s() > before > 0
        stored = list(Objects(config.objects).list("episodes"))
        assert len(stored) == len(seconds)


def test_a_round_makes_a_snapshot_of_what_it_inserts(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        ingest.fill(catalog, 100)
        assert (catalog.count_episodes(), catalog.snapshot_version()) == (100, 2)
        assert catalog.unsnapshotted(10) == []
        meter = ingest.Meter(catalog)
        meter.one_round()
        assert catalog.count_episodes() == 100 + ingest.SNAPSHOT
        assert catalog.snapshot_version() == 3
        assert (catalog.backlog(), catalog.unsnapshotted(10)) == (0, [])
        assert len(meter.found["insert"]) == ingest.SNAPSHOT
        assert len(meter.medians()) == len(ingest.TRANSACTIONS)
        assert min(meter.medians()) > 0


def test_the_page_has_a_row_for_each_number_of_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "ROUNDS", 1)
    rows = list(ingest.flatness("SQLite", {n: f"sqlite:///{tmp_path}/{n}.db" for n in (64, 128)}))
    page = ingest.report(["| SQLite | 100 KB | 1 | 1.0 | 0.1 | 1 | 1 | 1.0 |"], rows, 7.5)
    assert [line.split(" | ")[1] for line in rows] == ["64", "128"]
    assert all(row in page for row in rows)
    assert "load average was 7.5" in page
    assert "insert | forget notices | find who waits" in page
