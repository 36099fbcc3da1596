"""How a policy's inputs are made; a checkpoint is trained with one way and works with no other."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from lwd.config.embodiment import Normalisation, StateInput
from lwd.config.require import require_as_declared
from lwd.errors import ConfigError, IntegrityError
from lwd.models.inputs.prompt import BINS, TEMPLATE, TEMPLATE_WITHOUT_STATE

ABSOLUTE = -1
"""Anchor of an action dimension that is relative to nothing."""
RESIZE = "bilinear, antialiased, centred on black"


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """Sizes and names of a policy's inputs and actions."""

    cameras: tuple[tuple[str, str], ...]
    """(camera of the model, camera of the robot) in the model's order; "" where the robot has
    none: the model sees black and a mask."""
    image: int
    """Side of an image in px."""
    tokens: int
    """Longest prompt."""
    vocabulary: int
    """Token ids that the model has embeddings of."""
    state: tuple[int, ...]
    """Which dimensions of the robot's state the policy reads."""
    anchors: tuple[int, ...]
    """For each action dimension the dimension of the robot's state that its targets are relative
    to, or -1 for absolute targets."""
    action: int
    """Dimensions of an action as the model has them, zero padding included."""
    state_input: StateInput = "prompt"
    """How the policy reads the state: in the prompt (pi0.5), as a token, or not at all."""
    normalisation: Normalisation = "quantile"
    """By quantiles (pi0.5), or mean and standard deviation (pi0)."""
    optional: tuple[str, ...] = ()
    """Cameras of the robot that an observation may lack."""

    def __post_init__(self) -> None:
        require_as_declared(self)
        if len(self.anchors) > self.action:
            raise ConfigError(
                f"the robot has {len(self.anchors)} action dimensions, the model {self.action}; "
                "choose a model with at least as many."
            )
        named = [robot for _, robot in self.cameras if robot]
        if strange := sorted(set(self.optional) - set(named)):
            raise ConfigError(f"optional camera {strange[0]!r} is none of {', '.join(named)}.")

    @property
    def relative(self) -> bool:
        """Whether any action dimension is relative to the state."""
        return any(anchor != ABSOLUTE for anchor in self.anchors)

    @property
    def sha256(self) -> str:
        """Names this format, prompt and resizing included."""
        text = [TEMPLATE, TEMPLATE_WITHOUT_STATE, BINS, RESIZE]
        whole = json.dumps([self._written(), *text], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def to_json(self) -> str:
        """For the metadata of an artifact."""
        return json.dumps(self._written(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "InputFormat":
        """Inverse of `to_json`; IntegrityError if it is none."""
        try:
            values: dict[str, Any] = json.loads(text)
            if (discrete := values.pop("discrete_state", None)) is not None:
                values["state_input"] = "prompt" if discrete else "token"
            if strange := sorted(values.keys() - {f.name for f in fields(cls)}):
                raise ValueError(f"unknown field {strange[0]!r}")
            values["cameras"] = tuple((model, robot) for model, robot in values["cameras"])
            for name in ("state", "anchors", "optional"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"the input format cannot be read: {error!r}.") from error

    def _written(self) -> dict[str, Any]:
        """Fields as published weights and their hashes have them: `discrete_state` is yes for a
        state in the prompt and no for a token."""
        values = asdict(self)
        if self.state_input != "none":
            values["discrete_state"] = values.pop("state_input") == "prompt"
        return values
