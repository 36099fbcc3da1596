"""What a robot acts with is what was published: the expectation is computed, not believed."""

import threading
from dataclasses import replace

import numpy as np

from lwd.chaos.policy import build_with, digest, expected, publish_on, tensors_of
from lwd.chaos.witness import Journal
from lwd.store.catalog import Catalog
from lwd.store.lines import entries
from lwd.store.objects import Objects
from lwd.store.weights import fetch


class Rounds(threading.Event):
    """Is set after so many waits."""

    def __init__(self, rounds: int):
        super().__init__()
        self._left = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        if not self._left:
            self.set()
        return self.is_set()


def test_published_policies_are_the_expected_ones_over_restarts(tmp_path):
    objects = Objects((tmp_path / "objects").as_uri())
    with (
        Catalog(f"sqlite:///{tmp_path}/catalog.db") as catalog,
        Journal(tmp_path / "acts") as journal,
    ):
        for rounds in (2, 1):
            publish_on(7, catalog, objects, Rounds(rounds))
        rows = catalog.list_weights()
        assert [(row.version, row.update) for row in rows] == [(1, 1), (2, 2), (3, 3)]
        for row in rows:
            fetched = fetch(objects, row, folder=tmp_path / "weights")
            build_with(journal)(*fetched, row.version).reset(0)
    said = {entry["acts"]: entry["digest"] for entry in entries(tmp_path / "acts")}
    assert expected(7, rows) == said
    assert expected(8, rows) != said
    assert expected(7, [rows[0], replace(rows[1], chain="0" * 64), rows[2]]) == said | {
        2: "",
        3: "",
    }


def test_a_changed_number_changes_the_digest():
    tensors = tensors_of(1, 3)
    assert digest(tensors) == digest(tensors_of(1, 3))
    tensors["body"][0] = np.nextafter(tensors["body"][0], np.float32(9))
    assert digest(tensors) != digest(tensors_of(1, 3))
