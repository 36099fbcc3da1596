"""The package's side: datasets with the rewards of one task, and its environment."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from ogbench.utils import make_env_and_datasets  # pyright: ignore[reportMissingImports]

from benchmarks.ogbench.data import sparse

Reward = Literal["authors", "package"]

SPARSE = ("scene", "puzzle-3x3")
"""Domains whose rewards the authors of QAM make -1 until everything is done. The package's own
count the objects that are not where they should be, and are learned from with less data."""
INV_TEMP = {"scene": 1.0, "cube-single": 1.0, "cube-double": 1.0, "puzzle-3x3": 3.0}
"""The authors' inverse temperatures; they have none for cube-single: that of cube-double."""
EXPECTILE = {"puzzle-3x3": 0.95}
"""The authors' expectiles for IQL where it is not 0.9."""


def name(domain: str, kind: str, task: int) -> str:
    """Name of a single-task dataset in the package."""
    return f"{domain}-{kind}-singletask-task{task}-v0"


def load(
    env: Any, domain: str, kind: str, task: int, *, folder: Path, reward: Reward
) -> dict[str, np.ndarray]:
    """Generated training data with the rewards and masks of the task, which `env` is of.

    Raises FileNotFoundError with the command that makes the data.
    """
    path = folder / f"{domain}-{kind}-v0.npz"
    if not path.exists():
        make = f"python -m benchmarks.ogbench.generate --domain {domain} --kind {kind}"
        raise FileNotFoundError(f"{path} is missing. Make it: {make} --episodes {folder.name}")
    dataset, _ = make_env_and_datasets(
        name(domain, kind, task),
        dataset_path=str(path),
        dataset_only=True,
        cur_env=env,
    )
    if reward == "authors" and domain in SPARSE:
        dataset["rewards"] = sparse(dataset["rewards"])
    return dataset


def environment(domain: str, kind: str, task: int) -> Any:
    """The environment that the package evaluates this task in; `success` ends an episode."""
    return make_env_and_datasets(name(domain, kind, task), env_only=True)
