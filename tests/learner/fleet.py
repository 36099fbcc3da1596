"""A catalog and an object store with small episodes of the real layout, and small settings."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from lwd.config import (
    COMPACT,
    DivlConfig,
    HostConfig,
    LearnerConfig,
    OptimiserConfig,
    PlaneConfig,
    QamConfig,
    StateLayout,
)
from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.episode.types import Source
from lwd.learner.process import run
from lwd.learner.recipes import recipe
from lwd.models.presets import ACTION
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from sample_episodes import make_episode


def commit(
    root: Path, *kinds: str, seed: int = 0, cameras: tuple[str, ...] = (), **header: Any
) -> list[str]:
    """Put an episode of each kind into the store and make them the next snapshot.

    With `cameras` there is a picture of 32 pixels of each at every other tick and at the end.
    """
    plane = PlaneConfig(root=root)
    objects, ids = Objects(plane.objects), []
    with Catalog(plane.catalog) as catalog:
        for number, kind in enumerate(kinds):
            episode = make_episode(
                12, state=StateLayout().size, action=ACTION, seed=seed + number, kind=kind, **header
            )
            if kind == "demo":
                episode = replace(episode, source=np.full(12, Source.EXPERT, np.uint8))
            if cameras:
                episode = replace(episode, images=_pictures(cameras, seed + number))
            payload = encode(episode)
            row = describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
            objects.put(episode_key(row.sha256), payload)
            catalog.insert_episode(row)
            ids.append(row.episode_id)
        token = catalog.acquire_lease(COORDINATOR, "test", 1e9)
        assert token is not None
        catalog.commit_snapshot(ids, token=token)
    return ids


def _pictures(cameras: tuple[str, ...], seed: int) -> dict[str, tuple[bytes | None, ...]]:
    rng = np.random.default_rng(seed)

    def picture() -> bytes:
        return simplejpeg.encode_jpeg(rng.integers(0, 256, (32, 32, 3), np.uint8))

    return {
        camera: tuple(picture() if tick % 2 == 0 else None for tick in range(13))
        for camera in cameras
    }


DIVL, QAM = DivlConfig(atoms=51), QamConfig(steps=2, inv_temp=5.0)


def small(name: str, *, updates: int = 2, **changes) -> LearnerConfig:
    """Every stage of a recipe on batches of 8, with a report after every update and no waiting.

    Stages of all recipes share what an update is compiled for, where their losses do.
    """
    config, same = recipe(name, COMPACT), {"batch": 8, "episodes": 1, "fresh": 0, "policy_every": 1}
    stages = {
        stage: replace(
            each,
            **same,
            updates=updates,
            updates_per_episode=math.inf,
            divl=replace(DIVL, tau_base=each.divl.tau_base, n_step=each.divl.n_step),
            qam=QAM,
            optimiser=OptimiserConfig(),
        )
        for stage, each in config.stages.items()
    }
    every = {"publish_every": 1, "report_every": 1, "preset": "narrow"}
    return replace(config, stages=stages, **(every | changes))


def tiny(**changes) -> LearnerConfig:
    """Algorithm 1, small; its online stage has another level and window than the offline one."""
    online = replace(DIVL, tau_base=0.9, n_step=2)
    return small("lwd", **changes).with_stage("online", divl=online)


def recap_once(**changes) -> LearnerConfig:
    """RECAP with one round of collection."""
    config = small("recap", **changes).with_stage("value_2", updates=0)
    return config.with_stage("policy_2", updates=0)


def learn(root: Path, config: LearnerConfig, stop: Callable[[], bool] = lambda: False) -> bool:
    """Run the learner in this process, on two devices."""
    return run(PlaneConfig(root=root), config, HostConfig(), stop=stop)


def paced(config: LearnerConfig, stage: str, updates: float) -> LearnerConfig:
    """The learner waits in `stage` after this many updates for each episode."""
    return config.with_stage(stage, updates_per_episode=updates)
