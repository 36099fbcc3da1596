"""A policy as it travels: tensors and metadata of one safetensors file, and back to actions."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from lwd.config import ControlConfig
from lwd.errors import IntegrityError
from lwd.models.acts import Acting, Parts, act_of, count
from lwd.models.fns import Inputs, Params
from lwd.models.inputs.format import InputFormat
from lwd.models.inputs.preparation import Preparation
from lwd.models.inputs.processor import Processor
from lwd.models.inputs.tokenizers import BUILTIN, Tokenizer, load_tokenizer
from lwd.models.normaliser import Normaliser
from lwd.models.presets import build, input_format, sees
from lwd.models.tokenizer import TOKENIZER_HASH

FLOW_STEPS = 10
"""Euler steps of a robot that samples a chunk."""


@runtime_checkable
class Sensed(Protocol):
    """The part of an observation that every policy reads; one that sees also reads `images`,
    [height, width, 3] uint8 by the robot's name of the camera."""

    @property
    def state(self) -> np.ndarray:
        """[state] float32 in the robot's units."""
        ...


def pack(
    params: Params,
    normaliser: Preparation,
    *,
    preset: str,
    control: ControlConfig,
    acting: Acting | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by path and the metadata that a robot needs to act with them: by the plain flow, or
    as `acting` says. Networks travel in bfloat16, statistics as they are. Raises ValueError unless
    `acting` has the networks and settings of its act."""
    acting = acting or Acting()
    act = act_of(acting.act)
    needed = sorted([*act.extra(*build(preset, control)), *act.settings])
    if (given := sorted([*acting.extra, *acting.settings])) != needed:
        raise ValueError(f"act {acting.act!r} got {given}; it needs {needed}.")
    nets = {"policy": params, **{f"extra/{name}": net for name, net in acting.extra.items()}}
    tensors = {name: np.asarray(leaf, jnp.bfloat16) for name, leaf in _tensors_of(nets)}
    tensors |= {f"normaliser/{name}": array for name, array in normaliser.tensors().items()}
    metadata = {
        "preset": preset,
        "rate_hz": repr(float(control.rate_hz)),
        "horizon": str(control.horizon),
        "flow_steps": str(FLOW_STEPS),
        "act": acting.act,
        **normaliser.metadata(),
    }
    return tensors, metadata | {f"act.{k}": str(v) for k, v in acting.settings.items()}


def frozen(tensors: Mapping[str, Any], trained: Callable[[str], bool]) -> list[str]:
    """Names of an artifact's tensors of the policy that are not `trained`, by their path."""
    own = "policy/"
    return [n for n in tensors if n.startswith(own) and not trained(n.removeprefix(own))]


class Unpacked(NamedTuple):
    """What an artifact holds, checked."""

    params: Params
    """Of the flow."""
    normaliser: Preparation
    acting: Acting
    flow_steps: int
    """Euler steps of a robot that samples a chunk."""


def unpack(
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    control: ControlConfig,
    *,
    tokenizer: str = "",
) -> Unpacked:
    """Inverse of `pack`; IntegrityError says which tensor, setting or hash does not fit.

    `tokenizer` is a path or URL of this machine's for weights that were trained with one of those;
    without it the one that the weights name is looked for.
    """
    _require_control(metadata, control)
    act = metadata.get("act", "flow")
    settings = {name: _setting(metadata, name, read) for name, read in act_of(act).settings.items()}
    steps = _flow_steps(metadata)
    robot = _robot(metadata, control)
    like = _shapes(metadata.get("preset", "absent"), control, act, robot)
    wanted = dict(_tensors_of(like))
    named = {name for name in tensors if not name.startswith("normaliser/")}
    if strange := sorted(named - wanted.keys()):
        raise IntegrityError(f"weights have tensor {strange[0]!r}, which act {act!r} does not use.")
    leaves = [_tensor(tensors, name, leaf) for name, leaf in wanted.items()]
    nets = jax.tree.unflatten(jax.tree.structure(like), leaves)
    statistics = {
        name.removeprefix("normaliser/"): t for name, t in tensors.items() if "normaliser" in name
    }
    normaliser = _preparation(statistics, metadata, robot, tokenizer)
    if normaliser.sha256 != metadata.get("normalisation_hash"):
        raise IntegrityError("normalisation statistics differ from the hash in the metadata.")
    params = nets.pop("policy")
    extra = {name.removeprefix("extra/"): net for name, net in nets.items()}
    return Unpacked(params, normaliser, Acting(act=act, extra=extra, settings=settings), steps)


def control_of(metadata: Mapping[str, str]) -> ControlConfig:
    """How often a policy acts and how long its chunks are; IntegrityError if its weights do not
    say."""
    try:
        rate_hz, horizon = float(metadata["rate_hz"]), int(metadata["horizon"])
        return ControlConfig(rate_hz=rate_hz, horizon=horizon)
    except (KeyError, ValueError) as error:
        raise IntegrityError(
            f"weights do not say for which rate and horizon they are: {error}. Publish them again."
        ) from error


def expected_shapes(
    preset: str, control: ControlConfig, act: str = "flow"
) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the networks of `preset` and `act`, by its name in the artifact."""
    named = _tensors_of(_shapes(preset, control, act))
    return {name: tuple(leaf.shape) for name, leaf in named}


class FlowPolicy:
    """Acts with one published version: state and instruction to a chunk of joint targets."""

    def __init__(
        self,
        tensors: Mapping[str, np.ndarray],
        metadata: Mapping[str, str],
        version: int,
        *,
        control: ControlConfig,
        tokenizer: str = "",
    ) -> None:
        """`tokenizer` as for `unpack`."""
        self.version = version
        self.params, self.normaliser, acting, steps = unpack(
            tensors, metadata, control, tokenizer=tokenizer
        )
        self.normalisation_hash = metadata["normalisation_hash"]
        self.tokenizer_hash = metadata["tokenizer_hash"]
        self.act, self.extra = acting.act, acting.extra
        settings = tuple(sorted(acting.settings.items()))
        self._draws = act_of(self.act).draws(acting.settings)
        robot = _robot(metadata, control)
        self._sample = _sampler(metadata["preset"], control, steps, self.act, settings, robot)
        self._horizon = control.horizon
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Start the noise of an episode, so that policies can be compared on the same draws."""
        self._rng = np.random.default_rng(seed)

    def chunk(self, observation: Sensed, instruction: str) -> np.ndarray:
        """[horizon, action] float32 absolute targets."""
        return self.chunks([observation], [instruction], [self._rng])[0]

    def chunks(
        self,
        observations: Sequence[Sensed],
        instructions: Sequence[str],
        rngs: Sequence[np.random.Generator],
    ) -> np.ndarray:
        """[robots, horizon, action] float32 absolute targets, each with its own draws."""
        state = np.stack([seen.state for seen in observations])
        seen_by = [getattr(seen, "images", {}) for seen in observations]
        cameras = sorted(set().union(*seen_by))
        images = {camera: [seen.get(camera) for seen in seen_by] for camera in cameras}
        prepared = self.normaliser.observe(state, images, instructions)
        inputs = Inputs(*jax.tree.map(jnp.asarray, prepared))
        shape = (self._draws, self._horizon, self.normaliser.dimensions)
        noise = np.stack([rng.standard_normal(shape, np.float32) for rng in rngs], axis=1)
        chunk = np.asarray(self._sample(self.params, self.extra, inputs, noise))
        return self.normaliser.restore(state, chunk)


@cache
def _sampler(
    preset: str,
    control: ControlConfig,
    steps: int,
    act: str,
    settings: tuple[tuple[str, Any], ...],
    robot: InputFormat | None,
):
    """Jitted (params, extra, inputs, noise) to normalised actions, compiled once per process."""
    policy, critic = build(preset, control, robot=robot)

    @jax.jit
    def sample(
        params: Params, extra: Mapping[str, Params], inputs: Inputs, noise: jax.Array
    ) -> jax.Array:
        parts = Parts(
            policy=policy, critic=critic, params=params, extra=extra, inputs=inputs, steps=steps
        )
        return act_of(act).sample(parts, noise, dict(settings))

    return sample


def _robot(metadata: Mapping[str, str], control: ControlConfig) -> InputFormat | None:
    """How the inputs of weights that see are made, on whatever robot."""
    preset = metadata.get("preset", "absent")
    if not sees(preset):
        return None
    found = InputFormat.from_json(metadata.get("inputs", ""))
    _require_same(metadata, "input_hash", found.sha256)
    _require_sizes(found, input_format(preset, control), preset)
    return found


def _shapes(
    preset: str, control: ControlConfig, act: str, robot: InputFormat | None = None
) -> dict[str, Params]:
    """Shapes of all networks of an artifact, by the path of their tensors."""
    policy, critic = build(preset, control, robot=robot)
    inits = {f"extra/{name}": init for name, init in act_of(act).extra(policy, critic).items()}
    key = jax.random.key(0)
    return {name: jax.eval_shape(f, key) for name, f in ({"policy": policy.init} | inits).items()}


def _preparation(
    statistics: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    robot: InputFormat | None,
    tokenizer: str,
) -> Preparation:
    """What makes the inputs of these weights, the same as where they were trained."""
    if robot is None:
        _require_same(metadata, "tokenizer_hash", TOKENIZER_HASH)
        return Normaliser.from_tensors(statistics)
    return Processor.from_tensors(robot, _tokenizer(metadata, tokenizer), statistics)


def _tokenizer(metadata: Mapping[str, str], tokenizer: str) -> Tokenizer:
    theirs = metadata.get("tokenizer", BUILTIN)
    found = load_tokenizer(tokenizer or theirs)
    if found.sha256 != metadata.get("tokenizer_hash"):
        raise IntegrityError(
            f"weights have tokenizer_hash {metadata.get('tokenizer_hash')!r} (from {theirs}), here "
            f"it is {found.sha256!r} (from {found.source}). Give --tokenizer the file that "
            "they were trained with."
        )
    return found


def _require_same(metadata: Mapping[str, str], name: str, here: str) -> None:
    if metadata.get(name) != here:
        raise IntegrityError(f"weights have {name} {metadata.get(name)!r}, here it is {here!r}.")


def _require_control(metadata: Mapping[str, str], control: ControlConfig) -> None:
    theirs = control_of(metadata)
    for name in ("horizon", "rate_hz"):
        given, here = getattr(theirs, name), getattr(control, name)
        if given != here:
            raise IntegrityError(
                f"weights have {name} {given}, here it is {here}: a robot acts as its policy was "
                "trained to. See --control.rate-hz and --control.horizon of `lwd learner`, --rate "
                "of `lwd robot`."
            )


def _require_sizes(given: InputFormat, model: InputFormat, preset: str) -> None:
    """IntegrityError unless inputs of a format fit a model."""
    names = ("image", "tokens", "vocabulary", "state_input")
    for name in (*names, "action") if model.state_input == "prompt" else names:
        # A model can always do without a state.
        if getattr(given, name) not in (getattr(model, name), "none"):
            raise IntegrityError(
                f"weights have inputs with {name} {getattr(given, name)}, but preset {preset!r} "
                f"takes {getattr(model, name)}."
            )
    seen = [[camera for camera, _ in each.cameras] for each in (given, model)]
    if seen[0] != seen[1]:
        raise IntegrityError(f"weights see {seen[0]}, but preset {preset!r} sees {seen[1]}.")


def _setting(metadata: Mapping[str, str], name: str, read: Callable[[str], Any]) -> Any:
    """A setting of the act, read from text."""
    try:
        return read(metadata[f"act.{name}"])
    except (KeyError, ValueError) as error:
        raise IntegrityError(
            f"weights act by {metadata['act']!r}, but their act.{name} does not fit: {error}."
        ) from error


def _flow_steps(metadata: Mapping[str, str]) -> int:
    try:
        return count(metadata["flow_steps"])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"weights have flow_steps that do not fit: {error}.") from error


def _tensors_of(tree: Params) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _tensor(tensors: Mapping[str, np.ndarray], name: str, like: jax.ShapeDtypeStruct) -> jax.Array:
    if name not in tensors:
        raise IntegrityError(f"weights lack tensor {name!r} of shape {like.shape}.")
    given = tensors[name].shape
    if given != like.shape:
        raise IntegrityError(f"tensor {name!r} has shape {given}, expected {like.shape}.")
    return jnp.asarray(tensors[name], like.dtype)
