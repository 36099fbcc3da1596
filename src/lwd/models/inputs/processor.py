"""The class that stands between a robot's units and a VLA, on the learner and on the robot."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

import numpy as np

from lwd.errors import ConfigError
from lwd.models.inputs import norm_stats
from lwd.models.inputs.format import ABSOLUTE, InputFormat
from lwd.models.inputs.images import pixels, resize_with_pad
from lwd.models.inputs.norm_stats import NormStats
from lwd.models.inputs.prepared import Images, Prepared
from lwd.models.inputs.prompt import prompt
from lwd.models.inputs.tokenizers import Tokenizer, Within

log = logging.getLogger(__name__)

SHOWN = 80
"""Characters of an instruction that an error quotes."""
FAR = 2.0
"""A state beyond it, normalised by quantiles, is half a range outside of what the statistics were
made of; one sample in fifty is a little outside by definition."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """Observations to a model's inputs, actions to network units, and chunks back to targets.

    Numpy only. ConfigError names the camera, the instruction or the state that does not fit.
    """

    format: InputFormat
    tokenizer: Tokenizer
    stats: Mapping[str, NormStats]
    """Of `state` and `actions`, as `format` selects and anchors them."""
    critic_tokenizer: Tokenizer | None = None
    """On a learner, of a critic whose language model has a vocabulary of its own (IV-D: Gemma3's
    beside PaliGemma's); it reads the same prompt."""
    warned: set[str] = field(default_factory=set, compare=False)
    """What a warning was given of; each is given once."""

    def __post_init__(self) -> None:
        targets = range(len(self.format.anchors))
        wanted = {"state": self.format.state, "actions": targets}
        if missing := sorted(wanted.keys() - self.stats.keys()):
            raise ConfigError(f"norm stats lack {', '.join(missing)}; expected state and actions.")
        kept = {name: self.stats[name].of_places(at, name) for name, at in wanted.items()}
        object.__setattr__(self, "stats", kept)
        object.__setattr__(self, "tokenizer", Within(self.tokenizer, self.format.vocabulary))

    @classmethod
    def fit(
        cls,
        format: InputFormat,
        tokenizer: Tokenizer,
        state: np.ndarray,
        action: np.ndarray,
        *,
        critic_tokenizer: Tokenizer | None = None,
    ) -> "Processor":
        """Statistics of windows [windows, state] and absolute targets [windows, horizon, action] in
        robot units; ConfigError if they are of another robot."""
        wanted = 1 + max([*format.state, *format.anchors], default=ABSOLUTE)
        if state.shape[-1] < wanted or action.shape[-1] != len(format.anchors):
            raise ConfigError(
                f"the data has {state.shape[-1]} state and {action.shape[-1]} action numbers; the "
                f"inputs are made of {wanted} (or more) and {len(format.anchors)}. Say which "
                "numbers this robot has: --embodiment.state and --embodiment.anchors."
            )
        relative = relative_to(state, action, format.anchors).reshape(-1, action.shape[-1])
        read = state[:, list(format.state)].astype(np.float64)
        stats = {"state": norm_stats.of(read), "actions": norm_stats.of(relative)}
        theirs = critic_tokenizer
        return cls(format=format, tokenizer=tokenizer, stats=stats, critic_tokenizer=theirs)

    @classmethod
    def from_tensors(
        cls,
        format: InputFormat,
        tokenizer: Tokenizer,
        tensors: Mapping[str, np.ndarray],
        *,
        critic_tokenizer: Tokenizer | None = None,
    ) -> "Processor":
        """With the statistics that `tensors()` gave; IntegrityError names a missing one."""
        stats, theirs = norm_stats.from_tensors(tensors), critic_tokenizer
        return cls(format=format, tokenizer=tokenizer, stats=stats, critic_tokenizer=theirs)

    @property
    def dimensions(self) -> int:
        """Dimensions of an action in network units, zero padding included."""
        return self.format.action

    def metadata(self) -> dict[str, str]:
        """What must be the same wherever the policy is used, and how to make it so."""
        return {
            "normalisation_hash": self.sha256,
            "tokenizer_hash": self.tokenizer.sha256,
            "tokenizer": self.tokenizer.source,
            "input_hash": self.format.sha256,
            "inputs": self.format.to_json(),
        }

    @property
    def sha256(self) -> str:
        """Names the statistics; an episode records which ones its policy used."""
        return norm_stats.sha256_of(self.stats)

    def tensors(self) -> dict[str, np.ndarray]:
        """The statistics by name, for the artifact that travels to the robot."""
        return norm_stats.tensors_of(self.stats)

    def observe(self, state: np.ndarray, images: Images, instructions: Sequence[str]) -> Prepared:
        """States [batch, state] in robot units, images of any size, and instructions."""
        seen = {m: self._camera(robot, images, len(state)) for m, robot in self.format.cameras}
        unit, theirs = self.state(state), self.critic_tokenizer
        return Prepared(
            state=unit.astype(np.float32),
            tokens=self._tokens(unit, instructions, self.tokenizer),
            critic_tokens=None if theirs is None else self._tokens(unit, instructions, theirs),
            images={model: pictures for model, (pictures, _) in seen.items()},
            image_mask={model: mask for model, (_, mask) in seen.items()},
        )

    def state(self, state: np.ndarray) -> np.ndarray:
        """[batch, state] in robot units to the dimensions that the policy reads, in network units,
        float64."""
        if state.ndim != 2 or state.shape[1] <= max(self.format.state, default=-1):
            raise ConfigError(
                f"states have shape {state.shape}; expected [batch, at least "
                f"{max(self.format.state, default=-1) + 1}]."
            )
        chosen = state[:, list(self.format.state)].astype(np.float64)
        if not np.isfinite(chosen).all():
            row, column = np.argwhere(~np.isfinite(chosen))[0]
            raise ConfigError(
                f"dimension {self.format.state[column]} of the state is {chosen[row, column]}; "
                "expected a finite number. Look at that sensor."
            )
        unit = self.stats["state"].normalise(chosen, self.format.normalisation)
        self._warn_if_far(chosen, unit)
        return unit

    def action(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Robot states [batch, state] and absolute targets [batch, horizon, action] to float32
        network units, padded with zeros to the model's dimensions."""
        relative = relative_to(state, action, self.format.anchors)
        unit = self.stats["actions"].normalise(relative, self.format.normalisation)
        padding = self.format.action - unit.shape[-1]
        return np.pad(unit, ((0, 0), (0, 0), (0, padding))).astype(np.float32)

    def restore(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Inverse of `action`: network units to absolute targets, float32, without padding."""
        unit = action[..., : len(self.format.anchors)].astype(np.float64)
        relative = self.stats["actions"].restore(unit, self.format.normalisation)
        return (relative + _anchor(state, self.format.anchors)[:, None]).astype(np.float32)

    def _warn_if_far(self, state: np.ndarray, unit: np.ndarray) -> None:
        if self.format.normalisation != "quantile":
            return
        for column in np.flatnonzero((np.abs(unit) > FAR).any(axis=0)):
            dimension, stats = self.format.state[column], self.stats["state"]
            worst = state[np.abs(unit[:, column]).argmax(), column]
            self._warn(
                f"state {dimension}",
                "state outside the norm stats dimension=%d value=%.4g q01=%.4g q99=%.4g; the "
                "policy has hardly seen it: check units and calibration, or compute the norm "
                "stats of this robot",
                *(dimension, worst, stats.q01[column], stats.q99[column]),
            )

    def _warn(self, about: str, message: str, *values: Any) -> None:
        if about not in self.warned:
            self.warned.add(about)
            log.warning(message, *values)

    def _camera(self, camera: str, images: Images, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """[batch, side, side, 3] uint8, black where there is no image, and [batch] bool."""
        side = self.format.image
        pictures, mask = np.zeros((batch, side, side, 3), np.uint8), np.zeros(batch, bool)
        if not camera:
            return pictures, mask
        for row, image in enumerate(images.get(camera, [None] * batch)):
            if image is not None:
                pictures[row] = resize_with_pad(pixels(camera, image), side)
                mask[row] = True
        if not mask.all():
            there = [n for n, seen in images.items() if any(image is not None for image in seen)]
            self._missing(camera, [name for name in there if name != camera])
        return pictures, mask

    def _missing(self, camera: str, there: list[str]) -> None:
        if camera not in self.format.optional:
            raise ConfigError(
                f"camera {camera!r} gave no image; there are images of "
                f"{', '.join(sorted(there)) or 'no camera'}. The policy was trained with it: "
                "connect it, or train with a format that names it as optional."
            )
        self._warn(f"camera {camera}", "camera missing name=%s; the model sees a mask", camera)

    def _tokens(
        self, state: np.ndarray, instructions: Sequence[str], tokenizer: Tokenizer
    ) -> np.ndarray:
        """[batch, tokens] int32; without a state in the prompt, each instruction once."""
        tokens = np.zeros((len(instructions), self.format.tokens), np.int32)
        known: dict[str, list[int]] = {}
        for row, instruction in enumerate(instructions):
            found = known.get(instruction)
            if found is None:
                found = self._prompt(instruction, state[row], tokenizer)
                if self.format.state_input != "prompt":
                    known[instruction] = found
            tokens[row, : len(found)] = found
        return tokens

    def _prompt(self, instruction: str, state: np.ndarray, tokenizer: Tokenizer) -> list[int]:
        if not instruction.strip():
            raise ConfigError("the instruction is empty; say what is to be done.")
        text = prompt(instruction, state if self.format.state_input == "prompt" else None)
        found, most = tokenizer.encode(text), self.format.tokens
        if len(found) > most:
            own = len(tokenizer.encode(instruction.strip())) - 1
            raise ConfigError(
                f"instruction {shorten(instruction, SHOWN)!r} has {own} tokens, {len(found)} with "
                f"the rest of the prompt; at most {most} fit. Shorten it by at least "
                f"{len(found) - most} tokens."
            )
        if 0 in found:
            raise ConfigError(
                f"instruction {instruction!r} has characters that the tokenizer from "
                f"{tokenizer.source} does not know; say it with others."
            )
        return found


def relative_to(state: np.ndarray, action: np.ndarray, anchors: Sequence[int]) -> np.ndarray:
    """Absolute targets [batch, horizon, action] less what they are relative to in the robot states
    [batch, state], float64."""
    if action.shape[-1] != len(anchors):
        raise ConfigError(f"actions have {action.shape[-1]} dimensions; expected {len(anchors)}.")
    return action.astype(np.float64) - _anchor(state, anchors)[:, None]


def _anchor(state: np.ndarray, anchors: Sequence[int]) -> np.ndarray:
    """[batch, action] what each target is relative to, 0 where it is absolute."""
    at = np.asarray(anchors)
    return np.where(at == ABSOLUTE, 0.0, state[:, np.maximum(at, 0)].astype(np.float64))
