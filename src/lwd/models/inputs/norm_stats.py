"""Statistics of states and actions, and openpi's norm_stats.json, which holds them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lwd.config.embodiment import Normalisation
from lwd.errors import ConfigError, IntegrityError

EPSILON = 1e-6
"""What openpi adds to a range or a deviation before it divides."""


class NormStats(NamedTuple):
    """Statistics of one quantity, [dimensions] float64 each, as openpi keeps them."""

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray
    q99: np.ndarray

    def normalise(self, x: np.ndarray, by: Normalisation) -> np.ndarray:
        """[..., dimensions] in robot units to network units: [q01, q99] to [-1, 1], not clipped,
        or to zero mean and unit variance. Float64, as in openpi."""
        if by == "zscore":
            return (x - self.mean) / (self.std + EPSILON)
        return (x - self.q01) / (self.q99 - self.q01 + EPSILON) * 2 - 1

    def restore(self, x: np.ndarray, by: Normalisation) -> np.ndarray:
        """Inverse of `normalise`."""
        if by == "zscore":
            return x * (self.std + EPSILON) + self.mean
        return (x + 1) / 2 * (self.q99 - self.q01 + EPSILON) + self.q01

    def of_places(self, places: Sequence[int], what: str) -> "NormStats":
        """Statistics of what a policy reads, by its places in the robot's vector: as many as there
        are, with padding behind them or, for the first places, with anything (openpi takes the
        first ones). ConfigError if there are fewer, or it cannot be told which they are."""
        count, wanted = len(self.mean), len(places)
        if count < wanted:
            raise ConfigError(
                f"norm stats of {what} have {count} dimensions, but there are {wanted}. Compute "
                "them for this robot: lwd normstats compute."
            )
        padding = np.abs([array[wanted:] for array in self]) < EPSILON
        if not padding.all() and list(places) != list(range(wanted)):
            raise ConfigError(
                f"norm stats of {what} have {count} dimensions and do not say which, but the "
                f"policy reads the {wanted} numbers {_places(places)}. Cut the file to these, in "
                "this order, or compute it for this robot: lwd normstats compute."
            )
        return NormStats(*(array[:wanted] for array in self))


def of(x: np.ndarray) -> NormStats:
    """Exact statistics of [samples, dimensions]."""
    if len(x) < 2:
        raise ConfigError(f"{len(x)} samples to take statistics of; at least 2 are needed.")
    return widened(NormStats(x.mean(0), x.std(0), *np.quantile(x, (0.01, 0.99), axis=0)))


def widened(stats: NormStats) -> NormStats:
    """The same with a deviation of 1, and a range of 1 to both sides, for constant dimensions:
    what never changed is 0 in network units, not noise that was divided by nothing."""
    constant = stats.std < EPSILON
    still = stats.q99 - stats.q01 < EPSILON
    return NormStats(
        mean=stats.mean,
        std=np.where(constant, 1.0, stats.std),
        q01=np.where(still, stats.q01 - 1, stats.q01),
        q99=np.where(still, stats.q99 + 1, stats.q99),
    )


def read_norm_stats(
    file: Path, state: Sequence[int] | None = None, horizon: int | None = None
) -> dict[str, NormStats]:
    """Statistics by quantity (`state`, `actions`) of a norm_stats.json; IntegrityError if it is
    none.

    ConfigError if the file says that they are of other numbers of the robot's state than `state`,
    or of relative actions over chunks of another length than `horizon`: they lie farther the longer
    a chunk is. Files of `lwd normstats compute` say so; openpi's own do not.
    """
    try:
        found = json.loads(file.read_text())
        stats = {name: _stats(name, values) for name, values in found["norm_stats"].items()}
        about = found.get("lwd", {})
        given, length = about.get("inputs", {}).get("state"), about.get("horizon")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{file} is no norm_stats.json of openpi: {error!r}. Expected an object norm_stats "
            "with mean, std, q01 and q99 of state and actions."
        ) from error
    if state is not None and given is not None and list(given) != list(state):
        raise ConfigError(
            f"{file} has statistics of {len(given)} numbers of the state, {_places(given)}; here "
            f"the model reads {len(state)}, {_places(state)}. Compute them for this preset: "
            "lwd normstats compute with the same --preset or --inputs."
        )
    if horizon is not None and length not in (None, horizon):
        raise ConfigError(
            f"{file} has statistics of relative actions over chunks of {length} ticks; here they "
            f"have {horizon}. Compute them again: lwd normstats compute --horizon {horizon}."
        )
    return stats


def write_norm_stats(
    file: Path, stats: Mapping[str, NormStats], about: Mapping[str, Any] | None = None
) -> None:
    """Write statistics so that openpi reads them; `about` goes beside them, where it looks not."""
    values = {
        name: {field: array.tolist() for field, array in one._asdict().items()}
        for name, one in stats.items()
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = {} if about is None else {"lwd": dict(about)}
    file.write_text(json.dumps({"norm_stats": values, **beside}, indent=2))


def tensors_of(stats: Mapping[str, NormStats]) -> dict[str, np.ndarray]:
    """By `quantity_field`, for the artifact that travels to the robot."""
    return {
        f"{name}_{field}": np.asarray(array, np.float64)
        for name in sorted(stats)
        for field, array in stats[name]._asdict().items()
    }


def from_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, NormStats]:
    """Inverse of `tensors_of`; IntegrityError names what is missing."""
    wanted = [f"{name}_{field}" for name in ("state", "actions") for field in NormStats._fields]
    if missing := [name for name in wanted if name not in tensors]:
        raise IntegrityError(f"norm stats lack {missing}; expected {wanted}.")
    return {
        name: NormStats(
            *(np.asarray(tensors[f"{name}_{f}"], np.float64) for f in NormStats._fields)
        )
        for name in ("state", "actions")
    }


def sha256_of(stats: Mapping[str, NormStats]) -> str:
    """Names these statistics."""
    digest = hashlib.sha256()
    for name, tensor in tensors_of(stats).items():
        digest.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def _places(indices: Sequence[int]) -> str:
    """The first of them, and the last."""
    shown = [str(index) for index in indices]
    return ", ".join([*shown[:4], "...", shown[-1]] if len(shown) > 6 else shown)


def _stats(name: str, values: Mapping[str, Any]) -> NormStats:
    arrays = [np.asarray(values[field], np.float64) for field in NormStats._fields]
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
        raise ValueError(f"{name} has arrays of shapes {[array.shape for array in arrays]}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{name} has numbers that are not finite")
    return NormStats(*arrays)
