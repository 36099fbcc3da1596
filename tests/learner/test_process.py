"""What the settings of a run say of its data reaches the reader."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learner.fleet import commit, tiny
from lwd.config import PlaneConfig
from lwd.learner.process import reader_options
from lwd.replay.batch import Batch
from lwd.replay.reader import Reader
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects


def drawn(root: Path, **settings: bool) -> Batch:
    """Rows of a time-out of 12 ticks whose first 3 are a person's."""
    plane, options = (
        PlaneConfig(root=root),
        replace(reader_options(tiny(**settings)), prefetcher=False),
    )
    with (
        Catalog(plane.catalog) as catalog,
        Reader(
            catalog, Objects(plane.objects), root / "cache",
            horizon=10, discount=0.9, options=options,
        ) as reader,
    ):  # fmt: skip
        reader.sync()
        return reader.sample(0, {"online": 1.0}, 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    commit(tmp_path, "online", outcome="timeout")
    return tmp_path


def test_a_time_out_ends_the_return_or_is_a_mere_cut(root):
    usual, cut = drawn(root), drawn(root, bootstrap_timeouts=True)
    np.testing.assert_array_equal(usual.tick, cut.tick)
    assert (usual.discount[usual.tick >= 2] == 0).all()
    assert (cut.discount > 0).all()


def test_chunks_across_the_border_of_an_intervention_can_be_left_out(root):
    assert set(drawn(root).tick) == set(range(12))
    assert set(drawn(root, single_source=True).tick) == set(range(3, 12))
