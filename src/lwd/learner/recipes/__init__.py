"""Recipes by name, a module each: settings of the stages, and the loss of every stage."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Protocol, cast, runtime_checkable

import jax
from jax import Array

from lwd.config import COMPACT, ControlConfig, LearnerConfig
from lwd.errors import unknown
from lwd.learner.loss import Loss
from lwd.learner.state import Nets, TrainState, init, optimisers
from lwd.models.presets import build


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


def losses(name: str) -> Mapping[str, Loss]:
    """What each stage of the recipe `name` learns by."""
    return _module(name).LOSSES


def nets(config: LearnerConfig) -> Nets:
    """The functions of the networks that a recipe trains."""
    divl = next(iter(config.stages.values())).divl
    return Nets(*build(config.preset, config.control, atoms=divl.outputs))


def fresh(config: LearnerConfig, key: Array) -> TrainState:
    """The state before the first update; every checkpoint of the recipe has its shapes."""
    functions, chain = nets(config), optimisers(next(iter(config.stages.values())).optimiser)
    extra, inits = {}, dict.fromkeys(loss.extra for loss in losses(config.recipe).values())
    for number, begin in enumerate(inits, start=1):
        extra |= begin(jax.random.fold_in(key, number), functions)
    rates = [stage.optimiser.value_ema_rate for stage in config.stages.values()]
    averaged = any(rate is not None for rate in rates)
    return init(key, *functions, chain, extra, average_value=averaged)


@cache
def shapes(config: LearnerConfig) -> TrainState:
    """`fresh` without its numbers: the shape and type of every array."""
    return jax.eval_shape(lambda: fresh(config, jax.random.key(0)))


def _module(name: str) -> Recipe:
    if name not in names():
        raise unknown("recipe", name, names())
    return cast(Recipe, importlib.import_module(f"{__name__}.{name}"))
