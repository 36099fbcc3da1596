"""The replay of a finished run, for benchmarks that learn from it again."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lwd.config import LearnerConfig, PlaneConfig
from lwd.replay.reader import Options, Reader
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
            options=Options(prefetcher=False),
        )
        newest = catalog.snapshot_version()
        while reader.sync() < newest:
            print(f"loaded snapshot {reader.version} of {newest}", flush=True)
        yield reader
        reader.close()
