"""Checkpoints that survive a kill at any moment and resume to the same bits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from lwd.errors import ConfigError
from lwd.learner.state import TrainState
from lwd.models.fns import Params
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

    def restore(self, like: TrainState) -> tuple[Position, TrainState, Normaliser] | None:
        """The newest checkpoint in the shape and sharding of `like`; None where there is none."""
        step = self._manager.latest_step()
        return None if step is None else self._read(step, ocp.args.StandardRestore(like))

    def networks(
        self, like: Mapping[str, Params], *, step: int | None = None
    ) -> tuple[Position, dict[str, Params], Normaliser] | None:
        """Some networks of `TrainState` by name, without the rest; None where nothing is saved.

        Also reads what an older version saved, whose state had other parts. The newest checkpoint,
        or the one numbered `step`; ConfigError if that is not there.
        """
        known = sorted(self._manager.all_steps())
        if step is not None and step not in known:
            raise ConfigError(f"checkpoint {step} is not there; there are {known}.")
        if not known:
            return None
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, dict(like))
        placed = ocp.checkpoint_utils.construct_restore_args(shapes)
        wanted = ocp.args.PyTreeRestore(shapes, restore_args=placed, partial_restore=True)
        return self._read(known[-1] if step is None else step, wanted)

    def _read(self, step: int, state: ocp.args.CheckpointArgs) -> tuple[Position, Any, Normaliser]:
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=state,
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
