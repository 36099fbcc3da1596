"""What the learner and a robot need of whatever turns a robot's units into a model's."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from lwd.models.inputs.prepared import Images, Prepared


@runtime_checkable
class Preparation(Protocol):
    """`Normaliser` for a preset that reads state vectors, `Processor` for one that sees."""

    @property
    def dimensions(self) -> int:
        """Dimensions of an action in network units, zero padding included."""
        ...

    @property
    def sha256(self) -> str:
        """Names the statistics."""
        ...

    def tensors(self) -> dict[str, np.ndarray]:
        """The statistics by name."""
        ...

    def metadata(self) -> dict[str, str]:
        """What a robot must have the same, and what it needs to make the same."""
        ...

    def observe(self, state: np.ndarray, images: Images, instructions: Sequence[str]) -> Prepared:
        """[batch, state] in robot units, images and instructions to a model's inputs."""
        ...

    def action(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """[batch, state] and absolute [batch, horizon, action] to float32 network units."""
        ...

    def restore(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Inverse of `action`."""
        ...
