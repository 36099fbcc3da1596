"""Checkpoints that survive a kill at any moment and resume to the same bits."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from lwd.errors import ConfigError, IntegrityError
from lwd.learner.state import TrainState
from lwd.models.fns import Params
from lwd.models.inputs.preparation import Preparation

_PRIORITIES = "priorities"


class Position(NamedTuple):
    """Where in Algorithm 1 a run stands."""

    stage: str
    """`sft`, `offline` or `online`."""
    update: int
    """Updates done in that stage."""

    def begun(self, stages: Iterable[str]) -> list[str]:
        """Those of `stages`, in their order, of which an update has been done."""
        names = list(stages)
        return names[: names.index(self.stage) + (self.update > 0)]


class Saved(NamedTuple):
    """A checkpoint."""

    position: Position
    state: TrainState
    statistics: dict[str, np.ndarray]
    """`Preparation.tensors` of what made its inputs."""
    snapshot: int
    """Version that was bound: a resumed run draws the same batches from it."""
    policy: int
    """Version of the weights that was published last."""
    settings: dict[str, Any] | None
    """`lwd.learner.settings.as_json` of what it was trained with; None before these were kept."""
    priorities: dict[str, np.ndarray]
    """What the reader knew of TD losses; empty where no draw adapts to them."""


class Parts(NamedTuple):
    """Some networks of a checkpoint."""

    position: Position
    networks: dict[str, Params]
    """By their names in `TrainState`."""
    statistics: dict[str, np.ndarray]
    """`Preparation.tensors` of what made its inputs."""


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
        normaliser: Preparation,
        *,
        snapshot: int,
        policy: int,
        settings: Mapping[str, Any],
        priorities: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        """Write in the background; steps count up over all stages."""
        reached = position._asdict() | {"snapshot": snapshot, "policy": policy}
        step = (self._manager.latest_step() or 0) + 1
        known = {_PRIORITIES: ocp.args.StandardSave(dict(priorities))} if priorities else {}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                normaliser=ocp.args.StandardSave(normaliser.tensors()),
                position=ocp.args.JsonSave(reached),
                settings=ocp.args.JsonSave(dict(settings)),
                **known,
            ),
        )

    def position(self) -> Position | None:
        """Where the newest checkpoint stands, which says what shapes it has; None without one."""
        step = self._manager.latest_step()
        if step is None:
            return None
        reached = self._reached(step)
        return Position(reached["stage"], reached["update"])

    def restore(self, like: TrainState) -> Saved | None:
        """The newest checkpoint in the shapes and places of `like`; None where there is none.

        Raises ConfigError if it was saved with other settings, IntegrityError if it is damaged.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        reached = self._reached(step)
        self._check_shapes(step, like)
        state, statistics = self._read(step, ocp.args.StandardRestore(like))
        return Saved(
            Position(reached["stage"], reached["update"]),
            state,
            statistics,
            reached["snapshot"],
            reached["policy"],
            self.settings(step),
            self._priorities(step),
        )

    def settings(self, step: int | None = None) -> dict[str, Any] | None:
        """What the newest checkpoint, or the one numbered `step`, was trained with; None where
        nothing is saved or the version that saved it did not keep its settings."""
        step = self._number(step)
        if step is None or not (self._folder / str(step) / "settings").exists():
            return None
        return self._restore(step, settings=ocp.args.JsonRestore())["settings"]

    def networks(self, like: Mapping[str, Params], *, step: int | None = None) -> Parts | None:
        """Some networks of `TrainState` by name, in the shapes and places of `like`, without the
        rest; None where nothing is saved.

        Also reads what an older version saved, whose state had other parts. The newest checkpoint,
        or the one numbered `step`; ConfigError if that is not there.
        """
        step = self._number(step)
        if step is None:
            return None
        placed = ocp.checkpoint_utils.construct_restore_args(dict(like))
        wanted = ocp.args.PyTreeRestore(dict(like), restore_args=placed, partial_restore=True)
        reached = self._restore(step, position=ocp.args.JsonRestore())["position"]
        return Parts(Position(reached["stage"], reached["update"]), *self._read(step, wanted))

    def _number(self, step: int | None) -> int | None:
        """`step` or the newest; None where nothing is saved, ConfigError if `step` is absent."""
        known = sorted(self._manager.all_steps())
        if step is not None and step not in known:
            raise ConfigError(f"checkpoint {step} is not there; there are {known}.")
        return step if step is not None or not known else known[-1]

    def _reached(self, step: int) -> dict[str, Any]:
        """What `save` noted about the run; ConfigError if an older version noted less."""
        reached = self._restore(step, position=ocp.args.JsonRestore())["position"]
        if missing := sorted({"stage", "update", "snapshot", "policy"} - reached.keys()):
            raise ConfigError(
                f"Checkpoint {self._folder / str(step)} is of an older version, which did not note "
                f"its {' and '.join(missing)}: nobody can tell which batches come next. Finish the "
                f"run with the version that started it, or train anew with another --root; "
                f"`lwd diagnose critic` can read this one."
            )
        return reached

    def _read(self, step: int, state: ocp.args.CheckpointArgs) -> tuple[Any, dict[str, np.ndarray]]:
        """The networks that `state` asks for, and the statistics of their inputs."""
        found = self._restore(step, state=state, normaliser=ocp.args.StandardRestore())
        tensors = {name: np.asarray(tensor) for name, tensor in found["normaliser"].items()}
        return found["state"], tensors

    def _restore(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        """Some of what `save` wrote; IntegrityError if it cannot be read."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise self._damaged(step, error) from error

    def _priorities(self, step: int) -> dict[str, np.ndarray]:
        """As saved, or none."""
        if not (self._manager.directory / str(step) / _PRIORITIES).exists():
            return {}
        restored = self._restore(step, **{_PRIORITIES: ocp.args.StandardRestore()})[_PRIORITIES]
        return {name: np.asarray(array) for name, array in restored.items()}

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
