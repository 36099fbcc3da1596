"""The replay of a finished run and its batches, for benchmarks that learn from it again."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lwd.config import LearnerConfig, PlaneConfig, StageConfig
from lwd.learner import feed
from lwd.learner.process import reader_options
from lwd.learner.state import Transitions
from lwd.models.inputs.preparation import Preparation
from lwd.models.sharding import mesh
from lwd.replay.reader import Reader
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects


@contextmanager
def replay(root: Path, config: LearnerConfig) -> Iterator[Reader]:
    """All of the run's newest snapshot, drawn with the seed of `config`; the run is only read."""
    plane = PlaneConfig(root=root)
    with tempfile.TemporaryDirectory() as cache, Catalog(plane.catalog) as catalog:
        reader = Reader(
            catalog,
            Objects(plane.objects),
            Path(cache),
            horizon=config.control.horizon,
            discount=config.control.discount(),
            seed=config.seed,
            options=replace(reader_options(config), prefetcher=False),
        )
        try:
            newest = catalog.snapshot_version()
            while reader.sync() < newest:
                print(f"loaded snapshot {reader.version} of {newest}", flush=True)
            yield reader
        finally:
            reader.close()


def batches(reader: Reader, stage: StageConfig, normaliser: Preparation) -> Iterator[Transitions]:
    """A batch for each update of a stage, of its size and mixture.

    Not the batches that the run's learner had: draws count from 0 and not on from those of earlier
    stages, all are from the newest snapshot, and `task_balanced` is off.
    """
    over = mesh()
    for number in range(stage.updates):
        rows = reader.sample(number, stage.mixture, stage.batch, n_step=stage.divl.n_step)
        yield feed.transitions(rows, normaliser, over)
