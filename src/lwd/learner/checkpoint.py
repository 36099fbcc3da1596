"""Checkpoints that survive a kill at any moment and resume to the same bits."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from lwd.errors import ConfigError
from lwd.learner.state import TrainState
from lwd.models.normaliser import Normaliser


class Position(NamedTuple):
    """Where in Algorithm 1 a run stands."""

    stage: str
    """`sft`, `offline` or `online`."""
    update: int
    """Updates done in that stage."""


class Checkpoints:
    """The newest few checkpoints under one folder; a half-written one is never seen."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, position: Position, state: TrainState, normaliser: Normaliser) -> None:
        """Write in the background; steps count up over all stages."""
        step = (self._manager.latest_step() or 0) + 1
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                normaliser=ocp.args.StandardSave(normaliser.tensors()),
                position=ocp.args.JsonSave(position._asdict()),
            ),
        )

    def restore(
        self, like: TrainState, *, step: int | None = None
    ) -> tuple[Position, TrainState, Normaliser] | None:
        """The newest checkpoint in the shape and sharding of `like`; None where there is none.

        With `step`, the checkpoint of that number; ConfigError if it is not there.
        """
        known = sorted(self._manager.all_steps())
        if step is not None and step not in known:
            raise ConfigError(f"checkpoint {step} is not there; there are {known}.")
        if not known:
            return None
        step = known[-1] if step is None else step
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(like),
                normaliser=ocp.args.StandardRestore(),
                position=ocp.args.JsonRestore(),
            ),
        )
        tensors = {name: np.asarray(tensor) for name, tensor in restored["normaliser"].items()}
        position = Position(**restored["position"])
        return position, restored["state"], Normaliser.from_tensors(tensors)

    def close(self) -> None:
        """Wait for writes under way."""
        self._manager.wait_until_finished()
        self._manager.close()
