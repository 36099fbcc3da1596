"""Weights: object before pointer, verified on the way back, the same bytes for the same tensors."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np
import pytest

from lwd.errors import IntegrityError, MissingError, NonFiniteError
from lwd.store import weights
from lwd.store.catalog import Catalog
from lwd.store.delta import difference
from lwd.store.objects import Objects
from lwd.store.rows import WeightsRow

TENSORS = {
    "layer/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layer/bias": np.zeros(3, ml_dtypes.bfloat16),
    "scale": np.float32(2.0).reshape(()),
}
SHAPES = {"layer/kernel": (2, 3), "layer/bias": (3,), "scale": ()}
METADATA = {f"key{i}": json.dumps({"i": i}) for i in range(8)}


@dataclass
class FakeObjects:
    """Objects in a dictionary; `order` says what was written when, with the pointer's moves."""

    held: dict[str, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    fetched: int = 0

    def put(self, key: str, data: bytes) -> None:
        self.held[key] = data
        self.order.append("object")

    def exists(self, key: str) -> bool:
        return key in self.held

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        if key not in self.held:
            raise MissingError(f"{key} is not there")
        data = self.held[key]
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise IntegrityError(f"{key} has another hash")
        return data

    def head(self, key: str) -> int:
        return len(self.get(key))

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        self.fetched += key.endswith(".safetensors")
        return self.held[key][offset : offset + size]


@dataclass
class Pointer:
    """The catalog's pointer to the newest weights."""

    order: list[str]
    rows: list[WeightsRow] = field(default_factory=list)

    def latest_weights(self) -> WeightsRow | None:
        return self.rows[-1] if self.rows else None

    def publish_weights(self, row: WeightsRow) -> WeightsRow:
        self.order.append("pointer")
        self.rows.append(replace(row, version=len(self.rows) + 1))
        return self.rows[-1]


@pytest.fixture
def objects() -> FakeObjects:
    return FakeObjects()


@pytest.fixture
def pointer(objects: FakeObjects) -> Pointer:
    return Pointer(objects.order)


def publish(objects, pointer, tensors=TENSORS, update=1) -> WeightsRow:
    return weights.publish(objects, pointer, tensors, METADATA, weights.Trained("sft", update, 3))


def test_what_is_fetched_is_what_was_published(objects, pointer, tmp_path):
    row = publish(objects, pointer)
    tensors, metadata = weights.fetch(objects, row, folder=tmp_path, expect=SHAPES)
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        assert np.array_equal(tensors[name], tensor)


def test_a_transposed_tensor_keeps_its_values(objects, pointer, tmp_path):
    kernel = TENSORS["layer/kernel"].T
    row = publish(objects, pointer, {"kernel": kernel})
    tensors, _ = weights.fetch(objects, row, folder=tmp_path)
    assert np.array_equal(tensors["kernel"], kernel)


def test_object_is_whole_before_the_pointer_moves(objects, pointer):
    row = publish(objects, pointer)
    assert objects.order == ["object", "pointer"]
    data = objects.held[f"weights/{row.sha256}.safetensors"]
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (row.sha256, row.size_bytes)


def test_same_tensors_always_give_the_same_bytes():
    assert len({weights.encode(TENSORS, METADATA) for _ in range(10)}) == 1


def test_publishing_again_changes_nothing(objects, pointer):
    first = publish(objects, pointer)
    assert publish(objects, pointer) == first
    assert len(pointer.rows) == 1


def test_going_back_to_older_tensors_is_a_new_version(objects, pointer):
    first = publish(objects, pointer)
    publish(objects, pointer, {"other": np.ones(2, np.float32)}, update=2)
    again = publish(objects, pointer)
    assert (again.version, again.sha256) == (3, first.sha256)


def test_nan_is_refused_before_anything_is_written(objects, pointer):
    broken = TENSORS | {"layer/bias": np.array([0, np.nan, 1], ml_dtypes.bfloat16)}
    with pytest.raises(NonFiniteError, match="'layer/bias'"):
        publish(objects, pointer, broken)
    assert objects.order == []


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        (SHAPES | {"scale": (1,)}, r"'scale' has shape \(\); expected \(1,\)"),
        (SHAPES | {"head": (2,)}, "'head' is missing"),
        ({"scale": ()}, "'layer/bias' is not expected"),
    ],
)
def test_another_architecture_names_the_tensor(objects, pointer, tmp_path, expect, message):
    row = publish(objects, pointer)
    with pytest.raises(IntegrityError, match=message):
        weights.fetch(objects, row, folder=tmp_path, expect=expect)


def test_flipped_and_cut_objects_are_refused(objects, pointer, tmp_path):
    row = publish(objects, pointer)
    key, data = next(iter(objects.held.items()))
    objects.held[key] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(IntegrityError, match="has sha256"):
        weights.fetch(objects, row, folder=tmp_path)
    objects.held[key] = data[:-4]
    with pytest.raises(IntegrityError, match=f"version 1 promised {len(data)}"):
        weights.fetch(objects, row, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_row_cannot_name_a_path(objects, pointer, tmp_path):
    row = replace(publish(objects, pointer), sha256="../../etc/passwd")
    with pytest.raises(IntegrityError, match="not a sha256"):
        weights.fetch(objects, row, folder=tmp_path)


def test_garbage_with_the_right_hash_is_not_an_artifact(objects, tmp_path):
    data = b"\x10" + b"\0" * 40
    row = WeightsRow(
        version=1,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        snapshot=0,
        stage="sft",
        update=0,
    )
    objects.put(weights.key(row.sha256), data)
    with pytest.raises(IntegrityError, match="not a whole safetensors artifact"):
        weights.fetch(objects, row, folder=tmp_path)


def test_a_fetched_file_is_used_again_unless_damaged(objects, pointer, tmp_path):
    row = publish(objects, pointer)
    weights.fetch(objects, row, folder=tmp_path)
    weights.fetch(objects, row, folder=tmp_path)
    assert objects.fetched == 1
    path = tmp_path / f"{row.sha256}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    weights.fetch(objects, row, folder=tmp_path)
    assert objects.fetched == 2


def test_eviction_keeps_what_is_named(objects, pointer, tmp_path):
    old = publish(objects, pointer)
    new = publish(objects, pointer, {"other": np.ones(2, np.float32)}, update=2)
    for row in (old, new):
        weights.fetch(objects, row, folder=tmp_path)
    weights.evict(tmp_path, keep=[new.sha256])
    assert [path.stem for path in tmp_path.iterdir()] == [new.sha256]


def nudged(step: int) -> dict[str, np.ndarray]:
    """A policy as training leaves it after some steps."""
    return {"kernel": np.linspace(1, 2, 500, dtype=np.float32) * (1 + 1e-6 * step)}


def whole_fetches(objects, row, folder) -> int:
    """Artifacts that had to be fetched whole for a version; what came is checked."""
    before = objects.fetched
    tensors, _ = weights.fetch(objects, row, folder=folder)
    assert np.array_equal(tensors["kernel"], nudged(row.update)["kernel"])
    return objects.fetched - before


def test_a_robot_with_the_version_before_fetches_the_difference(objects, pointer, tmp_path):
    rows = [publish(objects, pointer, nudged(k), update=k) for k in range(4)]
    assert [whole_fetches(objects, row, tmp_path) for row in rows[:3]] == [1, 0, 0]
    delta = objects.held[weights.delta_key(rows[0].sha256, rows[1].sha256)]
    assert len(delta) < 0.7 * rows[1].size_bytes


def test_a_robot_that_missed_a_version_fetches_the_whole(objects, pointer, tmp_path):
    rows = [publish(objects, pointer, nudged(k), update=k) for k in range(3)]
    assert [whole_fetches(objects, rows[k], tmp_path) for k in (0, 2)] == [1, 1]


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"", lambda d: b"\x02" + d])
def test_a_damaged_difference_costs_only_a_download(objects, pointer, tmp_path, damage):
    old, new = (publish(objects, pointer, nudged(k), update=k) for k in range(2))
    name = weights.delta_key(old.sha256, new.sha256)
    objects.held[name] = damage(objects.held[name])
    assert [whole_fetches(objects, row, tmp_path) for row in (old, new)] == [1, 1]


def test_the_difference_to_another_artifact_is_noticed(objects, pointer, tmp_path):
    old, new = (publish(objects, pointer, nudged(k), update=k) for k in range(2))
    objects.held[weights.delta_key(old.sha256, new.sha256)] = difference(
        objects.held[weights.key(old.sha256)], weights.encode(nudged(7), METADATA)
    )
    assert [whole_fetches(objects, row, tmp_path) for row in (old, new)] == [1, 1]


def test_a_lost_predecessor_leaves_the_whole(objects, pointer, tmp_path):
    old = publish(objects, pointer, nudged(0), update=0)
    del objects.held[weights.key(old.sha256)]
    assert whole_fetches(objects, publish(objects, pointer, nudged(1), update=1), tmp_path) == 1


def test_what_training_leaves_alone_is_fetched_once(objects, pointer, tmp_path):
    base = {"vlm": np.arange(1000, dtype=np.float32)}
    rows = [
        weights.publish(
            *(objects, pointer, nudged(k) | base, METADATA),
            weights.Trained("online", k, 0),
            frozen=["vlm"],
        )
        for k in range(3)
    ]
    assert rows[0].size_bytes < base["vlm"].nbytes, "the base is not in it"
    assert [whole_fetches(objects, row, tmp_path) for row in rows] == [2, 0, 0]
    tensors, _ = weights.fetch(objects, rows[2], folder=tmp_path)
    assert np.array_equal(tensors["vlm"], base["vlm"])
    weights.evict(tmp_path, keep=[rows[2].sha256])
    assert len(list(tmp_path.iterdir())) == 2, "the newest and its base"


def test_a_frozen_tensor_that_is_not_there_is_named(objects, pointer):
    with pytest.raises(ValueError, match="'vlm' is not among the 1 given"):
        weights.publish(
            *(objects, pointer, nudged(0), METADATA),
            weights.Trained("online", 0, 0),
            frozen=["vlm"],
        )


def test_the_real_store_and_catalog_do_what_publishing_needs(tmp_path):
    objects = Objects((tmp_path / "objects").as_uri())
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.db'}", clock=lambda: 50.0)
    try:
        row = publish(objects, catalog)
        assert publish(objects, catalog) == row == catalog.latest_weights()
        assert (row.version, row.published_at) == (1, 50.0)
        tensors, metadata = weights.fetch(objects, row, folder=tmp_path / "fetched", expect=SHAPES)
        assert metadata == METADATA
        assert np.array_equal(tensors["layer/kernel"], TENSORS["layer/kernel"])
        assert publish(objects, catalog, update=2).version == 2
        missing = replace(row, sha256="0" * 64)
        with pytest.raises(MissingError):
            weights.fetch(objects, missing, folder=tmp_path / "fetched")
    finally:
        catalog.close()


FRESH = """
import sys
from pathlib import Path
from lwd.errors import ConfigError
from lwd.store.weights import load
assert "ml_dtypes" not in sys.modules
if len(sys.argv) > 2:
    sys.modules["ml_dtypes"] = None
try:
    print({name: str(tensor.dtype) for name, tensor in load(Path(sys.argv[1]))[0].items()})
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("installed", "said"), [(True, "{'a': 'bfloat16'}"), (False, "package ml_dtypes")]
)
def test_bfloat16_is_read_by_a_process_that_has_not_met_it_yet(tmp_path, installed, said) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(weights.encode({"a": np.ones(3, ml_dtypes.bfloat16)}, {}))
    command = [sys.executable, "-c", FRESH, str(path), *([] if installed else ["hidden"])]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert said in answer.stdout
