"""A run's folder with known contents: spools, catalog, weights, loads and metrics."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lwd.config import PlaneConfig
from lwd.demo.progress import Observer
from lwd.edge.announce import describe
from lwd.edge.spool import Spool
from lwd.episode.payload import encode
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import sha256_of
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow
from sample_episodes import make_episode


class Run:
    """A run that goes on as told; its clock stands at `now`."""

    def __init__(self, root: Path) -> None:
        self.root, self.plane, self.now = root, PlaneConfig(root=root), 2e9
        self.catalog = Catalog(self.plane.catalog, clock=lambda: self.now)
        self.observer = Observer(self.plane, self.catalog)
        self.saved = 0

    def save(self, robot: str = "robot-00", kind: str = "online", outcome: str = "success"):
        """A robot saves an episode; nobody has uploaded it."""
        self.saved += 1
        episode = make_episode(
            5, seed=self.saved, robot=robot, kind=kind, outcome=outcome,
            ended_at=self.now + 1e-3 * self.saved,
        )  # fmt: skip
        payload = encode(episode)
        with Spool(self.root / "spool" / robot) as spool:
            spool.save(episode.header.episode_id, payload)
        return describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))

    def upload(self, *rows: EpisodeRow) -> None:
        """The episodes get into the catalog and into a snapshot."""
        for row in rows:
            self.catalog.insert_episode(row)
        token = self.catalog.acquire_lease(COORDINATOR, "test", 1e9)
        assert token is not None
        self.catalog.commit_snapshot([row.episode_id for row in rows], token=token)

    def double(self, row: EpisodeRow) -> None:
        """The same recording is catalogued once more under another id, which is in its payload."""
        self.upload(replace(row, episode_id=row.episode_id[::-1], sha256=row.sha256[::-1]))

    def sample(self, row: EpisodeRow, *, after_s: float) -> None:
        """The learner can sample the episode so long after its end."""
        self.catalog.record_available([row.episode_id], "host-0", row.produced_at + after_s)

    def publish(self, stage: str, update: int) -> int:
        """Version of newly published weights."""
        row = WeightsRow(
            version=0, sha256=f"{self.now:064.0f}", size_bytes=1, snapshot=1, stage=stage,
            update=update,
        )  # fmt: skip
        return self.catalog.publish_weights(row).version

    def load(self, robot: str, version: int, *, after_s: float) -> None:
        """The robot acts with a version so long after now."""
        row = LoadRow(robot=robot, version=version, loaded_at=self.now + after_s)
        self.catalog.report_load(row)

    def report(self, stage: str, update: int, **metrics: float) -> None:
        """The learner writes a line."""
        with (self.root / "learner.jsonl").open("a") as file:
            file.write(json.dumps({"stage": stage, "update": update, **metrics}) + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.catalog.close()


@pytest.fixture
def finished(run: Run) -> Run:
    """Six episodes of two robots, all accounted for, and two stages of learning."""
    rows = [
        run.save(kind="demo"),
        run.save(kind="rollout", outcome="failure"),
        run.save("robot-01", outcome="success"),
        run.save("robot-01", outcome="failure"),
        run.save("robot-00", outcome="success"),
        run.save("robot-00", outcome="interrupted"),
    ]
    run.upload(*rows[:3])
    run.upload(*rows[3:])
    for row, seconds in zip(rows, (9.0, 9.0, 1.0, 2.0, 3.0, 10.0), strict=True):
        run.sample(row, after_s=seconds)
    for stage, update in (("sft", 20), ("offline", 10), ("online", 5)):
        version = run.publish(stage, update)
        run.load("robot-00", version, after_s=0.5)
        run.now += 100.0
    run.load("robot-01", version, after_s=-98.0)
    run.report("sft", 20, **{"policy/sft_loss": 0.5})
    run.report("offline", 10, **{"value/loss": 3.0, "value/tau": 0.4, "value/entropy": 0.9})
    run.report("online", 5, **{"value/loss": 2.0, "value/tau": 0.7, "value/entropy": 0.6})
    return run
