"""What a learner's run leaves behind."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from learner.fleet import tiny
from lwd.config import LearnerConfig, PlaneConfig
from lwd.learner import feed
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.recipes import shapes
from lwd.learner.state import TrainState
from lwd.models.sharding import mesh
from lwd.store.catalog import Catalog
from lwd.store.rows import WeightsRow


def published(root: Path) -> list[WeightsRow]:
    with Catalog(PlaneConfig(root=root).catalog) as catalog:
        return catalog.list_weights()


def versions(root: Path) -> list[tuple[str, int]]:
    return [(row.stage, row.update) for row in published(root)]


def reports(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "learner.jsonl").read_text().splitlines()]


def reported(root: Path, count: int) -> Callable[[], bool]:
    """A `stop` that is true once the learner has reported that often."""
    return lambda: (root / "learner.jsonl").exists() and len(reports(root)) >= count


def saved(root: Path, config: LearnerConfig | None = None) -> tuple[Position, TrainState]:
    """The newest checkpoint, of `tiny` settings or of others."""
    checkpoints = Checkpoints(root / "checkpoints")
    restored = checkpoints.restore(feed.placed(shapes(config or tiny()), mesh()))
    checkpoints.close()
    assert restored is not None
    return restored.position, restored.state


def assert_same(left: TrainState, right: TrainState) -> None:
    """Every leaf, bit for bit."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
