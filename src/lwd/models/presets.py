"""Policy and critic by name: a network on state vectors, and three sizes of the one that sees."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from lwd.config import ControlConfig, StateLayout
from lwd.config.embodiment import EmbodimentConfig
from lwd.errors import ConfigError, unknown
from lwd.models import state, vla
from lwd.models.fns import CriticFns, PolicyFns
from lwd.models.gemma import GemmaConfig
from lwd.models.gemma3 import Gemma3Config
from lwd.models.inputs.format import ABSOLUTE, InputFormat
from lwd.models.inputs.norm_stats import read_norm_stats
from lwd.models.inputs.preparation import Preparation
from lwd.models.inputs.processor import Processor
from lwd.models.inputs.review import review
from lwd.models.inputs.tokenizers import BUILTIN, Within, load_tokenizer
from lwd.models.normaliser import Normaliser
from lwd.models.pi05 import CAMERAS, Pi05Config
from lwd.models.siglip import SiglipConfig
from lwd.models.vlm_critic import VlmCriticConfig

log = logging.getLogger(__name__)

ACTION = 16
"""Action dimensions: 2 x (7 joint targets, gripper opening)."""
ROBOT_CAMERAS = ("head", "left_wrist", "right_wrist")
"""Names of the simulated robot's cameras, in the order of the model's."""
LAYOUT = StateLayout()
SIMULATED = EmbodimentConfig()
ANCHORS = tuple(ABSOLUTE if n % 8 == 7 else at for n, at in enumerate(LAYOUT.joints))
"""Joint targets are relative to the joints, gripper openings absolute."""


@dataclass(frozen=True, kw_only=True)
class Vla:
    """A preset that sees: sizes of its networks, and how their inputs are made."""

    policy: Pi05Config
    critic: VlmCriticConfig
    inputs: InputFormat


def tiny(horizon: int, atoms: int) -> Vla:
    """A third of a million parameters, for tests: learns in minutes, sees little."""
    blocks = GemmaConfig(width=64, depth=2, mlp=128, heads=4, kv_heads=1, head_dim=16)
    text = _text(width=64, depth=2, mlp=128)
    vision = SiglipConfig(width=64, depth=1, mlp=128, heads=4, patch=16, image=64)
    return _on_a_cpu(blocks, blocks, text, vision, horizon=horizon, atoms=atoms)


def small(horizon: int, atoms: int) -> Vla:
    """A million parameters, for a demonstration on a laptop."""
    blocks = GemmaConfig(width=96, depth=3, mlp=192, heads=4, kv_heads=1, head_dim=24)
    expert = GemmaConfig(width=64, depth=3, mlp=128, heads=4, kv_heads=1, head_dim=24)
    text = _text(width=96, depth=3, mlp=192)
    vision = SiglipConfig(width=96, depth=2, mlp=192, heads=4, patch=16, image=64)
    return _on_a_cpu(blocks, expert, text, vision, horizon=horizon, atoms=atoms)


def pi05(horizon: int, atoms: int) -> Vla:
    """The released pi0.5, and a critic of Gemma3-270M and SigLIP-So400m (IV-D)."""
    policy = Pi05Config(horizon=horizon, remat=True)
    return Vla(
        policy=policy,
        critic=VlmCriticConfig(horizon=horizon, action=ACTION, atoms=atoms, remat=True),
        inputs=_inputs(policy, read=tuple(LAYOUT.joints)),
    )


VLA: dict[str, Callable[[int, int], Vla]] = {"tiny": tiny, "small": small, "pi05": pi05}
WIDTHS = {"state": 256, "narrow": 32}
"""Width of the layers of the presets on state vectors. `narrow` learns little: it is for tests and
a look at a whole run."""
PRESETS = (*WIDTHS, *VLA)


def build(
    name: str, control: ControlConfig, *, atoms: int = 201, robot: InputFormat | None = None
) -> tuple[PolicyFns, CriticFns]:
    """Functions of preset `name` for chunks of `control.horizon`; ConfigError for another name.

    `robot` is how the inputs of another robot than the simulated one are made. The same functions
    for the same arguments, so that what is compiled of them can be shared.
    """
    if robot is not None and sees(name) and robot == input_format(name, control):
        robot = None
    return _built(name, control, atoms, robot)


@cache
def _built(
    name: str, control: ControlConfig, atoms: int, robot: InputFormat | None
) -> tuple[PolicyFns, CriticFns]:
    if sees(name):
        vla_sizes = sized(name, control, atoms=atoms, robot=robot)
        return vla.policy(vla_sizes.policy), vla.critic(vla_sizes.critic)
    sizes = {"horizon": control.horizon, "action": ACTION}
    return (
        state.policy(LAYOUT, width=WIDTHS[name], **sizes),
        state.critic(LAYOUT, width=WIDTHS[name], atoms=atoms, **sizes),
    )


def sized(
    name: str, control: ControlConfig, *, atoms: int = 2, robot: InputFormat | None = None
) -> Vla:
    """Sizes of a preset that sees; those that depend on the robot are the ones of `robot`."""
    made = VLA[name](control.horizon, atoms)
    if robot is None:
        return made
    state = len(robot.state) if robot.state_input == "token" else 0
    return Vla(
        policy=replace(made.policy, state=state, action=robot.action),
        critic=replace(made.critic, state=state, action=len(robot.anchors)),
        inputs=robot,
    )


def sees(name: str) -> bool:
    """Whether preset `name` reads images; ConfigError for another name."""
    if name not in PRESETS:
        raise unknown("model preset", name, PRESETS)
    return name in VLA


def cameras(
    name: str, control: ControlConfig, embodiment: EmbodimentConfig = SIMULATED
) -> tuple[str, ...]:
    """Cameras of the robot that preset `name` sees with; none for one on state vectors."""
    if not sees(name):
        return ()
    return tuple(robot for _, robot in input_format(name, control, embodiment).cameras if robot)


def fit(
    name: str,
    control: ControlConfig,
    states: np.ndarray,
    actions: np.ndarray,
    *,
    robot: InputFormat | None = None,
    tokenizer: str = BUILTIN,
    critic_tokenizer: str = "",
) -> Preparation:
    """What makes the inputs of preset `name`, with the statistics of windows [windows, state] and
    absolute targets [windows, horizon, action] in robot units.

    `robot` is how the inputs of another robot than the simulated one are made. Tokenizers by path
    or URL; without one of its own, the critic reads the policy's tokens.
    """
    if not sees(name):
        return Normaliser.fit(states, actions)
    ours, theirs = load_tokenizer(tokenizer), _of_critic(name, critic_tokenizer)
    format_ = robot or input_format(name, control)
    return Processor.fit(format_, ours, states, actions, critic_tokenizer=theirs)


def prepare(
    name: str,
    control: ControlConfig,
    statistics: Mapping[str, np.ndarray],
    *,
    robot: InputFormat | None = None,
    tokenizer: str = BUILTIN,
    critic_tokenizer: str = "",
) -> Preparation:
    """The same with statistics that `tensors()` gave; IntegrityError names a missing one."""
    if not sees(name):
        return Normaliser.from_tensors(statistics)
    ours, theirs = load_tokenizer(tokenizer), _of_critic(name, critic_tokenizer)
    format_ = robot or input_format(name, control)
    return Processor.from_tensors(format_, ours, statistics, critic_tokenizer=theirs)


def prepare_as(
    name: str,
    control: ControlConfig,
    norm_stats: Path,
    *,
    robot: InputFormat | None = None,
    tokenizer: str = BUILTIN,
    critic_tokenizer: str = "",
) -> Preparation:
    """The same with the norm_stats.json that a pretrained policy came with, whatever is odd about
    it in the log; IntegrityError if it is none, ConfigError if it is of another robot or of chunks
    of another length."""
    format_ = robot or input_format(name, control)
    stats = read_norm_stats(norm_stats, format_.state, control.horizon)
    place = {at: n for n, at in enumerate(format_.state)}
    made = Processor(
        format=format_,
        tokenizer=load_tokenizer(tokenizer),
        stats=stats,
        critic_tokenizer=_of_critic(name, critic_tokenizer),
    )
    for found in review(made.stats, anchored=[place.get(at, ABSOLUTE) for at in format_.anchors]):
        at = found.quantity if found.dimension is None else f"{found.quantity} {found.dimension}"
        log.warning("norm stats file=%s %s: %s: %s", norm_stats, found.kind, at, found.message)
    return made


def input_format(
    name: str, control: ControlConfig, embodiment: EmbodimentConfig = SIMULATED
) -> InputFormat:
    """How the inputs of a preset that sees are made on a robot; ConfigError if it is none of those
    presets, it reads the state in another way, or the robot has not the cameras of the model."""
    if name not in VLA:
        raise unknown("preset that sees", name, VLA)
    model = VLA[name](control.horizon, 2).inputs
    asked, usual = embodiment.state_input, model.state_input
    if asked not in ("preset", usual, "none"):
        raise ConfigError(
            f"state_input is {asked!r}, but preset {name!r} takes {usual!r} or 'none'; give one of "
            "these, or another preset."
        )
    if asked == "none":
        model = replace(model, state_input=asked)
    if embodiment.normalisation != "preset":
        model = replace(model, normalisation=embodiment.normalisation)
    if embodiment.simulated:
        return model
    if len(embodiment.cameras) != len(CAMERAS):
        raise ConfigError(
            f"the embodiment has cameras {list(embodiment.cameras)}; name one for each of "
            f'{", ".join(CAMERAS)}, in this order, and "" where the robot has none.'
        )
    return replace(
        model,
        cameras=tuple(zip(CAMERAS, embodiment.cameras, strict=True)),
        state=embodiment.state,
        anchors=embodiment.anchors,
        action=model.action if usual == "prompt" else len(embodiment.anchors),
        optional=embodiment.optional,
    )


def check_words(
    name: str, robot: InputFormat, *, tokenizer: str = BUILTIN, critic_tokenizer: str = ""
) -> None:
    """ConfigError unless the tokenizers are there and fit a preset that sees: worth knowing before
    its networks are made."""
    Within(load_tokenizer(tokenizer), robot.vocabulary)
    _of_critic(name, critic_tokenizer)


def _of_critic(name: str, source: str) -> Within | None:
    """Tokenizer of a critic with a vocabulary of its own; ConfigError if that is too small."""
    if not source:
        return None
    return Within(load_tokenizer(source), VLA[name](1, 2).critic.text.vocabulary)


def _on_a_cpu(
    blocks: GemmaConfig,
    expert: GemmaConfig,
    text: Gemma3Config,
    vision: SiglipConfig,
    *,
    horizon: int,
    atoms: int,
) -> Vla:
    """Float32, unrolled, the state as one token and the vocabulary of the built-in tokenizer."""
    policy = Pi05Config(
        vlm=blocks, expert=expert, vision=vision, vocabulary=text.vocabulary, tokens=32,
        horizon=horizon, action=ACTION, state=LAYOUT.proprio, bfloat16=False, unroll=True,
    )  # fmt: skip
    critic = VlmCriticConfig(
        text=text, vision=vision, state=LAYOUT.proprio, pooled=2, atoms=atoms, horizon=horizon,
        action=ACTION, bfloat16=False, unroll=True,
    )  # fmt: skip
    return Vla(policy=policy, critic=critic, inputs=_inputs(policy, range(LAYOUT.proprio)))


def _text(*, width: int, depth: int, mlp: int) -> Gemma3Config:
    head = width // 4
    return Gemma3Config(
        width=width, depth=depth, mlp=mlp, heads=4, head_dim=head, query_scale=float(head),
        vocabulary=1024, causal=False,
    )  # fmt: skip


def _inputs(policy: Pi05Config, read: "tuple[int, ...] | range") -> InputFormat:
    return InputFormat(
        cameras=tuple(zip(CAMERAS, ROBOT_CAMERAS, strict=True)),
        image=policy.vision.image,
        tokens=policy.tokens,
        vocabulary=policy.vocabulary,
        state=tuple(read),
        anchors=ANCHORS,
        action=policy.action,
        state_input="token" if policy.state else "prompt",
    )
