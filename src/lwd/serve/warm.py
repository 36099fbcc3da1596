"""A request that a policy can be warmed up with, made of nothing but its weights."""

from collections.abc import Mapping

import numpy as np

from lwd.actor.robot import Observation
from lwd.errors import IntegrityError
from lwd.models.inputs.format import InputFormat
from lwd.serve.batch import Asked

STATE = "normaliser/state_mean"
"""Tensor of every artifact: the mean of the states that the policy reads."""


def example(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Asked:
    """The mean state, black images from every camera of the robot, and an instruction."""
    if STATE not in tensors:
        raise IntegrityError(f"weights lack tensor {STATE!r}; so no request can be made up.")
    mean, images = np.asarray(tensors[STATE], np.float32), {}
    state = mean
    if "inputs" in metadata:
        form = InputFormat.from_json(metadata["inputs"])
        state = np.zeros(max(*form.state, *form.anchors, 0) + 1, np.float32)
        state[list(form.state)] = mean[: len(form.state)]
        black = np.zeros((form.image, form.image, 3), np.uint8)
        images = {robot: black for _, robot in form.cameras if robot}
    return Asked(
        observation=Observation(state=state, images=images),
        instruction="wait",
        rng=np.random.default_rng(0),
    )
