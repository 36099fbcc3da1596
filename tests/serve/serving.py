"""A server process of its own for tests that kill it: python serving.py ROOT SERVICE_URL PORT."""

import logging
import sys
from pathlib import Path

import numpy as np

from lwd.actor.robot import Observation
from lwd.config import PlaneConfig
from lwd.config.serving import ServeConfig
from lwd.serve.batch import Asked
from lwd.serve.policies import served
from lwd.serve.process import serve
from serve.point import CONTROL


class Gain:
    """Every action is its one tensor; made of fetched weights."""

    normalisation_hash = "a" * 64
    tokenizer_hash = "b" * 64

    def __init__(self, tensors, metadata, version):
        self.version, self._gain = version, float(tensors["gain"][0])

    def reset(self, seed):
        pass

    def chunk(self, observation, instruction):
        return self.chunks([observation], [instruction], [])[0]

    def chunks(self, observations, instructions, rngs):
        return np.full((len(observations), CONTROL.horizon, 2), self._gain, np.float32)


def example(tensors, metadata) -> Asked:
    seen = Observation(state=np.zeros(4, np.float32))
    return Asked(observation=seen, instruction="go", rng=np.random.default_rng(0))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    root, service_url, port = sys.argv[1:]
    serve(
        ServeConfig(port=int(port), record=True, executed=1, gap_s=30.0),
        PlaneConfig(root=Path(root), service_url=service_url),
        lambda control: served(Gain, 4, example),
    )
