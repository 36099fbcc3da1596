"""Synthetic policies: published under fire, and followed by robots that say what they act with."""

import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from lwd.actor.robot import Observation
from lwd.chaos.witness import Journal
from lwd.errors import ServiceError
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects
from lwd.store.rows import WeightsRow
from lwd.store.weights import Metadata, Tensors, Trained, publish

log = logging.getLogger(__name__)

SIZE = 40_000
PUBLISH_S = 2.0
STAGE = "online"
HORIZON = 5


def tensors_of(seed: int, update: int) -> Tensors:
    """The policy after so many updates: most numbers as before, some changed."""
    body = np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)
    changed = np.random.default_rng([seed, update]).integers(0, SIZE, SIZE // 10)
    body[changed] += np.float32(1e-3) * update
    return {"body": body, "gain": np.ones(2, np.float32)}


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Of the numbers that a policy acts with."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(np.ascontiguousarray(tensors[name]).tobytes())
    return found.hexdigest()


def expected(seed: int, rows: Sequence[WeightsRow]) -> dict[int, str]:
    """Version to the digest that its policy must have; empty text where the row or its place in the
    chain is not what was published."""
    promised, before = {}, ""
    for row in rows:
        follows = row.chain == row.chained(before)
        promised[row.version] = digest(tensors_of(seed, row.update)) if follows else ""
        before = row.chain
    return promised


def publish_on(seed: int, catalog: Catalog, objects: Objects, stop: threading.Event) -> None:
    """Publish version after version; a process that was killed goes on where it was."""
    while not stop.is_set():
        try:
            newest = catalog.latest_weights()
            update = newest.update + 1 if newest else 1
            trained = Trained(STAGE, update, catalog.snapshot_version())
            publish(objects, catalog, tensors_of(seed, update), {"update": str(update)}, trained)
        except ServiceError as error:
            log.warning("publisher waits reason=%s", error)
        stop.wait(PUBLISH_S)


class WitnessedPolicy:
    """Goes straight to the goal, and writes down at every episode what it is made of."""

    normalisation_hash = tokenizer_hash = ""

    def __init__(self, tensors: Tensors, version: int, journal: Journal):
        self.version = version
        self._tensors, self._journal = tensors, journal

    def reset(self, seed: int) -> None:
        """Say what acts in the episode that begins."""
        self._journal.write(acts=self.version, digest=digest(self._tensors))

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """[horizon, 2] the goal."""
        return np.tile(observation.state[2:] * self._tensors["gain"], (HORIZON, 1))


def build_with(journal: Journal):
    """Makes policies that write into a journal."""

    def _build(tensors: Tensors, metadata: Metadata, version: int) -> WitnessedPolicy:
        return WitnessedPolicy(tensors, version, journal)

    return _build
