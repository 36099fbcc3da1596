"""Statistics as openpi keeps them."""

import json

import numpy as np
import pytest

from lwd.errors import ConfigError, IntegrityError
from lwd.models.inputs.norm_stats import (
    NormStats,
    from_tensors,
    read_norm_stats,
    sha256_of,
    tensors_of,
    write_norm_stats,
)


@pytest.fixture
def stats():
    return {
        name: NormStats(*(np.arange(12.0).reshape(4, 3) + shift))
        for name, shift in (("state", 0.1), ("actions", 0.7))
    }


def same(first, second) -> None:
    assert first.keys() == second.keys()
    for name, one in first.items():
        np.testing.assert_array_equal(np.stack(one), np.stack(second[name]))


def test_the_file_round_trips_with_every_digit(stats, tmp_path):
    file = tmp_path / "assets" / "robot" / "norm_stats.json"
    write_norm_stats(file, stats, about={"ticks": 3})
    same(read_norm_stats(file), stats)
    whole = json.loads(file.read_text())
    assert whole["lwd"] == {"ticks": 3}
    assert whole["norm_stats"]["state"].keys() == {"mean", "std", "q01", "q99"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"norm_stats": {"state": {"mean": [1, 2], "std": [1]}}}',
        '{"norm_stats": {"state": {"mean": [1, 2], "std": [1], "q01": [0, 0], "q99": [1, 1]}}}',
        '{"norm_stats": {"state": {"mean": [NaN], "std": [1], "q01": [0], "q99": [1]}}}',
    ],
)
def test_another_file_is_refused(text, tmp_path):
    (tmp_path / "norm_stats.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"no norm_stats\.json of openpi"):
        read_norm_stats(tmp_path / "norm_stats.json")


def test_tensors_round_trip_and_every_digit_counts_in_the_hash(stats):
    tensors = tensors_of(stats)
    same(from_tensors(tensors), stats)
    moved = stats | {"state": stats["state"]._replace(mean=stats["state"].mean + 1e-12)}
    assert sha256_of(stats) == sha256_of(dict(reversed(stats.items())))
    assert sha256_of(moved) != sha256_of(stats)
    del tensors["state_q99"]
    with pytest.raises(IntegrityError, match=r"norm stats lack \['state_q99'\]"):
        from_tensors(tensors)


def test_quantiles_become_one_and_minus_one_without_a_clip(rng):
    x = rng.normal(size=(1000, 2)) * [1, 5] + [0, 3]
    stats = NormStats(x.mean(0), x.std(0), *np.quantile(x, [0.01, 0.99], axis=0))
    unit = stats.normalise(x, "quantile")
    np.testing.assert_allclose(
        np.quantile(unit, [0.01, 0.99], axis=0), [[-1, -1], [1, 1]], atol=1e-5
    )
    assert unit.max() > 1.05
    np.testing.assert_allclose(stats.restore(unit, "quantile"), x, atol=1e-12)
    unit = stats.normalise(x, "zscore")
    np.testing.assert_allclose(unit.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(stats.restore(unit, "zscore"), x, atol=1e-12)


def test_too_few_dimensions_are_refused(stats):
    assert len(stats["state"].of_places((0, 1), "state").mean) == 2
    with pytest.raises(ConfigError, match="norm stats of state have 3 dimensions, but there are 4"):
        stats["state"].of_places(range(4), "state")
