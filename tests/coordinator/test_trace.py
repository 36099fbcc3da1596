"""One trace from the robot to the update that used an episode."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from episodes_at_rest import at_rest
from lwd.actor.process import _note
from lwd.coordinator.service import Plane, Reign, settle
from lwd.edge.spool import Spool
from lwd.edge.uploader import Uploader
from lwd.episode import trace
from lwd.episode.payload import encode
from lwd.replay.reader import Options, Reader
from lwd.store.queue import Queue
from sample_episodes import make_episode


@pytest.fixture
def spans(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_tracer", lambda: provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_an_episodes_id_is_its_trace_from_the_robot_to_the_update(spans, tmp_path):
    rest, episode = at_rest(tmp_path), make_episode(30)
    episode_id = episode.header.episode_id
    _note(episode)
    with Spool(tmp_path / "spool", 1 << 30) as spool, rest.catalog, ThreadPoolExecutor(1) as pool:
        spool.save(episode_id, encode(episode))
        assert Uploader(rest.objects, rest.catalog).sweep([spool], threading.Event()) == (1, 0)
        row = rest.catalog.episode(episode_id)
        plane = Plane(
            catalog=rest.catalog,
            objects=rest.objects,
            queue=Queue.__new__(Queue),  # settling asks it nothing
            pool=pool,
            patience_s=1.0,
            clock=rest.clock,
        )
        settle(plane, Reign(rest.catalog, "me", rest.token, 60.0), [row])
        options = Options(prefetcher=False)
        with Reader(
            rest.catalog, rest.objects, tmp_path / "c", horizon=10, discount=0.99, options=options
        ) as reader:
            reader.sync()
            for update in range(2):
                reader.sample(update, {"online": 1.0}, 4)
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["record", "upload", "snapshot", "update"]
    assert {f"{span.context.trace_id:032x}" for span in found} == {episode_id}
    assert found[0].attributes["lwd.task"] == "restocking"
    assert found[3].attributes["lwd.update"] == 0


def test_what_is_no_episode_has_no_trace(spans):
    with trace.span("upload", "something else"):
        pass
    trace.happened("record", "0" * 31, 1.0, 2.0)
    assert spans.get_finished_spans() == ()
