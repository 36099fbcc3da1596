"""What a model conditions on, in numpy: `lwd.models.fns.Inputs(*prepared)` is the same in JAX."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Image = np.ndarray | bytes
"""[height, width, 3] uint8, or a JPEG of it, as episodes keep them."""
Images = Mapping[str, Sequence[Image | None] | np.ndarray]
"""By camera of the robot, an image for each row of a batch; None where there is none."""


class Prepared(NamedTuple):
    """A batch in network units, fields in the order of `lwd.models.fns.Inputs`."""

    state: np.ndarray
    """[batch, state] float32."""
    tokens: np.ndarray
    """[batch, tokens] int32, 0 where there is none."""
    images: Mapping[str, np.ndarray] | None = None
    """By camera of the model, [batch, side, side, 3] uint8; None for a preset that does not see."""
    image_mask: Mapping[str, np.ndarray] | None = None
    """By camera of the model, [batch] bool: whether there is an image."""
    critic_tokens: np.ndarray | None = None
    """The same words in a critic's vocabulary, [batch, tokens] int32; None where it has the
    policy's, and on a robot."""
