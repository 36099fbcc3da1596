from types import SimpleNamespace

import jax
import numpy as np
import pytest

from lwd.config import COMPACT, FULL, StateLayout
from lwd.errors import IntegrityError
from lwd.models.artifact import FlowPolicy, expected_shapes, pack, unpack
from lwd.models.normaliser import Normaliser
from lwd.models.presets import build

INSTRUCTION = "put the red can on the shelf"


@pytest.fixture
def packed(rng):
    policy, _ = build("state", COMPACT)
    state = rng.normal(size=(32, StateLayout().size)).astype(np.float32)
    action = rng.normal(size=(32, 10, 16)).astype(np.float32)
    normaliser = Normaliser.fit(state, action)
    params = policy.init(jax.random.key(0))
    return params, *pack(params, normaliser, preset="state", control=COMPACT)


def test_parameters_round_trip_bit_for_bit(packed):
    params, tensors, metadata = packed
    again, _, _ = unpack(tensors, metadata, COMPACT)
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_every_tensor_of_the_policy_is_announced_with_its_shape(packed):
    _, tensors, _ = packed
    sent = {name: t.shape for name, t in tensors.items() if name.startswith("policy/")}
    assert sent == expected_shapes("state", COMPACT)


def test_a_chunk_is_absolute_targets_and_repeats_with_the_seed(packed, rng):
    _, tensors, metadata = packed
    policy = FlowPolicy(tensors, metadata, 7, control=COMPACT)
    seen = SimpleNamespace(state=rng.normal(size=StateLayout().size).astype(np.float32))
    policy.reset(3)
    first, second = policy.chunk(seen, INSTRUCTION), policy.chunk(seen, INSTRUCTION)
    policy.reset(3)
    assert policy.version == 7
    assert first.shape == (10, 16)
    assert np.abs(first - second).max() > 0
    np.testing.assert_array_equal(policy.chunk(seen, INSTRUCTION), first)


def test_what_does_not_fit_is_named(packed):
    _, tensors, metadata = packed
    name = "policy/out/w"
    with pytest.raises(IntegrityError, match=f"lack tensor '{name}'"):
        unpack({n: t for n, t in tensors.items() if n != name}, metadata, COMPACT)
    with pytest.raises(IntegrityError, match=f"tensor '{name}' has shape"):
        unpack(tensors | {name: tensors[name][:1]}, metadata, COMPACT)
    with pytest.raises(IntegrityError, match="horizon '10', here it is '30'"):
        unpack(tensors, metadata, FULL)
    moved = tensors["normaliser/state_mean"] + 1
    with pytest.raises(IntegrityError, match="normalisation statistics differ"):
        unpack(tensors | {"normaliser/state_mean": moved}, metadata, COMPACT)
