"""Recipes by name, a module each: settings of the stages, and the loss of every stage."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Protocol, cast, runtime_checkable

import jax
import numpy as np
from jax import Array

from lwd.config import COMPACT, ControlConfig, LearnerConfig, OptimiserConfig, StageConfig
from lwd.config.embodiment import EmbodimentConfig
from lwd.errors import ConfigError, unknown
from lwd.learner.loss import Loss
from lwd.learner.state import Nets, TrainState, init, optimisers, start_stage, trained
from lwd.models.inputs.format import InputFormat
from lwd.models.inputs.preparation import Preparation
from lwd.models.presets import build, input_format, prepare, sees


@runtime_checkable
class Recipe(Protocol):
    """What the module of a recipe has."""

    LOSSES: Mapping[str, Loss]
    """Loss of each stage."""

    def settings(self, control: ControlConfig, *, seed: int) -> LearnerConfig:
        """Stages and settings that are known to work."""
        ...


def names() -> list[str]:
    """All recipes there are."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def recipe(name: str, control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """Settings of the recipe `name`; ConfigError with near misses if there is none."""
    return _module(name).settings(control, seed=seed)


def suited(config: LearnerConfig, preset: str) -> LearnerConfig:
    """The same recipe on another preset. One that sees gets smaller batches, and where robots act
    while it learns, only its expert does (IV-D); `pi05`, which is fine-tuned and does not start
    from nothing, also gets the paper's rates."""
    if not sees(preset):
        return replace(config, preset=preset)

    def stage_of(stage: StageConfig) -> StageConfig:
        part = "expert" if stage.deployed else "all"
        if preset == "pi05":
            qam = replace(stage.qam, recompute="everything")
            return replace(stage, batch=64, trained=part, qam=qam, optimiser=OptimiserConfig())
        optimiser = stage.optimiser
        if optimiser.policy == "muon":  # which was measured on state vectors alone
            optimiser = replace(optimiser, policy="adamw", policy_lr=1.5e-3)
        return replace(stage, batch=32, draws=4, trained=part, optimiser=optimiser)

    stages = {name: stage_of(stage) for name, stage in config.stages.items()}
    return replace(config, preset=preset, stages=stages)


def losses(name: str) -> Mapping[str, Loss]:
    """What each stage of the recipe `name` learns by."""
    return _module(name).LOSSES


def nets(config: LearnerConfig) -> Nets:
    """The functions of the networks that a recipe trains; ConfigError where they do not fit it."""
    if sees(config.preset) and config.recipe == "recap":
        raise ConfigError(
            f"recipe recap marks instructions with words of the state presets' own tokenizer; "
            f"preset {config.preset} has another. Choose --preset state or narrow, or recipe lwd, "
            "hg_dagger or iql for a policy that sees."
        )
    _require_single_matrices(config)
    divl = next(iter(config.stages.values())).divl
    return Nets(
        *build(config.preset, config.control, atoms=divl.outputs, robot=input_format_of(config))
    )


def _require_single_matrices(config: LearnerConfig) -> None:
    """ConfigError where Muon should train a policy that sees: its layers are stacked into arrays of
    three axes and more, and optax gives all but single matrices Adam's step at Muon's rate."""
    for name, stage in config.stages.items():
        if stage.optimiser.policy == "muon" and sees(config.preset):
            raise ConfigError(
                f"{name} learns by muon, which takes single matrices, but preset {config.preset} "
                f"stacks those of its layers. Give adamw ({name}.optimiser.policy), with a rate "
                f"for it ({name}.optimiser.policy_lr)."
            )


def input_format_of(config: LearnerConfig) -> InputFormat | None:
    """How the inputs of this run's robots are made; None for a preset on state vectors, which only
    knows the simulated robot: ConfigError where the settings say another."""
    if sees(config.preset):
        return input_format(config.preset, config.control, config.embodiment)
    if config.embodiment != EmbodimentConfig():
        raise ConfigError(
            f"preset {config.preset} reads the state vector of the simulated robot; an embodiment "
            "needs one that sees: tiny, small or pi05."
        )
    return None


def preparation(config: LearnerConfig, statistics: Mapping[str, np.ndarray]) -> Preparation:
    """What makes the inputs of a policy that was trained with these statistics."""
    theirs = config.pretrained.critic_tokenizer
    return prepare(
        config.preset, config.control, statistics, robot=input_format_of(config),
        tokenizer=config.tokenizer, critic_tokenizer=theirs,
    )  # fmt: skip


def fresh(config: LearnerConfig, key: Array) -> TrainState:
    """The state before the first update of the first stage."""
    functions, chain = nets(config), optimisers(next(iter(config.stages.values())).optimiser)
    extra, inits = {}, dict.fromkeys(loss.extra for loss in losses(config.recipe).values())
    key, *keys = jax.random.split(key, 1 + len(inits))
    for begin, extra_key in zip(inits, keys, strict=True):
        extra |= begin(extra_key, functions)
    rates = [stage.optimiser.value_ema_rate for stage in config.stages.values()]
    averaged = any(rate is not None for rate in rates)
    shared = any(stage.qam.reference == "shared_vlm" for stage in config.stages.values())
    state = init(key, *functions, chain, extra, average_value=averaged, share_vlm=shared)
    return start_stage(state, chain, trained(functions.policy, next(iter(config.stages.values()))))


@cache
def shapes(config: LearnerConfig, stage: str | None = None) -> TrainState:
    """The shape and type of every array in `stage`, the first one if none is named."""
    settings = config.stage(stage or next(iter(config.stages)))

    def at_its_start() -> TrainState:
        state = fresh(config, jax.random.key(0))
        return start_stage(
            state, optimisers(settings.optimiser), trained(nets(config).policy, settings)
        )

    return jax.eval_shape(at_its_start)


def _module(name: str) -> Recipe:
    if name not in names():
        raise unknown("recipe", name, names())
    return cast(Recipe, importlib.import_module(f"{__name__}.{name}"))
