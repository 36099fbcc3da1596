"""Robot units to network units and back, the same on learner and robot, without JAX."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from lwd.config import StateLayout
from lwd.errors import ConfigError, IntegrityError
from lwd.models.inputs.prepared import Images, Prepared
from lwd.models.tokenizer import TOKENIZER_HASH, tokenize

LAYOUT = StateLayout()
POSITION_SCALE = 0.1
"""Scale of every position in m."""
STATE_FLOOR = 0.02
"""Smallest scale of a state dimension: rad, m or rad/s that count as no change."""
JOINT_FLOOR = 0.02
"""Smallest scale of a joint target in rad."""
GRIPPER_FLOOR = 0.005
"""Smallest scale of a gripper opening in m."""


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Affine maps fitted to demonstrations.

    An action chunk becomes joint targets relative to the joints measured at its start (grippers
    stay absolute), then zero mean and unit variance for each (tick, dimension).
    """

    state_mean: np.ndarray
    """[state] float32."""
    state_scale: np.ndarray
    """[state] float32."""
    action_mean: np.ndarray
    """[horizon, action] float32."""
    action_scale: np.ndarray
    """[horizon, action] float32."""

    @classmethod
    def fit(cls, state: np.ndarray, action: np.ndarray) -> "Normaliser":
        """From [windows, state] and [windows, horizon, action] in robot units."""
        if len(state) < 2:
            raise ConfigError(f"{len(state)} windows to normalise from; at least 2 are needed.")
        state_mean, state_scale = _state_statistics(state)
        relative = action - _anchor(state, action.shape[-1])[:, None]
        floor = np.where(_is_joint(action.shape[-1]), JOINT_FLOOR, GRIPPER_FLOOR)
        return cls(
            state_mean=state_mean,
            state_scale=state_scale,
            action_mean=relative.mean(0).astype(np.float32),
            action_scale=np.maximum(relative.std(0), floor).astype(np.float32),
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "Normaliser":
        """From the tensors of `tensors()`; IntegrityError names a missing one."""
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in tensors]
        if missing:
            raise IntegrityError(f"normaliser lacks {missing}; expected {names}.")
        return cls(**{name: np.asarray(tensors[name], np.float32) for name in names})

    def tensors(self) -> dict[str, np.ndarray]:
        """By field name, for the artifact that travels to the robot."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def dimensions(self) -> int:
        """Dimensions of an action."""
        return self.action_mean.shape[-1]

    def metadata(self) -> dict[str, str]:
        """What must be the same wherever the policy is used."""
        return {"normalisation_hash": self.sha256, "tokenizer_hash": TOKENIZER_HASH}

    def observe(self, state: np.ndarray, images: Images, instructions: Sequence[str]) -> Prepared:
        """[batch, state] in robot units and instructions to a model's inputs; it sees nothing."""
        distinct, index = np.unique(np.asarray(instructions), return_inverse=True)
        return Prepared(self.state(state), tokenize(distinct.tolist())[index])

    @property
    def sha256(self) -> str:
        """Names these statistics; an episode records which ones its policy used."""
        digest = hashlib.sha256()
        for name, tensor in self.tensors().items():
            digest.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def state(self, state: np.ndarray) -> np.ndarray:
        """[..., state] in robot units to network units, clipped to 10 deviations."""
        return np.clip((state - self.state_mean) / self.state_scale, -10, 10, dtype=np.float32)

    def action(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """[batch, state] and absolute [batch, horizon, action] to network units."""
        relative = action - _anchor(state, action.shape[-1])[:, None]
        return ((relative - self.action_mean) / self.action_scale).astype(np.float32)

    def restore(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Inverse of `action`: network units to absolute targets in rad and m."""
        relative = action * self.action_scale + self.action_mean
        return (relative + _anchor(state, action.shape[-1])[:, None]).astype(np.float32)


def _anchor(state: np.ndarray, actions: int) -> np.ndarray:
    """[batch, action] measured joints, 0 for the grippers, whose targets are absolute."""
    return np.where(_is_joint(actions), state[:, LAYOUT.joints], 0).astype(state.dtype)


def _is_joint(actions: int) -> np.ndarray:
    """[action] bool, False for the gripper that closes each arm's group of eight."""
    return np.arange(actions) % 8 != 7


def _state_statistics(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of [windows, state]; all positions share theirs, object slots keep the rest.

    With one frame for hands, objects and goal, their differences mean distances.
    """
    mean, scale = state.mean(0), np.maximum(state.std(0), STATE_FLOOR)
    first, last = LAYOUT.proprio, LAYOUT.proprio + LAYOUT.slots * LAYOUT.slot
    mean[first:last], scale[first:last] = 0.0, 1.0
    slots = state[:, first:last].reshape(-1, LAYOUT.slot)
    places = slots[slots[:, -1] > 0.5, :3]
    for position in LAYOUT.positions if len(places) else ():
        mean[position], scale[position] = places.mean(0), POSITION_SCALE
    return mean.astype(np.float32), scale.astype(np.float32)
