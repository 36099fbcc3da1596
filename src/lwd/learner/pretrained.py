"""A train state that begins with networks that others have trained."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from lwd.config import ControlConfig
from lwd.config.pretrained import PretrainedConfig
from lwd.errors import ConfigError
from lwd.learner.state import TrainState
from lwd.models.checkpoints.pretrained import load_backbone, load_pi05
from lwd.models.fns import Params
from lwd.models.inputs.format import InputFormat
from lwd.models.presets import VLA, sized


def require_present(pretrained: PretrainedConfig, preset: str) -> None:
    """Before anything is compiled: ConfigError for a preset that begins with no checkpoint, or a
    path where nothing is."""
    paths = {name: getattr(pretrained, name) for name in ("policy", "gemma3", "siglip")}
    given = {name: path for name, path in paths.items() if path}
    if given and preset not in VLA:
        raise ConfigError(
            f"preset {preset!r} begins with no checkpoint of others; choose one of "
            f"{', '.join(VLA)}, or leave the paths out."
        )
    for name, path in given.items():
        if not Path(path).exists():
            raise ConfigError(f"pretrained.{name} is {path}; no such file or folder is there.")


def begin_with(
    state: TrainState,
    pretrained: PretrainedConfig,
    preset: str,
    control: ControlConfig,
    key: Array,
    robot: InputFormat | None = None,
) -> TrainState:
    """`state` with the policy, its reference and the critic's backbone from checkpoints, each array
    where the old one was. Every host reads the files; `key` is for what they do not hold, `robot`
    how the inputs of another robot than the simulated one are made.

    ConfigError as `require_present`; IntegrityError names what does not fit.
    """
    require_present(pretrained, preset)
    if not (pretrained.policy or pretrained.gemma3):
        return state
    sizes, keys = sized(preset, control, robot=robot), jax.random.split(key)
    if pretrained.policy:
        theta = load_pi05(Path(pretrained.policy), sizes.policy, keys[0])
        state = state._replace(
            policy=_in_place(state.policy, theta), reference=_in_place(state.reference, theta)
        )
    if pretrained.gemma3:
        paths = Path(pretrained.gemma3), Path(pretrained.siglip)
        backbone = load_backbone(*paths, sizes.critic, keys[1])
        q, target = (
            {**tree, "backbone": _in_place(tree["backbone"], backbone)}
            for tree in (state.q, state.target_q)
        )
        state = state._replace(q=q, target_q=target)
    return state


def _in_place(old: Params, new: Params) -> Params:
    """New values with the types and places of the old; None stays where there was nothing."""

    def place(before: Any, value: Any) -> Any:
        if before is None:
            return None
        whole = np.asarray(value)
        return jax.make_array_from_callback(
            before.shape, before.sharding, lambda at: whole[at].astype(before.dtype)
        )

    return jax.tree.map(place, old, new, is_leaf=lambda leaf: leaf is None)
