"""Filling the cells of Table IV: composition, order, kills, what cannot be filled."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import point_buffer
import pytest
from point_buffer import config, make

from lwd.config import BLIND, COMPACT, SightConfig
from lwd.config.collection import CollectConfig
from lwd.edge.spool import Spool
from lwd.edge.uploader import Uploader
from lwd.episode.payload import decode
from lwd.episode.types import Kind, Outcome, Source
from lwd.errors import ConfigError, ConflictError
from lwd.replay.reader import Options, Reader
from lwd.sim.collect.composition import CELLS, TABLE_IV, cell_of, wanted_s
from lwd.sim.collect.journal import Entry, Journal
from lwd.sim.collect.run import collect
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects
from opengl import needs_opengl
from processes import wait_until

TESTS = Path(__file__).parents[2]


def spooled(root: Path) -> dict:
    """Episodes in the spool by id."""
    paths = (root / "spool/collector/pending").glob("*.arrow")
    return {path.stem: decode(path) for path in paths}


def journal(root: Path) -> list[dict]:
    lines = (root / "collect/journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A buffer that was made without interruption: its folder and what was returned."""
    root = tmp_path_factory.mktemp("whole")
    return root, collect(config(root), make=make)


def test_table_iv_adds_up_to_the_papers_hours():
    columns = [sum(hours[k] for hours in TABLE_IV.values()) for k in range(len(CELLS))]
    assert columns == pytest.approx([336.5, 88.8, 39.1, 188.0], abs=0.05)
    assert sum(columns) == pytest.approx(652.5, abs=0.2)
    assert wanted_s("freezer", 0.5)["failure"] == pytest.approx(4.6 * 1800)


@pytest.mark.parametrize(
    ("kind", "outcome", "cell"),
    [
        ("demo", "success", "demo"),
        ("demo", "timeout", None),
        ("rollout", "success", "success"),
        ("rollout", "timeout", "failure"),
        ("rollout", "failure", "failure"),
        ("rollout", "invalid", None),
        ("rollout", "interrupted", None),
        ("play", "failure", "play"),
        ("play", "success", None),
    ],
)
def test_which_cell_an_episode_belongs_to(kind, outcome, cell):
    assert cell_of(Kind(kind), Outcome(outcome)) == cell


def test_every_cell_is_filled_and_no_further_than_its_last_episode(whole):
    root, buffer = whole
    episodes = spooled(root)
    assert buffer.tasks == ["restocking", "freezer"]
    for (task, cell), (made, wanted) in buffer.seconds().items():
        assert wanted == pytest.approx(wanted_s(task, point_buffer.SCALE)[cell])
        kept = [e for e in buffer.entries if (e.task, e.cell) == (task, cell)]
        assert made == pytest.approx(sum(e.seconds for e in kept))
        assert made - kept[-1].seconds < wanted <= made
        for entry in kept:
            header = episodes[entry.episode_id].header
            assert cell_of(header.kind, header.outcome) == cell
    assert set(episodes) == {e.episode_id for e in buffer.entries if e.cell}


def test_rollouts_are_of_every_policy_in_turn(whole):
    root, buffer = whole
    rollouts = [e for e in buffer.entries if e.kind == "rollout"]
    assert {Path(e.policy).stem for e in rollouts} == {"goes", "flees"}
    episodes = spooled(root)
    for entry in (e for e in rollouts if e.cell):
        episode = episodes[entry.episode_id]
        assert episode.header.policy_version == 1 + entry.number % 2
        assert (episode.source == Source.POLICY).all()


def test_the_number_of_workers_changes_nothing(whole, tmp_path):
    root, _ = whole
    collect(config(tmp_path, workers=2), make=make)
    order = [(e["episode_id"], e["cell"]) for e in journal(root)]
    assert Counter((e["episode_id"], e["cell"]) for e in journal(tmp_path)) == Counter(order)
    assert spooled(tmp_path).keys() == spooled(root).keys()


def test_a_finished_buffer_stays_as_it_is(whole):
    root, before = whole
    assert collect(config(root), make=make).entries == before.entries


@pytest.mark.slow
def test_kills_at_any_moment_lose_and_double_nothing(whole, tmp_path):
    path = os.pathsep.join([str(TESTS), str(Path(__file__).parent)])
    command = [sys.executable, point_buffer.__file__, str(tmp_path)]
    written = tmp_path / "collect/journal.jsonl"
    for lines in (1, 7):
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
        wait_until(
            lambda n=lines: written.exists() and written.read_bytes().count(b"\n") > n, "lines", 60
        )
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert len(journal(tmp_path)) < len(journal(whole[0]))
    last = written.read_bytes().splitlines(keepends=True)
    kept = next(n for n in range(len(last) - 1, 0, -1) if json.loads(last[n])["cell"])
    # As if the last kill had come between spool and journal, in the middle of a line.
    written.write_bytes(b"".join(last[:kept]) + last[kept][:20])
    collect(config(tmp_path), make=make)
    assert spooled(tmp_path).keys() == spooled(whole[0]).keys()
    key = ("task", "kind", "number", "cell")
    found = Counter(tuple(e[k] for k in key) for e in journal(tmp_path))
    assert found == Counter(tuple(e[k] for k in key) for e in journal(whole[0]))


def test_a_cell_that_cannot_be_filled_is_given_up_and_reported(tmp_path):
    only_goes = config(tmp_path, tasks=("freezer",), effort=1.0)
    only_goes = CollectConfig(**{**vars(only_goes), "policies": only_goes.policies[:1]})
    buffer = collect(only_goes, make=make)
    made = {cell: made for (_, cell), (made, _) in buffer.seconds().items()}
    assert made["failure"] == 0 < made["success"]
    (stream,) = [s for s in buffer.streams if s.kind is Kind.ROLLOUT]
    assert stream.given_up
    assert stream.spent_s < 2 * sum(stream.wanted.values())


def test_physics_that_diverges_fills_no_cell_and_is_counted(tmp_path):
    buffer = collect(config(tmp_path, tasks=("tea",), scale=1e-5, effort=1.0), make=make)
    assert buffer.invalid()["tea"] == len(buffer.entries) > 0
    assert spooled(tmp_path) == {}


def test_rollouts_wait_until_there_are_policies(tmp_path):
    alone = CollectConfig(root=tmp_path, scale=1e-4, tasks=("freezer",), workers=1)
    assert {e.kind for e in collect(alone, make=make).entries} == {"demo", "play"}
    with_policies = config(tmp_path, scale=1e-4, tasks=("freezer",))
    assert all(stream.filled for stream in collect(with_policies, make=make).streams)


@needs_opengl
def test_a_buffer_keeps_what_its_cameras_see_and_goes_on_with_the_same_ones(tmp_path):
    head = SightConfig(cameras=("head",), image_size=32, image_every=5)
    asked = CollectConfig(
        root=tmp_path, scale=1e-4, tasks=("restocking",), kinds=("demo",), sight=head, workers=1
    )
    (entry,) = collect(asked).entries
    (episode,) = spooled(tmp_path).values()
    assert entry.episode_id == episode.header.episode_id
    kept = {tick for tick, image in enumerate(episode.images["head"]) if image}
    assert kept == {*range(0, episode.ticks, 5), episode.ticks}
    with pytest.raises(ConfigError, match=r"cameras was \['head'\], now \[\]"):
        collect(replace(asked, sight=BLIND))


def test_a_camera_that_is_not_there_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"camera 'heda' is unknown\. Did you mean 'head'"):
        collect(CollectConfig(root=tmp_path, sight=SightConfig(cameras=("heda",))))
    with pytest.raises(ConfigError, match="image_every is -1"):
        SightConfig(image_every=-1)
    assert not (tmp_path / "collect").exists()


def test_stop_leaves_a_buffer_to_go_on_with(tmp_path):
    stop = threading.Event()
    stop.set()
    buffer = collect(config(tmp_path), make=make, stop=stop)
    assert buffer.entries == ()
    assert not any(stream.filled for stream in buffer.streams)


def test_what_is_asked_for_wrongly_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"task 'restokcing' is unknown\. Did you mean 'restock"):
        collect(CollectConfig(root=tmp_path, tasks=("restokcing",)))
    with pytest.raises(ConfigError, match=r"no policy .*none\.safetensors"):
        collect(CollectConfig(root=tmp_path, policies=(tmp_path / "none.safetensors",)), make=make)
    with pytest.raises(ConfigError, match="scale is 0"):
        CollectConfig(scale=0.0)
    with Journal(tmp_path / "collect", {"scale": 1.0, "seed": 0}) as first:
        entry = Entry(
            task="tea",
            kind="demo",
            number=0,
            episode_id="a",
            outcome="success",
            seconds=1.0,
            cell="",
        )
        first.append(entry)
        with pytest.raises(ConflictError, match="another process collects"):
            Journal(tmp_path / "collect", {"scale": 1.0, "seed": 0})
    with pytest.raises(ConfigError, match=r"scale was 1\.0, now 0\.5"):
        Journal(tmp_path / "collect", {"scale": 0.5, "seed": 0})
    with Journal(tmp_path / "collect", {"scale": 1.0, "seed": 0}) as again:
        assert again.entries == [entry]


@pytest.mark.slow
def test_the_learner_reads_simulated_episodes_through_the_catalog(tmp_path):
    wanted = CollectConfig(root=tmp_path, scale=2e-4, tasks=("restocking",), workers=1)
    buffer = collect(wanted)
    objects = Objects((tmp_path / "objects").as_uri())
    with Catalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        spool = Spool(tmp_path / "spool" / "collector")
        settled, failed = Uploader(objects, catalog).sweep([spool], threading.Event())
        kept = [e for e in buffer.entries if e.cell]
        assert (settled, failed) == (len(kept), 0)
        token = catalog.acquire_lease(COORDINATOR, "test", 60.0)
        assert token is not None
        catalog.commit_snapshot([e.episode_id for e in kept], token=token)
        reader = Reader(
            catalog,
            objects,
            tmp_path / "cache",
            horizon=COMPACT.horizon,
            discount=0.99,
            options=Options(prefetcher=False),
        )
        with reader:
            while reader.sync() < 1:
                pass
            parts = reader.statistics()
    for part, cell in (("demo", "demo"), ("play", "play"), ("rollout", "success")):
        assert parts[part].episodes == sum(e.cell == cell for e in kept)
    made = sum(e.seconds for e in kept)
    assert parts["offline"].ticks == round(made * COMPACT.rate_hz)
