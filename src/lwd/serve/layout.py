"""Where an observation's parts are among the keys that a robot sends, which differ by its make."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lwd.actor.robot import Observation
from lwd.errors import ConfigError, unknown
from lwd.models.inputs.format import InputFormat
from lwd.serve.wire import RequestError

LARGEST_SIDE = 2048
"""Pixels."""
LONGEST_PROMPT = 1000
"""Characters, as in an episode."""
NESTING = 4


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Keys of one make of robot; a nested key is written with slashes."""

    state: tuple[str, ...]
    """Vectors that are joined to the state, in this order."""
    images: Mapping[str, str]
    """Camera to the key of its image; empty takes every key under `observation/images/`."""
    sizes: tuple[int, ...] = ()
    """Numbers of each of these vectors, where there are several."""
    prompt: str = "prompt"
    channels_first: bool = False
    """Images are [3, height, width] instead of [height, width, 3]."""


LWD = Layout(state=("observation/state",), images={})
LAYOUTS: dict[str, Layout] = {
    "lwd": LWD,
    "libero": Layout(
        state=("observation/state",),
        images={
            "base_0_rgb": "observation/image",
            "left_wrist_0_rgb": "observation/wrist_image",
        },
    ),
    "droid": Layout(
        state=("observation/joint_position", "observation/gripper_position"),
        images={
            "base_0_rgb": "observation/exterior_image_1_left",
            "left_wrist_0_rgb": "observation/wrist_image_left",
        },
        sizes=(7, 1),
    ),
    "aloha": Layout(
        state=("state",),
        images={
            "base_0_rgb": "images/cam_high",
            "left_wrist_0_rgb": "images/cam_left_wrist",
            "right_wrist_0_rgb": "images/cam_right_wrist",
        },
        channels_first=True,
    ),
}
"""By name: ours, and the three that openpi's examples send."""
OURS = "observation/images/"
SIMULATED = {
    "base_0_rgb": "head",
    "left_wrist_0_rgb": "left_wrist",
    "right_wrist_0_rgb": "right_wrist",
}
"""Cameras of the simulated robot in the places of the model's."""


def layout(name: str) -> Layout:
    """Layout by name; ConfigError with all there are."""
    if name not in LAYOUTS:
        raise unknown("layout", name, LAYOUTS)
    return LAYOUTS[name]


def fitted(name: str, inputs: InputFormat | None) -> Layout:
    """Layout by name, whose images have the names of the cameras that a policy was trained with:
    openpi's layouts say for which of the model's cameras a key is.

    ConfigError if robots of this make lack a camera that the policy needs.
    """
    by = layout(name)
    if inputs is None or not by.images:
        return by
    named = [(model, robot) for model, robot in inputs.cameras if robot]
    for model, robot in named:
        if model not in by.images and robot not in inputs.optional:
            raise ConfigError(
                f"the policy sees with camera {robot!r} as {model}, but robots of layout {name} "
                f"have only {', '.join(by.images)}. Choose another --layout."
            )
    images = {robot: by.images[model] for model, robot in named if model in by.images}
    return replace(by, images=images)


def sent(
    by: Layout, observation: Observation, instruction: str, *, sizes: tuple[int, ...] = ()
) -> dict[str, Any]:
    """The message that a robot of this make sends; `sizes` splits the state over its keys where it
    is another robot's.

    A camera is known by the name of the model's, by the last part of its key (`cam_high`), or as
    the simulated robot's. ConfigError if the state has another size or a camera is missing.
    """
    state = np.asarray(observation.state, np.float32)
    sizes = sizes or by.sizes or (len(state),)
    if sum(sizes) != len(state) or len(sizes) != len(by.state):
        raise ConfigError(
            f"the robot's state has {len(state)} numbers; the layout takes "
            f"{' + '.join(map(str, sizes))} under {', '.join(by.state)}. Choose another --layout."
        )
    message: dict[str, Any] = {by.prompt: instruction}
    parts = np.split(state, np.cumsum(sizes)[:-1])
    for key, part in zip(by.state, parts, strict=True):
        message[key] = part
    cameras = by.images or {name: OURS + name for name in observation.images}
    for camera, key in cameras.items():
        image = np.ascontiguousarray(observation.images[_own(observation, camera, key)])
        image = np.ascontiguousarray(image.transpose(2, 0, 1)) if by.channels_first else image
        _put(message, key, image)
    return message


def received(
    by: Layout, message: Mapping[str, Any], *, prompt: str = ""
) -> tuple[Observation, str]:
    """Observation and instruction of a robot's message; `prompt` stands in where it has none.

    RequestError names the key, what it holds and what was expected.
    """
    flat = _flat(message)
    state = np.concatenate([_vector(flat, key) for key in by.state])
    images = {
        camera: _image(flat, key, channels_first=by.channels_first)
        for camera, key in (by.images or _ours(flat)).items()
    }
    instruction = flat.get(by.prompt, prompt)
    if not isinstance(instruction, str) or not 0 < len(instruction) <= LONGEST_PROMPT:
        raise RequestError(
            f"key {by.prompt!r} is {_said(instruction)}; expected a text of up to "
            f"{LONGEST_PROMPT} characters."
        )
    return Observation(state=state, images=images), instruction


def _own(observation: Observation, camera: str, key: str) -> str:
    """The robot's own name of a camera of the layout."""
    names = dict.fromkeys((camera, key.rpartition("/")[2], SIMULATED.get(camera, camera)))
    for name in names:
        if name in observation.images:
            return name
    have = ", ".join(observation.images) or "of which it has none"
    raise ConfigError(
        f"{key!r} is sent none of the robot's cameras, {have}: name it one of {', '.join(names)}, "
        "or choose another --layout. A simulated robot is given them by --cameras."
    )


def _put(message: dict[str, Any], key: str, value: np.ndarray) -> None:
    """Nested where openpi's client nests: `images/cam_high`, but not `observation/image`."""
    folder, slash, name = key.partition("/")
    if slash and folder != "observation":
        message.setdefault(folder, {})[name] = value
    else:
        message[key] = value


def _flat(message: Mapping[str, Any], at: str = "", depth: int = 0) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in message.items():
        key = f"{at}{name}"
        if isinstance(value, Mapping) and depth < NESTING:
            flat |= _flat(value, f"{key}/", depth + 1)
        else:
            flat[key] = value
    return flat


def _ours(flat: Mapping[str, Any]) -> dict[str, str]:
    return {key.removeprefix(OURS): key for key in flat if key.startswith(OURS)}


def _found(flat: Mapping[str, Any], key: str, wanted: str) -> Any:
    if key not in flat:
        held = ", ".join(sorted(flat)) or "none"
        raise RequestError(f"key {key!r} is missing; expected {wanted}. Sent were: {held:.400}.")
    return flat[key]


def _vector(flat: Mapping[str, Any], key: str) -> np.ndarray:
    wanted = "a vector of finite numbers"
    value = _found(flat, key, wanted)
    try:
        vector = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        vector = np.zeros((0, 0), np.float32)
    if vector.ndim == 0:
        vector = vector[None]
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise RequestError(f"key {key!r} is {_said(value)}; expected {wanted}.")
    return vector


def _image(flat: Mapping[str, Any], key: str, *, channels_first: bool) -> np.ndarray:
    shape = "[3, height, width]" if channels_first else "[height, width, 3]"
    wanted = f"uint8 {shape} of up to {LARGEST_SIDE} pixels a side"
    image = _found(flat, key, wanted)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
        image = image.transpose(1, 2, 0) if channels_first else image
        if image.shape[2] == 3 and all(0 < side <= LARGEST_SIDE for side in image.shape[:2]):
            return image
    raise RequestError(f"key {key!r} is {_said(flat[key])}; expected {wanted}.")


def _said(value: Any) -> str:
    if isinstance(value, np.ndarray):
        finite = bool(np.isfinite(value).all()) if value.dtype.kind == "f" else True
        return f"{value.dtype} {list(value.shape)}{'' if finite else ' with numbers not finite'}"
    return repr(value)[:80]
