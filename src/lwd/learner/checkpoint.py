"""Checkpoints that survive a kill at any moment and resume to the same bits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from lwd.errors import ConfigError, IntegrityError
from lwd.learner.state import TrainState
from lwd.models.fns import Params
from lwd.models.normaliser import Normaliser


class Position(NamedTuple):
    """Where in Algorithm 1 a run stands."""

    stage: str
    """`sft`, `offline` or `online`."""
    update: int
    """Updates done in that stage."""


class Saved(NamedTuple):
    """A checkpoint."""

    position: Position
    state: TrainState
    normaliser: Normaliser
    snapshot: int
    """Version that was bound: a resumed run draws the same batches from it."""
    policy: int
    """Version of the weights that was published last."""


class Checkpoints:
    """The newest few checkpoints under one folder; a half-written one is never seen."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._folder = folder.absolute()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(
        self,
        position: Position,
        state: TrainState,
        normaliser: Normaliser,
        *,
        snapshot: int,
        policy: int,
    ) -> None:
        """Write in the background; steps count up over all stages."""
        reached = position._asdict() | {"snapshot": snapshot, "policy": policy}
        step = (self._manager.latest_step() or 0) + 1
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                normaliser=ocp.args.StandardSave(normaliser.tensors()),
                position=ocp.args.JsonSave(reached),
            ),
        )

    def restore(self, like: TrainState) -> Saved | None:
        """The newest checkpoint in the shape and sharding of `like`; None where there is none.

        Raises ConfigError if it was saved with other settings, IntegrityError if it is damaged.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        self._check_shapes(step, like)
        reached, state, normaliser = self._read(step, ocp.args.StandardRestore(like))
        position = Position(reached["stage"], reached["update"])
        return Saved(position, state, normaliser, reached["snapshot"], reached["policy"])

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
        reached, state, normaliser = self._read(known[-1] if step is None else step, wanted)
        return Position(reached["stage"], reached["update"]), state, normaliser

    def _read(
        self, step: int, state: ocp.args.CheckpointArgs
    ) -> tuple[dict[str, Any], Any, Normaliser]:
        """What `save` wrote about the run, the networks that `state` asks for, the normaliser."""
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=state,
                    normaliser=ocp.args.StandardRestore(),
                    position=ocp.args.JsonRestore(),
                ),
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise self._damaged(step, error) from error
        tensors = {name: np.asarray(tensor) for name, tensor in restored["normaliser"].items()}
        return restored["position"], restored["state"], Normaliser.from_tensors(tensors)

    def _check_shapes(self, step: int, like: TrainState) -> None:
        """ConfigError at the first leaf that was saved with another shape than `like` has."""
        try:
            saved = ocp.PyTreeCheckpointHandler().metadata(
                self._manager.directory / str(step) / "state"
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise self._damaged(step, error) from error
        here, there = _shapes(like), _shapes(saved)
        if not there:
            raise self._damaged(step, "the description of its arrays cannot be read.")
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name):
                raise ConfigError(
                    f"Checkpoint {self._folder / str(step)} has {name} of shape "
                    f"{there.get(name, 'absent')}; these settings need {here.get(name, 'absent')}. "
                    f"Give the recipe and the settings that it was trained with, or another --root."
                )

    def _damaged(self, step: int, error: Exception | str) -> IntegrityError:
        others = sorted(set(self._manager.all_steps()) - {step})
        return IntegrityError(
            f"Checkpoint {self._folder / str(step)} is damaged: {error} Delete this folder to go "
            f"on from the one before it; there are {others}. Without any, training starts anew."
        )

    def close(self) -> None:
        """Wait for writes under way."""
        self._manager.wait_until_finished()
        self._manager.close()


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every array by its path; lists, tuples and their fields all read alike."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_path(path): tuple(leaf.shape) for path, leaf in leaves}


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
